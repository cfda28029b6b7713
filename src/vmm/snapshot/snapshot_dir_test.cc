// Snapshots on disk: what comes back, what is refused. Failing disks, killed and concurrent
// writers: snapshot_faults_test.cc.
#include "vmm/snapshot/snapshot_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/clock.h"
#include "base/file.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

namespace fs = std::filesystem;
using snapshot_testing::example_manifest;
using snapshot_testing::page_of;
using snapshot_testing::random_state;
using snapshot_testing::TemporaryFolder;

constexpr std::uint64_t kMemory = 1 << 20;

void write_page(int fd, std::uint64_t page, std::uint32_t seed) {
  const auto bytes = page_of(seed);
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(page * kPageBytes)),
            static_cast<ssize_t>(bytes.size()));
}

std::vector<std::byte> read_page(int fd, std::uint64_t page) {
  std::vector<std::byte> bytes(kPageBytes);
  EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(page * kPageBytes)),
            static_cast<ssize_t>(bytes.size()));
  return bytes;
}

class SnapshotDir : public testing::Test {
 protected:
  // A snapshot of random_state(seed) with pages 3, 40 and the last one.
  Status write(const std::string& path, std::uint32_t seed, bool replace = false) {
    const MachineState state = random_state(seed);
    auto writer = SM_TRY(SnapshotWriter::create(path, kMemory, replace));
    for (const std::uint64_t page : {3u, 40u, 255u}) write_page(writer->memory_fd(), page, seed);
    return writer->commit(example_manifest(state), state);
  }
  Status write_diff(const std::string& path, const std::string& base, std::string digest) {
    const MachineState state = random_state(9);
    SnapshotManifest manifest = example_manifest(state);
    manifest.base = SnapshotBase{base, std::move(digest)};
    auto writer = SM_TRY(SnapshotWriter::create(path, kMemory, false));
    write_page(writer->memory_fd(), 41, 9);
    writer->set_pages({{3, 1}, {41, 2}});
    return writer->commit(manifest, state);
  }
  void expect_refused(Code code, const std::string& word) {
    const auto snapshot = Snapshot::open(path_);
    ASSERT_FALSE(snapshot.has_value()) << word;
    EXPECT_EQ(snapshot.error().code(), code) << snapshot.error().text();
    EXPECT_NE(snapshot.error().cause().find(word), std::string::npos) << snapshot.error().text();
    EXPECT_NE(snapshot.error().cause().find(path_), std::string::npos) << snapshot.error().text();
  }
  void overwrite(const std::string& file, std::uint64_t at, const std::string& bytes) {
    const auto fd = open_file(path_ + "/" + file, O_WRONLY);
    ASSERT_TRUE(fd.has_value());
    ASSERT_EQ(::pwrite(fd->get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  std::string content(const std::string& file) {
    return read_file(path_ + "/" + file, 1 << 20).value_or("");
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "snap";
};

TEST_F(SnapshotDir, ComesBack) {
  ASSERT_TRUE(write(path_, 1).has_value());
  const auto snapshot = Snapshot::open(path_);
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().text();
  const MachineState state = random_state(1);
  EXPECT_EQ(snapshot->state(), state);
  EXPECT_EQ(snapshot->manifest().annotations, example_manifest(state).annotations);
  EXPECT_EQ(snapshot->manifest().memory_bytes, kMemory);
  EXPECT_EQ(snapshot->manifest().memory_digest.size(), 32u);
  EXPECT_TRUE(snapshot->pages().empty());
  EXPECT_EQ(file_size(snapshot->memory_fd().get()).value(), kMemory);
  EXPECT_EQ(read_page(snapshot->memory_fd().get(), 40), page_of(1));
  EXPECT_EQ(read_page(snapshot->memory_fd().get(), 41), std::vector<std::byte>(kPageBytes));
  EXPECT_TRUE(snapshot->verify().has_value());
  EXPECT_EQ(read_snapshot_manifest(path_).value(), snapshot->manifest());
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"snap"});
}

TEST_F(SnapshotDir, CommitWithoutSyncIsTheSameForReaders) {
  const MachineState state = random_state(2);
  auto writer = SnapshotWriter::create(path_, kMemory, false).value();
  write_page(writer->memory_fd(), 7, 2);
  ASSERT_TRUE(writer->commit_without_sync(example_manifest(state), state).has_value());
  const auto snapshot = Snapshot::open(path_);
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().text();
  EXPECT_EQ(snapshot->state(), state);
}

TEST_F(SnapshotDir, IsPrivateAndSparse) {
  ASSERT_TRUE(write(path_, 1).has_value());
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  for (const auto& entry : fs::directory_iterator(path_)) {
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u) << entry.path();
  }
  ASSERT_EQ(::stat((path_ + "/memory.img").c_str(), &info), 0);
  EXPECT_LE(info.st_blocks * 512, 64 << 10);
}

TEST_F(SnapshotDir, WhatIsNotCommittedVanishes) {
  {
    auto writer = SnapshotWriter::create(path_, kMemory, false);
    ASSERT_TRUE(writer.has_value());
    EXPECT_EQ(folder_.names().size(), 1u);
    EXPECT_FALSE(fs::exists(path_));
  }
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(SnapshotDir, ExistingThingsStay) {
  ASSERT_TRUE(write(path_, 1).has_value());
  EXPECT_EQ(write(path_, 2).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Snapshot::open(path_)->state(), random_state(1));

  fs::create_directory(folder_ / "other");
  std::ofstream(folder_ / "other/file") << "mine";
  fs::create_directory_symlink(path_, folder_ / "link");
  std::ofstream(folder_ / "file") << "mine";
  std::ofstream(path_ + "/extra") << "mine";  // no longer only a snapshot
  for (const char* name : {"other", "link", "file", "snap"}) {
    EXPECT_EQ(write(folder_ / name, 3, true).error().code(), Code::kInvalidArgument) << name;
    EXPECT_EQ(remove_snapshot(folder_ / name).has_value(), false) << name;
  }
  EXPECT_EQ(read_file(folder_ / "other/file", 10).value(), "mine");
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"file", "link", "other", "snap"}));
}

