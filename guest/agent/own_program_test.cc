// The agent's own programs: tar streams both ways, and the table of processes. GNU tar is the other
// side where one is needed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "agent/testing/agent_client.h"
#include "common/tar_format.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;
using agent::ErrorKind;
using agent::ExecRequest;
using testing::AgentProcess;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Outcome;

class OwnProgram : public ::testing::Test {
 protected:
  OwnProgram() { folder_ = ::mkdtemp(template_.data()); }
  ~OwnProgram() override { fs::remove_all(folder_); }

  Outcome run(std::vector<std::string> argv, std::string_view input = {}) {
    ExecRequest request;
    request.own_program = true;
    request.keep_stdin = true;
    request.argv = std::move(argv);
    return agent_.run(request, input);
  }
  std::string pack(const std::string& folder, const std::string& name) {
    const Outcome outcome = run({"pack", folder, name});
    EXPECT_EQ(outcome.err, "");
    EXPECT_TRUE(outcome.exit && outcome.exit->value == 0);
    return outcome.out;
  }
  // Gives what is complained of.
  std::string unpack(const std::string& tar, std::uint32_t status = 0) {
    fs::create_directories(folder_ + "/to");
    const Outcome outcome = run({"unpack", folder_ + "/to"}, tar);
    EXPECT_TRUE(outcome.exit && outcome.exit->value == status) << outcome.err;
    return outcome.err;
  }
  static void shell(const std::string& script) { ASSERT_EQ(std::system(script.c_str()), 0); }
  std::string make_tar(const std::string& options) {
    shell("cd " + folder_ + " && tar " + options + " -cf made.tar from");
    return read(folder_ + "/made.tar");
  }
  static std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  // A tree with what may be in one.
  void make_tree() {
    write("from/a", "A\n");
    write("from/empty", "");
    write("from/sub/big", std::string(300'000, 'b'));
    write("from/" + std::string(150, 'n') + "/" + std::string(200, 'm'), "long");
    fs::create_directories(folder_ + "/from/none");
    fs::create_symlink("sub/big", folder_ + "/from/link");
    fs::create_symlink(std::string(300, 'l'), folder_ + "/from/far");
    fs::create_hard_link(folder_ + "/from/a", folder_ + "/from/sub/same");
    ::chmod((folder_ + "/from/a").c_str(), 04751);
    shell("touch -d @1000000000 " + folder_ + "/from/a " + folder_ + "/from/sub");
  }
  void expect_same() {
    shell("cd " + folder_ + " && diff -r --no-dereference from to/from");
    struct stat a {
    }, same{}, sub{};
    ASSERT_EQ(::stat((folder_ + "/to/from/a").c_str(), &a), 0);
    ASSERT_EQ(::stat((folder_ + "/to/from/sub/same").c_str(), &same), 0);
    ASSERT_EQ(::stat((folder_ + "/to/from/sub").c_str(), &sub), 0);
    EXPECT_EQ(a.st_ino, same.st_ino);
    EXPECT_EQ(a.st_mode & 07777, 04751u);
    EXPECT_EQ(a.st_mtime, 1000000000);
    EXPECT_EQ(sub.st_mtime, 1000000000);
  }
  static std::string entry(TarHeader header, const std::string& data = {}) {
    header.size = data.size();
    header.mode = 0755;
    std::string out = encode_tar_header(header) + data;
    out.resize((out.size() + kTarBlock - 1) / kTarBlock * kTarBlock);
    return out;
  }

  std::array<char, 32> template_{"/tmp/sm-own-XXXXXX"};
  std::string folder_;
  AgentProcess agent_;
};

TEST_F(OwnProgram, WhatIsPackedComesBack) {
  make_tree();
  EXPECT_EQ(unpack(pack(folder_, "from")), "");
  expect_same();
  // Over what is there.
  EXPECT_EQ(unpack(pack(folder_, "from")), "");
  expect_same();
}

TEST_F(OwnProgram, AnotherTarReadsIt) {
  make_tree();
  write("packed.tar", pack(folder_, "from"));
  shell("mkdir " + folder_ + "/to && tar -C " + folder_ + "/to -xpf " + folder_ + "/packed.tar");
  expect_same();
}

TEST_F(OwnProgram, ArchivesOfAnotherTarAreRead) {
  make_tree();
  for (const char* format : {"--format=gnu", "--format=pax", "--format=posix --owner=3000000"}) {
    fs::remove_all(folder_ + "/to");
    EXPECT_EQ(unpack(make_tar(format)), "") << format;
    expect_same();
  }
}

TEST_F(OwnProgram, WhatIsInAFolder) {
  write("from/a", "A");
  EXPECT_EQ(unpack(pack(folder_ + "/from", ".")), "");
  EXPECT_EQ(read(folder_ + "/to/a"), "A");
}

TEST_F(OwnProgram, DevicesAreLeftOutAndMissingFilesSaid) {
  write("from/a", "A");
  ASSERT_EQ(::mkfifo((folder_ + "/from/fifo").c_str(), 0600), 0);
  const Outcome outcome = run({"pack", folder_, "from"});
  EXPECT_THAT(outcome.err, HasSubstr("from/fifo is left out"));
  EXPECT_EQ(unpack(outcome.out), "");
  EXPECT_FALSE(fs::exists(folder_ + "/to/from/fifo"));
  EXPECT_THAT(run({"pack", folder_, "none"}).err, HasSubstr("none: No such file"));
  EXPECT_THAT(run({"unpack", folder_ + "/none"}).err, HasSubstr("none: No such file"));
}

TEST_F(OwnProgram, FilesThatSayTheyAreEmptyAreRead) {
  EXPECT_EQ(unpack(pack("/proc/self", "cmdline")), "");
  EXPECT_GT(fs::file_size(folder_ + "/to/cmdline"), 0u);
}

TEST_F(OwnProgram, LinksOfTheArchiveAreNotFollowed) {
  write("outside", "old");
  TarHeader link;
  link.name = "way";
  link.type = kTarSymlink;
  link.link = "..";
  TarHeader file;
  file.name = "way/outside";
  unpack(entry(link) + entry(file, "new"), 1);
  EXPECT_EQ(read(folder_ + "/outside"), "old");
  // A file in the place of a link is not written through it.
  file.name = "way";
  fs::remove_all(folder_ + "/to");
  EXPECT_EQ(unpack(entry(link) + entry(file, "new")), "");
  EXPECT_EQ(read(folder_ + "/to/way"), "new");
}

TEST_F(OwnProgram, ALinkToAFolderThatIsThereStays) {
  fs::create_directories(folder_ + "/to/usr");
  fs::create_directory_symlink("usr", folder_ + "/to/lib");
  TarHeader folder;
  folder.name = "lib/";
  folder.type = kTarFolder;
  TarHeader file;
  file.name = "lib/x";
  EXPECT_EQ(unpack(entry(folder) + entry(file, "X")), "");
  EXPECT_EQ(read(folder_ + "/to/usr/x"), "X");
  EXPECT_TRUE(fs::is_symlink(folder_ + "/to/lib"));
}

TEST_F(OwnProgram, HostileNamesTypesAndEndsAreRefused) {
  TarHeader header;
  header.name = "../x";
  EXPECT_THAT(unpack(entry(header, "x"), 1), HasSubstr("../x"));
  header.name = "x";
  header.type = '3';
  EXPECT_THAT(unpack(entry(header), 1), HasSubstr("device"));
  header.type = kTarFile;
  const std::string whole = entry(header, std::string(2000, 'x'));
  EXPECT_THAT(unpack(whole.substr(0, 1500), 1), HasSubstr("ends early"));
  EXPECT_THAT(unpack(whole.substr(0, 100), 1), HasSubstr("ends early"));
  EXPECT_THAT(unpack(std::string(512, 'x'), 1), HasSubstr("checksum"));
  EXPECT_THAT(unpack("\x1f\x8b" + std::string(510, 'x'), 1), HasSubstr("compressed"));
  EXPECT_EQ(unpack(""), "");
}

TEST_F(OwnProgram, Folders) {
  EXPECT_EQ(run({"is-folder", folder_}).exit->value, 0u);
  EXPECT_EQ(run({"is-folder", folder_ + "/new"}).exit->value, 1u);
  EXPECT_EQ(run({"make-folder", folder_ + "/new"}).exit->value, 0u);
  EXPECT_EQ(run({"is-folder", folder_ + "/new"}).exit->value, 0u);
  EXPECT_THAT(run({"make-folder", folder_ + "/new"}).err, HasSubstr("File exists"));
}

TEST_F(OwnProgram, Processes) {
  ExecRequest sleeper = testing::shell("echo up; exec sleep '1000' 1");
  auto connection = agent_.connect();
  connection.send(agent::encode_exec(sleeper));
  connection.expect_output("up\n");
  Outcome outcome;
  // It becomes that program a moment after it has said so.
  EXPECT_TRUE(testing::eventually([&] {
    outcome = run({"processes", "pid", "ppid", "uname", "c", "stime", "tty", "time", "stat",
                   "etime", "rss", "pmem", "cmd"});
    return outcome.out.find("sleep 1000 1\n") != std::string::npos;
  })) << outcome.out;
  EXPECT_THAT(outcome.out, ::testing::MatchesRegex(" *PID +PPID UID.*CMD\n(.|\n)*"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("kthreadd")));
  EXPECT_THAT(run({"processes", "none"}).err, HasSubstr("no column none"));
}

TEST_F(OwnProgram, OthersThereAreNone) {
  const Outcome outcome = run({"sh"});
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kExecNotFound);
  EXPECT_TRUE(run({"pack", "/"}).error.has_value());
}

}  // namespace
}  // namespace sm::guest
