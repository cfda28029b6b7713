// Other people's tools as judges: trees packed by GNU tar, umoci and skopeo, converted here, and
// unpacked by squashfs-tools must come out as they went in. Needs root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "oci/layer_cache.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

namespace fs = std::filesystem;
using testing::ImageBuilder;
using testing::TempDir;
using testing::write_file;

constexpr std::size_t kPlenty = 1U << 30U;

void run(const std::string& command) {
  ASSERT_EQ(std::system((command + " >/dev/null").c_str()), 0) << command;
}

std::map<std::string, std::string> xattrs_of(const std::string& path) {
  std::string names(64U << 10U, '\0');
  const auto length = ::llistxattr(path.c_str(), names.data(), names.size());
  std::map<std::string, std::string> out;
  if (length <= 0) return out;
  for (std::size_t at = 0; at < static_cast<std::size_t>(length);) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    std::string value(64U << 10U, '\0');
    const auto size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size >= 0) out[name] = value.substr(0, static_cast<std::size_t>(size));
  }
  return out;
}

struct Facts {
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;
  std::uint64_t links = 0;
  std::uint64_t device = 0;
  std::uint64_t size = 0;
  std::string data;  // of files up to a bound; targets of symbolic links
  std::map<std::string, std::string> xattrs;
  bool operator==(const Facts&) const = default;
};

void PrintTo(const Facts& facts, std::ostream* out) {
  *out << std::oct << facts.mode << std::dec << " " << facts.uid << ":" << facts.gid << " @"
       << facts.mtime << " links " << facts.links << " dev " << facts.device << " size "
       << facts.size << " xattrs " << facts.xattrs.size();
}

Facts facts_of(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  Facts out{.mode = info.st_mode,
            .uid = info.st_uid,
            .gid = info.st_gid,
            .mtime = info.st_mtim.tv_sec,
            .xattrs = xattrs_of(path)};
  if (!S_ISDIR(info.st_mode)) out.links = info.st_nlink;
  if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) out.device = info.st_rdev;
  if (S_ISREG(info.st_mode)) {
    out.size = static_cast<std::uint64_t>(info.st_size);
    if (out.size <= 8U << 20U) out.data = read_file(path, kPlenty).value_or("unreadable");
  }
  if (S_ISLNK(info.st_mode)) out.data = fs::read_symlink(path);
  return out;
}

std::map<std::string, Facts> facts_below(const fs::path& root) {
  std::map<std::string, Facts> out{{"", facts_of(root)}};
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    out[fs::relative(entry.path(), root)] = facts_of(entry.path());
  }
  return out;
}

void expect_same(const fs::path& wanted_root, const fs::path& actual_root) {
  const auto wanted = facts_below(wanted_root);
  const auto actual = facts_below(actual_root);
  for (const auto& [path, facts] : wanted) {
    const auto found = actual.find(path);
    if (found == actual.end()) {
      ADD_FAILURE() << path << " is missing";
    } else {
      EXPECT_EQ(found->second, facts) << path;
    }
  }
  for (const auto& [path, facts] : actual) EXPECT_TRUE(wanted.contains(path)) << path;
}

class OracleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "devices and owners need root";
  }

  // One of everything that a layer can hold.
  void make_tree(const fs::path& root) {
    const auto in = [&](const std::string& name) { return (root / name).string(); };
    fs::create_directories(in("usr/bin"));
    fs::create_directories(in("empty"));
    write_file(in("usr/bin/su"), std::string(5000, 's'));
    ASSERT_EQ(::chown(in("usr/bin/su").c_str(), 1000, 65534), 0);
    ASSERT_EQ(::chmod(in("usr/bin/su").c_str(), 06755), 0);
    ASSERT_EQ(::chmod(in("empty").c_str(), 01777), 0);
    write_file(in("nothing"), "");
    std::string big(1'000'001, 'b');
    for (std::size_t i = 0; i < big.size(); i += 997) big[i] = static_cast<char>(i);
    write_file(in("big"), big);
    fs::create_symlink("../nowhere/at all", in("link"));
    ASSERT_EQ(::lchown(in("link").c_str(), 7, 8), 0);
    fs::create_hard_link(in("big"), in("usr/bin/big2"));
    fs::create_hard_link(in("link"), in("link2"));
    ASSERT_EQ(::mknod(in("tty").c_str(), S_IFCHR | 0620, makedev(4, 64)), 0);
    ASSERT_EQ(::mknod(in("disk").c_str(), S_IFBLK | 0660, makedev(259, 70'000)), 0);
    ASSERT_EQ(::mkfifo(in("fifo").c_str(), 0600), 0);
    write_file(in(std::string(255, 'n')), "255");
    write_file(in("gr\xC3\xBC\xC3\x9F\x65"), "utf-8");
    write_file(in("latin1-\xE9"), "latin1");
    write_file(in("new\nline \x01"), "odd");
    make_sparse(in("sparse"));
    std::string deep = "deep";
    for (int i = 0; i < 15; ++i) deep += "/" + std::string(200, static_cast<char>('a' + i));
    fs::create_directories(in(deep));
    write_file(in(deep + "/end"), "deep");
    const char capability[] =
        "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    ASSERT_EQ(::setxattr(in("nothing").c_str(), "security.capability", capability, 20, 0), 0);
    ASSERT_EQ(::setxattr(in("nothing").c_str(), "user.a.b", "x\0y\nz", 5, 0), 0);
    ASSERT_EQ(::setxattr(in("empty").c_str(), "user.dir", "1", 1, 0), 0);
    // Whole seconds: Go's archives round, all others cut.
    std::int64_t second = 1'000'000'000;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      set_time(entry.path(), second++, 0);
    }
    set_time(root, 12345, 0);
  }

  static void set_time(const fs::path& path, std::int64_t seconds, long nanoseconds) {
    const timespec times[2] = {{0, 0}, {seconds, nanoseconds}};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }

  static void make_sparse(const std::string& path) {
    auto fd = open_file(path, O_RDWR | O_CREAT);
    ASSERT_TRUE(fd.has_value());
    ASSERT_EQ(::pwrite(fd->get(), "middle", 6, 3'000'000), 6);
    ASSERT_EQ(::pwrite(fd->get(), "later", 5, 5'000'000), 5);
    ASSERT_EQ(::ftruncate(fd->get(), 7'000'000), 0);
  }

  // Converts an image and unpacks its only layer.
  std::string unpack(const std::string& reference, const std::string& name) {
    const auto parsed = parse_reference(reference);
    EXPECT_TRUE(parsed.has_value());
    const auto image = ImageSource::open(*parsed);
    EXPECT_TRUE(image.has_value()) << image.error().text();
    if (!image) return {};
    const auto cache = LayerCache::open({.root = dir_ / "cache"});
    EXPECT_TRUE(cache.has_value());
    const auto prepared = cache->prepare(*image);
    EXPECT_TRUE(prepared.has_value()) << prepared.error().text();
    if (!prepared || prepared->layers.size() != 1) return {};
    run("unsquashfs -q -n -d " + (dir_ / name) + " " + prepared->layers[0]);
    return dir_ / name;
  }

  TempDir dir_;
};

TEST_F(OracleTest, gnu_tar_in_all_its_formats) {
  const auto tree = dir_ / "tree";
  make_tree(tree);
  set_time(tree + "/nothing", 1'000'000'007, 999'999'999);
  const std::vector<std::string> forms = {
      "--format=pax --xattrs --xattrs-include='*'",
      "--format=pax --xattrs --xattrs-include='*' --sparse --sparse-version=0.0",
      "--format=pax --xattrs --xattrs-include='*' --sparse --sparse-version=0.1",
      "--format=pax --xattrs --xattrs-include='*' --sparse --sparse-version=1.0",
      "--format=gnu --sparse",
      "--format=gnu",
  };
  for (std::size_t i = 0; i < forms.size(); ++i) {
    SCOPED_TRACE(forms[i]);
    const auto number = std::to_string(i);
    run("tar -C " + tree + " " + forms[i] + " -cf " + (dir_ / "layer.tar") + " .");
    ImageBuilder builder(dir_ / ("image" + number));
    builder.layer(*read_file(dir_ / "layer.tar", kPlenty)).write();
    const auto out = unpack(builder.reference(), "out" + number);
    // GNU's own format has no room for attributes: what its tar unpacks is the measure.
    const auto measure = dir_ / ("measure" + number);
    fs::create_directory(measure);
    run("tar -C " + measure + " --xattrs --xattrs-include='*' -xpf " + (dir_ / "layer.tar"));
    expect_same(measure, out);
    if (i < 4) expect_same(tree, out);
  }
}

TEST_F(OracleTest, images_of_umoci_and_skopeo) {
  const auto layout = dir_ / "umoci";
  run("umoci init --layout " + layout);
  run("umoci new --image " + layout + ":latest");
  run("umoci unpack --image " + layout + ":latest " + (dir_ / "bundle"));
  make_tree(dir_ / "bundle/rootfs");
  run("umoci repack --image " + layout + ":latest " + (dir_ / "bundle") + " 2>&1");
  run("umoci config --image " + layout + ":latest --config.cmd /usr/bin/su --config.user a:b");
  const auto copy = [&](const std::string& to) {
    run("skopeo --insecure-policy copy -q oci:" + layout + ":latest " + to);
    return to;
  };
  const std::vector<std::string> references = {
      "oci:" + layout + ":latest",
      copy("oci:" + (dir_ / "skopeo") + ":tag"),
      copy("oci-archive:" + (dir_ / "oci.tar") + ":tag"),
      copy("docker-archive:" + (dir_ / "docker.tar") + ":localhost/name:tag"),
  };
  for (std::size_t i = 0; i < references.size(); ++i) {
    SCOPED_TRACE(references[i]);
    const auto out = unpack(references[i], "out" + std::to_string(i));
    expect_same(dir_ / "bundle/rootfs", out);
    const auto image = ImageSource::open(*parse_reference(references[i]));
    EXPECT_EQ(image->config().cmd, std::vector<std::string>{"/usr/bin/su"});
    EXPECT_EQ(image->config().user, "a:b");
  }
}

}  // namespace
}  // namespace sm