TEST_F(SnapshotDir, SomethingThatAppearsMeanwhileStays) {
  auto first = SnapshotWriter::create(path_, kMemory, false).value();
  ASSERT_TRUE(write(path_, 2).has_value());
  const MachineState state = random_state(1);
  EXPECT_EQ(first->commit(example_manifest(state), state).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Snapshot::open(path_)->state(), random_state(2));
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"snap"});
}

TEST_F(SnapshotDir, IsReplacedAsAWhole) {
  ASSERT_TRUE(write(path_, 1).has_value());
  const auto before = Snapshot::open(path_);
  ASSERT_TRUE(write(path_, 2, true).has_value());
  ASSERT_TRUE(write(folder_ / "fresh", 2, true).has_value());
  EXPECT_EQ(Snapshot::open(path_)->state(), random_state(2));
  // Who has it open keeps it.
  EXPECT_EQ(read_page(before->memory_fd().get(), 40), page_of(1));
  EXPECT_TRUE(before->verify().has_value());
  EXPECT_EQ(folder_.names(), (std::vector<std::string>{"fresh", "snap"}));
}

TEST_F(SnapshotDir, IsRemoved) {
  ASSERT_TRUE(write(path_, 1).has_value());
  ASSERT_TRUE(remove_snapshot(path_ + "/").has_value());
  EXPECT_TRUE(folder_.names().empty());
  EXPECT_EQ(remove_snapshot(path_).error().code(), Code::kNotFound);
}

TEST_F(SnapshotDir, NamesThatCannotBe) {
  for (const char* name : {"", "/", ".", "..", "a/..", "x.tmp-0123456789abcdef"}) {
    EXPECT_EQ(SnapshotWriter::create(name, kMemory, false).error().code(), Code::kInvalidArgument)
        << name;
  }
  EXPECT_EQ(SnapshotWriter::create(folder_ / "no/snap", kMemory, false).error().code(),
            Code::kNotFound);
  EXPECT_FALSE(SnapshotWriter::create(folder_ / std::string(250, 'x'), kMemory, false).has_value());
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{4097}, kMaxSnapshotMemory * 2}) {
    EXPECT_EQ(SnapshotWriter::create(path_, bytes, false).error().code(), Code::kInvalidArgument);
  }
  EXPECT_TRUE(folder_.names().empty());
}

