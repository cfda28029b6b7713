#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/bytes.h"

namespace sm {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = testing::TempDir() + "/file_test.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  ~FileTest() override { std::filesystem::remove_all(dir_); }
  std::string dir_;
};

TEST_F(FileTest, atomic_write_replaces_the_content_and_leaves_no_temporary_file) {
  const std::string path = dir_ + "/f";
  ASSERT_TRUE(write_file_atomic(path, "one"));
  ASSERT_TRUE(write_file_atomic(path, "two", 0600));
  EXPECT_EQ(read_file(path, 100).value(), "two");
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_), {}), 1);
}

TEST_F(FileTest, reading_more_than_the_limit_is_refused) {
  ASSERT_TRUE(write_file_atomic(dir_ + "/f", "12345"));
  EXPECT_EQ(read_file(dir_ + "/f", 5).value(), "12345");
  EXPECT_EQ(read_file(dir_ + "/f", 4).error().code(), Code::kLimit);
  EXPECT_EQ(read_file(dir_ + "/none", 4).error().code(), Code::kNotFound);
}

TEST_F(FileTest, make_dirs_creates_all_parents_and_accepts_existing_ones) {
  ASSERT_TRUE(make_dirs(dir_ + "/a/b/c"));
  ASSERT_TRUE(make_dirs(dir_ + "/a/b/c"));
  EXPECT_TRUE(std::filesystem::is_directory(dir_ + "/a/b/c"));
}

TEST_F(FileTest, unnamed_file_leaves_nothing_and_a_missing_folder_is_named) {
  const UniqueFd file = unnamed_file(dir_).value();
  ASSERT_TRUE(write_all(file.get(), as_byte_span(std::string_view("text"))));
  EXPECT_EQ(file_size(file.get()).value(), 4u);
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
  const auto missing = unnamed_file(dir_ + "/none");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
}

TEST_F(FileTest, memory_file_reads_back) {
  UniqueFd fd = memory_file("t", as_byte_span("abc")).value();
  std::byte out[3];
  ASSERT_TRUE(read_exact(fd.get(), out));
  EXPECT_EQ(as_text(out), "abc");
  EXPECT_EQ(read_exact(fd.get(), out).error().code(), Code::kGone);
  EXPECT_EQ(file_size(fd.get()).value(), 3u);
}

}  // namespace
}  // namespace sm
