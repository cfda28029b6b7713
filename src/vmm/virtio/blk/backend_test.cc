#include "vmm/virtio/blk/backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "support/guest_arena.h"

namespace sm {
namespace {

using test::must;

class FileBackendTest : public ::testing::Test {
 protected:
  std::unique_ptr<FileBackend> open(std::string_view content, Access access) {
    UniqueFd file = must(memory_file("disk", as_byte_span(content)));
    fd_ = file.get();
    return must(FileBackend::create(std::move(file), access));
  }
  std::unique_ptr<FileBackend> open_on_disk() {
    UniqueFd file(::open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    fd_ = file.get();
    EXPECT_EQ(::ftruncate(fd_, 1 << 20), 0);
    return must(FileBackend::create(std::move(file), Access::kReadWrite));
  }
  // Reads `length` bytes at `offset` into buffers of `piece` bytes.
  Result<std::string> read(FileBackend& disk, std::uint64_t offset, std::size_t length,
                           std::size_t piece) {
    std::string out(length, '?');
    auto iovecs = cut(out, piece);
    SM_TRY_STATUS(disk.read(offset, iovecs));
    return out;
  }
  Status write(FileBackend& disk, std::uint64_t offset, std::string text, std::size_t piece,
               Durability durability = Durability::kVolatile) {
    auto iovecs = cut(text, piece);
    return disk.write(offset, iovecs, durability);
  }
  static std::vector<iovec> cut(std::string& bytes, std::size_t piece) {
    std::vector<iovec> iovecs;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      iovecs.push_back({bytes.data() + at, std::min(piece, bytes.size() - at)});
    }
    return iovecs;
  }
  std::string content() {
    const std::uint64_t size = must(file_size(fd_));
    std::string out(size, '?');
    EXPECT_EQ(::pread(fd_, out.data(), size, 0), static_cast<ssize_t>(size));
    return out;
  }
  int fd_ = -1;
};

std::string pattern(std::size_t bytes) {
  std::string out(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>('a' + i * 7 % 26);
  return out;
}

TEST_F(FileBackendTest, read_only_size_is_rounded_up_to_sectors) {
  for (const std::size_t bytes : {0u, 1u, 511u, 512u, 513u, 4096u}) {
    EXPECT_EQ(open(std::string(bytes, 'x'), Access::kReadOnly)->size(), (bytes + 511) / 512 * 512);
  }
}

TEST_F(FileBackendTest, writable_size_must_be_whole_sectors) {
  auto bad =
      FileBackend::create(must(memory_file("disk", as_byte_span("abc"))), Access::kReadWrite);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(open(std::string(1024, 'x'), Access::kReadWrite)->size(), 1024u);
}

TEST_F(FileBackendTest, not_a_file_is_refused) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd other(ends[1]);
  EXPECT_FALSE(FileBackend::create(UniqueFd(ends[0]), Access::kReadOnly));
}

TEST_F(FileBackendTest, read_into_pieces_of_every_size) {
  const std::string bytes = pattern(4096);
  auto disk = open(bytes, Access::kReadOnly);
  for (const std::size_t piece : {1u, 3u, 511u, 512u, 513u, 4096u}) {
    EXPECT_EQ(must(read(*disk, 512, 2048, piece)), bytes.substr(512, 2048)) << piece;
  }
}

TEST_F(FileBackendTest, read_with_more_pieces_than_one_call_takes) {
  const std::string bytes = pattern(8192);
  auto disk = open(bytes, Access::kReadOnly);
  ASSERT_GT(8192 / 3, 2 * IOV_MAX);
  EXPECT_EQ(must(read(*disk, 0, 8192, 3)), bytes);
}

TEST_F(FileBackendTest, read_of_the_last_part_sector_ends_in_zeros) {
  auto disk = open(pattern(700), Access::kReadOnly);
  const std::string expected = pattern(700) + std::string(324, '\0');
  EXPECT_EQ(must(read(*disk, 0, 1024, 1024)), expected);
  EXPECT_EQ(must(read(*disk, 512, 512, 100)), expected.substr(512));
}

TEST_F(FileBackendTest, read_of_a_file_that_has_shrunk_fails) {
  auto disk = open(pattern(4096), Access::kReadOnly);
  ASSERT_EQ(::ftruncate(fd_, 1024), 0);
  EXPECT_TRUE(read(*disk, 0, 1024, 512));
  const auto lost = read(*disk, 512, 1024, 512);
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code(), Code::kIo);
  EXPECT_FALSE(read(*disk, 2048, 512, 512));
}

TEST_F(FileBackendTest, write_from_pieces_of_every_size) {
  for (const std::size_t piece : {1u, 3u, 512u, 2048u}) {
    for (const Durability durability : {Durability::kVolatile, Durability::kDurable}) {
      auto disk = open(std::string(4096, '.'), Access::kReadWrite);
      ASSERT_TRUE(write(*disk, 1024, pattern(2048), piece, durability));
      EXPECT_EQ(content(), std::string(1024, '.') + pattern(2048) + std::string(1024, '.'));
    }
  }
}

TEST_F(FileBackendTest, write_to_a_full_file_system_fails) {
  auto disk = open(std::string(4096, '.'), Access::kReadWrite);
  UniqueFd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  ASSERT_GE(::dup2(full.get(), fd_), 0);
  EXPECT_FALSE(write(*disk, 0, pattern(512), 512));
}

// Both the file system of memory files, which cannot zero ranges itself, and the one of the
// build folder.
TEST_F(FileBackendTest, write_zeroes_and_flush_on_two_file_systems) {
  for (const bool in_memory : {true, false}) {
    for (const Unmap unmap : {Unmap::kForbidden, Unmap::kAllowed}) {
      auto disk = in_memory ? open(pattern(1 << 20), Access::kReadWrite) : open_on_disk();
      ASSERT_TRUE(write(*disk, 0, pattern(1 << 20), 1 << 20));
      ASSERT_TRUE(disk->write_zeroes(512, 300 * 1024, unmap));
      std::string expected = pattern(1 << 20);
      expected.replace(512, 300 * 1024, 300 * 1024, '\0');
      EXPECT_EQ(content(), expected);
      EXPECT_TRUE(disk->flush());
    }
  }
}

TEST_F(FileBackendTest, discard_frees_space_and_keeps_the_size) {
  auto disk = open(pattern(1 << 20), Access::kReadWrite);
  ASSERT_TRUE(disk->discard(0, 1 << 20));
  struct stat st {};
  ASSERT_EQ(::fstat(fd_, &st), 0);
  EXPECT_EQ(st.st_size, 1 << 20);
  EXPECT_EQ(st.st_blocks, 0);
}

}  // namespace
}  // namespace sm