TEST_F(SnapshotDir, WhatCannotBeReadBackIsNotWritten) {
  const MachineState state = random_state(1);
  const auto commit = [&](auto change, const MachineState& s) {
    SnapshotManifest manifest = example_manifest(state);
    change(manifest);
    auto writer = SnapshotWriter::create(path_, kMemory, false).value();
    const auto status = writer->commit(manifest, s);
    EXPECT_FALSE(writer->commit(manifest, s).has_value());  // only once
    return status ? Code::kInternal : status.error().code();
  };
  EXPECT_EQ(commit([](SnapshotManifest& m) { ++m.vcpus; }, state), Code::kInvalidArgument);
  EXPECT_EQ(commit([](SnapshotManifest& m) { m.devices.push_back({}); }, state),
            Code::kInvalidArgument);
  EXPECT_EQ(commit([](SnapshotManifest& m) { m.program = "\xFF"; }, state), Code::kInvalidArgument);
  EXPECT_EQ(commit([](SnapshotManifest& m) { m.memory_bytes = 2 * kMemory; }, state),
            Code::kInvalidArgument);
  EXPECT_EQ(commit(
                [](SnapshotManifest& m) {
                  m.base = SnapshotBase{"/x", std::string(32, 'a')};
                },
                state),
            Code::kInvalidArgument);
  MachineState bad = state;
  bad.uart.fifo.resize(100);
  EXPECT_EQ(commit([](SnapshotManifest&) {}, bad), Code::kInvalidArgument);
  EXPECT_TRUE(folder_.names().empty());
}

// ---- reading

TEST_F(SnapshotDir, MissingThings) {
  expect_refused(Code::kNotFound, "snap");
  fs::create_directory(path_);
  expect_refused(Code::kNotFound, "manifest.json");
  fs::remove(path_);
  for (const char* file : {"state.bin", "memory.img", "memory.sum"}) {
    ASSERT_TRUE(write(path_, 1).has_value());
    fs::remove(path_ + "/" + file);
    expect_refused(Code::kCorrupt, file);
    fs::remove_all(path_);
  }
}

TEST_F(SnapshotDir, LinksAndSpecialFilesAreRefused) {
  for (const char* file : {"manifest.json", "state.bin", "memory.img", "memory.sum"}) {
    ASSERT_TRUE(write(path_, 1).has_value());
    const std::string name = path_ + "/" + file;
    fs::rename(name, folder_ / "moved");
    fs::create_symlink(folder_ / "moved", name);
    expect_refused(Code::kCorrupt, "not a regular file");
    fs::remove(name);
    ASSERT_EQ(::mkfifo(name.c_str(), 0600), 0);
    expect_refused(Code::kCorrupt, "not a regular file");
    fs::remove(name);
    fs::create_directory(name);
    expect_refused(Code::kCorrupt, "not a regular file");
    fs::remove_all(path_);
  }
}

TEST_F(SnapshotDir, EveryFlippedByteIsFound) {
  ASSERT_TRUE(write(path_, 1).has_value());
  for (const char* file : {"manifest.json", "state.bin", "memory.sum"}) {
    const std::string good = content(file);
    ASSERT_FALSE(good.empty());
    for (std::size_t i = 0; i < good.size(); ++i) {
      const char changed = static_cast<char>(good[i] ^ (1 << (i % 8)));
      overwrite(file, i, std::string(1, changed));
      ASSERT_FALSE(Snapshot::open(path_).has_value()) << file << " " << i;
      overwrite(file, i, std::string(1, good[i]));
    }
  }
  EXPECT_TRUE(Snapshot::open(path_).has_value());
}

TEST_F(SnapshotDir, EveryFlippedByteOfMemoryIsFound) {
  ASSERT_TRUE(write(path_, 1).has_value());
  const auto page = page_of(1);
  for (std::size_t i = 0; i < page.size(); i += 37) {
    const std::uint64_t at = 40 * kPageBytes + i;
    overwrite("memory.img", at, std::string(1, static_cast<char>(page[i]) ^ 4));
    expect_refused(Code::kCorrupt, "altered in the 64 KiB at offset 131072");
    overwrite("memory.img", at, std::string(1, static_cast<char>(page[i])));
  }
  EXPECT_TRUE(Snapshot::open(path_).has_value());
}

