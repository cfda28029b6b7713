#include "common/warm_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBytes = 3u << 20;  // more than a kernel reads ahead
constexpr std::size_t kPage = 4096;

class WarmFiles : public ::testing::Test {
 protected:
  WarmFiles() : folder_(::mkdtemp(template_.data())), root_(open_file(folder_, O_PATH).value()) {
    fs::create_directory(folder_ + "/bin");
  }
  ~WarmFiles() override { fs::remove_all(folder_); }

  // On the disk and not in memory. False where that cannot be had.
  bool write_cold(const std::string& path) {
    const UniqueFd fd = open_file(path, O_RDWR | O_CREAT, 0755).value();
    const std::string text(kBytes, 'x');
    EXPECT_TRUE(write_all(fd.get(), as_byte_span(text)));
    ::fsync(fd.get());
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    return pages(path) == 0;
  }
  // How many pages of the file are in memory.
  static std::size_t pages(const std::string& path) {
    const UniqueFd fd = open_file(path, O_RDONLY).value();
    void* at = ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    std::vector<unsigned char> in(kBytes / kPage);
    EXPECT_EQ(::mincore(at, kBytes, in.data()), 0);
    ::munmap(at, kBytes);
    std::size_t count = 0;
    for (const unsigned char page : in) count += page & 1u;
    return count;
  }
  // Beside the test's own program: /tmp may be in memory, where nothing is ever cold.
  std::string template_ =
      fs::read_symlink("/proc/self/exe").parent_path().string() + "/warm-XXXXXX";
  std::string folder_;
  UniqueFd root_;
};

TEST_F(WarmFiles, the_shell_is_read_by_way_of_a_link_inside) {
  fs::create_symlink("/bin/busybox", folder_ + "/bin/sh");
  if (!write_cold(folder_ + "/bin/busybox")) GTEST_SKIP() << "this file system has no cold files";
  ASSERT_TRUE(write_cold(folder_ + "/bin/other"));
  warm_files(root_.get());
  EXPECT_EQ(pages(folder_ + "/bin/busybox"), kBytes / kPage);
  EXPECT_EQ(pages(folder_ + "/bin/other"), 0u);
}

TEST_F(WarmFiles, an_image_without_any_and_a_hostile_one_are_no_trouble) {
  warm_files(root_.get());
  // Opened for reading, a pipe without a writer would wait for one.
  ASSERT_EQ(::mkfifo((folder_ + "/bin/sh").c_str(), 0600), 0);
  fs::create_directories(folder_ + "/lib64/libc.so.6");
  fs::create_directory(folder_ + "/lib");
  fs::create_symlink("ld-musl-x86_64.so.1", folder_ + "/lib/ld-musl-x86_64.so.1");
  warm_files(root_.get());
}

}  // namespace
}  // namespace sm::guest
