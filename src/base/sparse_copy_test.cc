#include "base/sparse_copy.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {
namespace {

constexpr std::uint64_t kBytes = 64u << 20;

UniqueFd new_file(std::uint64_t bytes) {
  std::string name = ::testing::TempDir() + "sparse-XXXXXX";
  UniqueFd fd(::mkstemp(name.data()));
  EXPECT_TRUE(fd.valid());
  ::unlink(name.c_str());
  EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  return fd;
}

void put(int fd, const std::string& text, std::uint64_t at) {
  ASSERT_EQ(::pwrite(fd, text.data(), text.size(), static_cast<off_t>(at)),
            static_cast<ssize_t>(text.size()));
}

std::string get(int fd, std::size_t size, std::uint64_t at) {
  std::string out(size, '?');
  EXPECT_EQ(::pread(fd, out.data(), size, static_cast<off_t>(at)), static_cast<ssize_t>(size));
  return out;
}

std::uint64_t on_disk(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

void expect_copied(int from) {
  const UniqueFd to = new_file(kBytes);
  const auto copied = copy_sparse(from, to.get(), kBytes);
  ASSERT_TRUE(copied.has_value()) << copied.error().text();
  for (const auto& [size, at] : {std::pair<std::size_t, std::uint64_t>{5, 0},
                                 {300'000, 9 << 20},
                                 {9000, (40 << 20) + 4000},
                                 {1 << 20, 20 << 20},
                                 {5, kBytes - 5}}) {
    EXPECT_EQ(get(to.get(), size, at), get(from, size, at)) << at;
  }
  EXPECT_EQ(file_size(to.get()).value(), kBytes);
  EXPECT_LE(on_disk(to.get()), on_disk(from));
}

void fill(int fd) {
  put(fd, "begin", 0);
  put(fd, std::string(300'000, 'x'), 9 << 20);
  put(fd, std::string(9000, 'y'), (40 << 20) + 4000);
  put(fd, "final", kBytes - 5);
}

TEST(SparseCopy, HolesStayHoles) {
  const UniqueFd from = new_file(kBytes);
  fill(from.get());
  expect_copied(from.get());
}

TEST(SparseCopy, ZerosOfAFileWithoutHolesBecomeHoles) {
  const UniqueFd from = new_file(kBytes);
  put(from.get(), std::string(kBytes, '\0'), 0);
  fill(from.get());
  ASSERT_GE(on_disk(from.get()), kBytes);
  const UniqueFd to = new_file(kBytes);
  ASSERT_TRUE(copy_sparse(from.get(), to.get(), kBytes).has_value());
  EXPECT_EQ(get(to.get(), 5, kBytes - 5), "final");
  EXPECT_EQ(get(to.get(), 9000, (40 << 20) + 4000), std::string(9000, 'y'));
  EXPECT_EQ(get(to.get(), 4096, 30 << 20), std::string(4096, '\0'));
  expect_copied(from.get());
}

TEST(SparseCopy, BetweenFileSystems) {
  const UniqueFd from = new_file(kBytes);
  fill(from.get());
  const UniqueFd to = memory_file("copy", {}).value();
  ASSERT_EQ(::ftruncate(to.get(), static_cast<off_t>(kBytes)), 0);
  ASSERT_TRUE(copy_sparse(from.get(), to.get(), kBytes).has_value());
  EXPECT_EQ(get(to.get(), 300'002, (9 << 20) - 1), get(from.get(), 300'002, (9 << 20) - 1));
  EXPECT_LT(on_disk(to.get()), 1u << 20);
  expect_copied(to.get());
}

TEST(SparseCopy, EmptyAndUnequalFiles) {
  const UniqueFd a = new_file(0), b = new_file(0), c = new_file(4096);
  EXPECT_TRUE(copy_sparse(a.get(), b.get(), 0).has_value());
  EXPECT_EQ(copy_sparse(a.get(), c.get(), 4096).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(copy_sparse(c.get(), a.get(), 4096).error().code(), Code::kInvalidArgument);
  const UniqueFd all_hole = new_file(4096);
  EXPECT_TRUE(copy_sparse(all_hole.get(), c.get(), 4096).has_value());
}

}  // namespace
}  // namespace sm
