#include "runtime/root_disk.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {
namespace {

namespace fs = std::filesystem;

class RootDiskTest : public ::testing::Test {
 protected:
  RootDiskTest() { folder_ = ::mkdtemp(template_.data()); }
  ~RootDiskTest() override { fs::remove_all(folder_); }
  std::size_t files_in(const std::string& folder) const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }
  std::string superblock(const std::string& path) const {
    std::array<char, 1024> out{};
    const UniqueFd fd = open_file(path, O_RDONLY).value();
    EXPECT_EQ(::pread(fd.get(), out.data(), out.size(), 1024), 1024);
    return {out.data(), out.size()};
  }

  std::array<char, 32> template_{"/tmp/sm-disk-test-XXXXXX"};
  std::string folder_;
};

TEST_F(RootDiskTest, is_a_file_system_of_its_size_and_hardly_any_bytes) {
  const std::string path = folder_ + "/root.img";
  const auto made = make_root_disk(path, folder_ + "/cache");
  ASSERT_TRUE(made) << made.error().text();
  EXPECT_EQ(open_root_disk(path).value().bytes, kRootDiskBytes);
  EXPECT_GT(bytes_on_disk(path), 0u);
  EXPECT_LT(bytes_on_disk(path), 2u << 20);
  const std::string block = superblock(path);
  EXPECT_EQ(block.substr(56, 2), "\x53\xEF") << "the magic number of ext4";
  EXPECT_EQ(fs::status(path).permissions(), fs::perms(0600));
  EXPECT_EQ(files_in(folder_), 2u) << "no draft stays";
}

TEST_F(RootDiskTest, other_sizes_are_made_as_asked_for) {
  for (const std::uint64_t bytes : {kMinRootDisk, std::uint64_t{100} << 30, kMaxRootDisk}) {
    const std::string path = folder_ + "/" + std::to_string(bytes);
    const auto made = make_root_disk(path, folder_ + "/cache", bytes);
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_EQ(open_root_disk(path).value().bytes, bytes);
    EXPECT_EQ(superblock(path).substr(56, 2), "\x53\xEF");
    EXPECT_LT(bytes_on_disk(path), 256u << 20);
  }
  EXPECT_FALSE(fs::exists(folder_ + "/cache")) << "nothing is kept of them";
  EXPECT_FALSE(make_root_disk(folder_ + "/small", folder_ + "/cache", 64u << 10));
  EXPECT_EQ(files_in(folder_), 3u) << "no draft stays";
}

TEST_F(RootDiskTest, the_second_is_a_copy_of_the_same_and_their_own) {
  const std::string a = folder_ + "/a", b = folder_ + "/b", cache = folder_ + "/cache";
  ASSERT_TRUE(make_root_disk(a, cache));
  const std::string block = superblock(a);
  {
    const UniqueFd fd = open_file(a, O_WRONLY).value();
    ASSERT_EQ(::pwrite(fd.get(), "x", 1, 1024), 1);
  }
  ASSERT_TRUE(make_root_disk(b, cache));
  EXPECT_EQ(superblock(b), block);
  EXPECT_EQ(files_in(cache + "/disks"), 1u);
}

TEST_F(RootDiskTest, an_empty_one_of_a_wrong_size_is_made_anew) {
  const std::string cache = folder_ + "/cache";
  ASSERT_TRUE(make_root_disk(folder_ + "/a", cache));
  fs::resize_file(fs::directory_iterator(cache + "/disks")->path(), 4096);
  ASSERT_TRUE(make_root_disk(folder_ + "/b", cache));
  EXPECT_EQ(superblock(folder_ + "/b").substr(56, 2), "\x53\xEF");
}

TEST_F(RootDiskTest, an_empty_one_with_a_block_outside_is_made_anew) {
  const std::string cache = folder_ + "/cache";
  ASSERT_TRUE(make_root_disk(folder_ + "/a", cache));
  const UniqueFd fd =
      open_file(fs::directory_iterator(cache + "/disks")->path().string(), O_WRONLY).value();
  ASSERT_EQ(::pwrite(fd.get(), "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 8, 0), 8);
  ASSERT_TRUE(make_root_disk(folder_ + "/b", cache));
  EXPECT_EQ(superblock(folder_ + "/b").substr(56, 2), "\x53\xEF");
}

TEST_F(RootDiskTest, one_without_a_name_leaves_no_trace) {
  // Beside the snapshot's, or where that folder does not take any.
  for (const std::string& beside : {folder_, folder_ + "/missing"}) {
    const auto disk = unnamed_root_disk(kRootDiskBytes, beside, folder_);
    ASSERT_TRUE(disk) << disk.error().text();
    struct stat info {};
    ASSERT_EQ(::fstat(disk->get(), &info), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), kRootDiskBytes);
    EXPECT_EQ(info.st_blocks, 0);
    EXPECT_EQ(files_in(folder_), 0u);
  }
  EXPECT_FALSE(unnamed_root_disk(kRootDiskBytes, folder_ + "/missing", folder_ + "/none"));
}

TEST_F(RootDiskTest, where_it_cannot_be_made_nothing_stays) {
  EXPECT_FALSE(make_root_disk(folder_ + "/missing/root.img", folder_ + "/cache"));
  EXPECT_EQ(files_in(folder_), 1u);
}

TEST_F(RootDiskTest, what_is_none_is_refused) {
  EXPECT_EQ(open_root_disk(folder_ + "/none").error().code(), Code::kNotFound);
  EXPECT_EQ(open_root_disk(folder_).error().code(), Code::kCorrupt);
  const std::string odd = folder_ + "/odd";
  ASSERT_TRUE(write_file_atomic(odd, std::string(1000, 'x')));
  EXPECT_EQ(open_root_disk(odd).error().code(), Code::kCorrupt);
  ASSERT_TRUE(write_file_atomic(odd, ""));
  EXPECT_EQ(open_root_disk(odd).error().code(), Code::kCorrupt);
  fs::create_symlink(odd, folder_ + "/link");
  EXPECT_FALSE(open_root_disk(folder_ + "/link"));
  EXPECT_EQ(bytes_on_disk(folder_ + "/none"), 0u);
}

}  // namespace
}  // namespace sm