TEST_F(SnapshotDir, DataInHolesAndHolesInDataAreFound) {
  ASSERT_TRUE(write(path_, 1).has_value());
  overwrite("memory.img", 100 * kPageBytes + 5, "x");
  expect_refused(Code::kCorrupt, "offset 393216");
  fs::remove_all(path_);

  ASSERT_TRUE(write(path_, 1).has_value());
  const auto fd = open_file(path_ + "/memory.img", O_WRONLY);
  ASSERT_EQ(::fallocate(fd->get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 40 * kPageBytes,
                        kPageBytes),
            0);
  expect_refused(Code::kCorrupt, "offset 131072");
}

TEST_F(SnapshotDir, ZerosInPlaceOfHolesAreTheSame) {
  ASSERT_TRUE(write(path_, 1).has_value());
  overwrite("memory.img", 100 * kPageBytes, std::string(3 * kPageBytes, '\0'));
  EXPECT_TRUE(Snapshot::open(path_).has_value());
}

TEST_F(SnapshotDir, OtherSizesAreFound) {
  ASSERT_TRUE(write(path_, 1).has_value());
  for (const char* file : {"state.bin", "memory.img", "memory.sum", "manifest.json"}) {
    const auto size = fs::file_size(path_ + "/" + file);
    fs::resize_file(path_ + "/" + file, size - 1);
    EXPECT_FALSE(Snapshot::open(path_).has_value()) << file;
    fs::resize_file(path_ + "/" + file, size + 1);
    EXPECT_FALSE(Snapshot::open(path_).has_value()) << file;
    fs::remove_all(path_);
    ASSERT_TRUE(write(path_, 1).has_value());
  }
  fs::resize_file(path_ + "/manifest.json", kMaxSnapshotManifestBytes + 1);
  expect_refused(Code::kLimit, "manifest.json");
}

TEST_F(SnapshotDir, FilesOfAnotherSnapshotAreFound) {
  ASSERT_TRUE(write(path_, 1).has_value());
  ASSERT_TRUE(write(folder_ / "other", 1).has_value());
  // The same machine, captured twice: only the random name of its memory differs.
  for (const char* file : {"manifest.json", "memory.sum"}) {
    const std::string good = content(file);
    fs::copy_file(folder_ / "other/" + std::string(file), path_ + "/" + file,
                  fs::copy_options::overwrite_existing);
    EXPECT_FALSE(Snapshot::open(path_).has_value()) << file;
    std::ofstream(path_ + "/" + file) << good;
  }
  EXPECT_TRUE(Snapshot::open(path_).has_value());
}

TEST_F(SnapshotDir, SurvivesBeingCopied) {
  ASSERT_TRUE(write(path_, 1).has_value());
  fs::copy(path_, folder_ / "copy", fs::copy_options::recursive);
  const auto snapshot = Snapshot::open(folder_ / "copy");
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().text();
  EXPECT_EQ(snapshot->state(), random_state(1));
}

// ---- the stamp

// Makes the image older than any stamp that is written from now on, as time would.
void wait_for_the_next_clock_step(const std::string& folder) {
  const std::string probe = folder + "/probe";
  const auto touched = [&] {
    std::ofstream(probe) << "x";
    struct stat info {};
    EXPECT_EQ(::stat(probe.c_str(), &info), 0);
    fs::remove(probe);
    return std::pair(info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  };
  const auto start = touched();
  const auto deadline = Deadline::after(std::chrono::seconds(10));
  while (touched() == start) ASSERT_FALSE(deadline.passed());
}

TEST_F(SnapshotDir, AStampSavesReadingTheMemory) {
  ASSERT_TRUE(write(path_, 1).has_value());
  wait_for_the_next_clock_step(folder_.path());
  ASSERT_TRUE(Snapshot::open(path_).has_value());
  const auto written = fs::last_write_time(path_ + "/memory.ok");
  wait_for_the_next_clock_step(folder_.path());
  ASSERT_TRUE(Snapshot::open(path_).has_value());
  EXPECT_EQ(fs::last_write_time(path_ + "/memory.ok"), written);  // believed, not written again
}

TEST_F(SnapshotDir, AStampHoldsForThatFileOnly) {
  ASSERT_TRUE(write(path_, 1).has_value());
  wait_for_the_next_clock_step(folder_.path());
  ASSERT_TRUE(Snapshot::open(path_).has_value());
  // Altered behind its back, with the times of before.
  const auto time = fs::last_write_time(path_ + "/memory.img");
  overwrite("memory.img", 40 * kPageBytes, std::string(1, '\0'));
  fs::last_write_time(path_ + "/memory.img", time);
  expect_refused(Code::kCorrupt, "altered");
}

TEST_F(SnapshotDir, ADamagedStampIsNotBelieved) {
  ASSERT_TRUE(write(path_, 1).has_value());
  overwrite("memory.img", 40 * kPageBytes, std::string(1, '\0'));
  const std::string stamp = content("memory.ok");
  ASSERT_FALSE(stamp.empty());
  for (std::size_t i = 0; i < stamp.size(); ++i) {
    overwrite("memory.ok", i, std::string(1, static_cast<char>(stamp[i] ^ 1)));
    ASSERT_FALSE(Snapshot::open(path_).has_value()) << i;
    overwrite("memory.ok", i, std::string(1, stamp[i]));
  }
}

TEST_F(SnapshotDir, VerifyReadsInSpiteOfTheStamp) {
  ASSERT_TRUE(write(path_, 1).has_value());
  const auto snapshot = Snapshot::open(path_);
  ASSERT_TRUE(snapshot.has_value());
  EXPECT_TRUE(snapshot->verify().has_value());
  overwrite("memory.img", 40 * kPageBytes, std::string(1, '\0'));
  EXPECT_EQ(snapshot->verify().error().code(), Code::kCorrupt);
}

// ---- diffs

TEST_F(SnapshotDir, ADiffKnowsItsPagesAndItsBase) {
  const std::string base = folder_ / "base";
  ASSERT_TRUE(write(base, 1).has_value());
  const auto digest = Snapshot::open(base)->manifest().memory_digest;
  const auto status = write_diff(path_, base, digest);
  ASSERT_TRUE(status.has_value()) << status.error().text();
  const auto diff = Snapshot::open(path_);
  ASSERT_TRUE(diff.has_value()) << diff.error().text();
  const std::vector<PageRange> pages{{3, 1}, {41, 2}};
  EXPECT_TRUE(std::equal(pages.begin(), pages.end(), diff->pages().begin(), diff->pages().end()));
  EXPECT_EQ(diff->open_base()->manifest().memory_digest, digest);
  EXPECT_FALSE(Snapshot::open(base)->open_base().has_value());
}

TEST_F(SnapshotDir, ADiffNeedsTheVeryBase) {
  const std::string base = folder_ / "base";
  ASSERT_TRUE(write(base, 1).has_value());
  const auto digest = Snapshot::open(base)->manifest().memory_digest;
  EXPECT_FALSE(write_diff(path_, base, std::string(32, '0')).has_value());
  EXPECT_FALSE(write_diff(path_, folder_ / "absent", digest).has_value());
  ASSERT_TRUE(write_diff(path_, base, digest).has_value());
  const std::string second = folder_ / "second";
  EXPECT_FALSE(
      write_diff(second, path_, Snapshot::open(path_)->manifest().memory_digest).has_value());

  ASSERT_TRUE(write(base, 1, true).has_value());
  expect_refused(Code::kCorrupt, "was replaced");
  ASSERT_TRUE(remove_snapshot(base).has_value());
  expect_refused(Code::kNotFound, base);
}

TEST_F(SnapshotDir, ADiffHoldsNothingBesidesItsPages) {
  const std::string base = folder_ / "base";
  ASSERT_TRUE(write(base, 1).has_value());
  const MachineState state = random_state(9);
  SnapshotManifest manifest = example_manifest(state);
  manifest.base = SnapshotBase{base, Snapshot::open(base)->manifest().memory_digest};
  auto writer = SnapshotWriter::create(path_, kMemory, false).value();
  write_page(writer->memory_fd(), 43, 9);
  writer->set_pages({{3, 1}, {41, 2}});
  EXPECT_EQ(writer->commit(manifest, state).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"base"});
}

}  // namespace
}  // namespace sm
