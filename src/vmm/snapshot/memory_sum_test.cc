#include "vmm/snapshot/memory_sum.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "base/crc32c.h"
#include "base/file.h"
#include "vmm/snapshot/manifest.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

using snapshot_testing::page_of;
using snapshot_testing::TemporaryFolder;

constexpr std::uint64_t kMemory = 1 << 20;

class Image {
 public:
  explicit Image(std::uint64_t bytes = kMemory) {
    auto fd = open_file(folder_ / "image", O_RDWR | O_CREAT);
    EXPECT_TRUE(fd.has_value());
    fd_ = *std::move(fd);
    EXPECT_EQ(::ftruncate(fd_.get(), static_cast<off_t>(bytes)), 0);
  }
  int fd() const { return fd_.get(); }
  void write(std::uint64_t at, std::span<const std::byte> bytes) const {
    ASSERT_EQ(::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  std::vector<ChunkSum> sums(std::uint64_t bytes = kMemory) const {
    auto result = sum_memory(fd_.get(), bytes);
    EXPECT_TRUE(result.has_value()) << result.error().text();
    return *std::move(result);
  }

 private:
  TemporaryFolder folder_;
  UniqueFd fd_;
};

TEST(SumMemory, HolesAndZeroPagesAreTheSame) {
  const Image image;
  EXPECT_TRUE(image.sums().empty());
  image.write(3 * kSumChunkBytes, std::vector<std::byte>(3 * kPageBytes));
  EXPECT_TRUE(image.sums().empty());
}

TEST(SumMemory, SumsWhatIsNotZero) {
  const Image image;
  const auto a = page_of(1);
  const auto b = page_of(2);
  image.write(0, a);
  image.write(2 * kPageBytes, b);
  image.write(kMemory - kPageBytes, b);
  const std::vector<ChunkSum> expected{{0, 0b101, crc32c(b, crc32c(a))},
                                       {kMemory / kSumChunkBytes - 1, 1u << 15, crc32c(b)}};
  EXPECT_EQ(image.sums(), expected);
}

TEST(SumMemory, AgreesWithAPlainReadingOfTheFile) {
  std::mt19937 random(7);
  // More than one read at a time, and an end inside of a chunk.
  constexpr std::uint64_t kBytes = (4 << 20) + 3 * kPageBytes;
  const Image image(kBytes);
  std::vector<std::byte> content(kBytes);
  for (std::uint32_t i = 0; i < 400; ++i) {
    const std::uint64_t at = random() % (kBytes / kPageBytes) * kPageBytes;
    const auto page = page_of(i);
    std::copy(page.begin(), page.end(), content.begin() + static_cast<std::ptrdiff_t>(at));
    image.write(at, page);
  }
  std::vector<ChunkSum> expected;
  const std::vector<std::byte> zeros(kPageBytes);
  for (std::uint64_t at = 0; at < kBytes; at += kPageBytes) {
    const auto page = std::span<const std::byte>(content).subspan(at, kPageBytes);
    if (std::equal(page.begin(), page.end(), zeros.begin())) continue;
    const auto chunk = static_cast<std::uint32_t>(at / kSumChunkBytes);
    if (expected.empty() || expected.back().chunk != chunk) expected.push_back({chunk, 0, 0});
    expected.back().pages |= static_cast<std::uint16_t>(1u << (at / kPageBytes % kSumChunkPages));
    expected.back().crc = crc32c(page, expected.back().crc);
  }
  EXPECT_EQ(image.sums(kBytes), expected);
}

TEST(SumMemory, AShortFileIsAnError) {
  const Image image;
  image.write(0, page_of(1));
  ASSERT_EQ(::ftruncate(image.fd(), 100), 0);
  const auto result = sum_memory(image.fd(), kMemory);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kGone);
}

TEST(CompareSums, NamesTheFirstDifference) {
  const std::vector<ChunkSum> sums{{1, 1, 10}, {3, 2, 20}};
  EXPECT_TRUE(compare_sums(sums, sums).has_value());
  const auto at = [&](std::vector<ChunkSum> found) {
    const auto status = compare_sums(sums, found);
    if (status) return std::string("same");
    EXPECT_EQ(status.error().code(), Code::kCorrupt);
    const auto& text = status.error().cause();
    return text.substr(text.rfind(' ') + 1);
  };
  EXPECT_EQ(at({{1, 1, 11}, {3, 2, 20}}), "65536");
  EXPECT_EQ(at({{1, 1, 10}, {3, 3, 20}}), "196608");
  EXPECT_EQ(at({{1, 1, 10}}), "196608");
  EXPECT_EQ(at({{1, 1, 10}, {2, 1, 1}, {3, 2, 20}}), "131072");
  EXPECT_EQ(at({{1, 1, 10}, {3, 2, 20}, {5, 1, 1}}), "327680");
}

MemorySum example() {
  return {.memory_bytes = kMemory,
          .manifest_crc = 0x12345678,
          .own_pages = std::vector<PageRange>{{0, 3}, {5, 1}, {32, 224}},
          .chunks = {{0, 0b100101, 7}, {15, 0x8000, 8}}};
}

Code code_of(const Result<MemorySum>& result) {
  return result ? Code::kInternal : result.error().code();
}

TEST(MemorySum, ComesBack) {
  MemorySum sum = example();
  EXPECT_EQ(decode_memory_sum(encode_memory_sum(sum), kMemory).value(), sum);
  sum.own_pages->clear();
  sum.chunks.clear();
  EXPECT_EQ(decode_memory_sum(encode_memory_sum(sum), kMemory).value(), sum);
  sum.own_pages.reset();
  EXPECT_EQ(decode_memory_sum(encode_memory_sum(sum), kMemory).value(), sum);
}

TEST(MemorySum, EveryFlippedBitTruncationAndExtensionIsFound) {
  const auto good = encode_memory_sum(example());
  auto bytes = good;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= static_cast<std::byte>(1 << bit);
      ASSERT_FALSE(decode_memory_sum(bytes, kMemory).has_value()) << i << ", " << bit;
      bytes[i] = good[i];
    }
    const auto cut = std::span<const std::byte>(bytes).first(i);
    ASSERT_EQ(code_of(decode_memory_sum(cut, kMemory)), Code::kCorrupt) << i;
  }
  bytes.push_back(std::byte{0});
  EXPECT_EQ(code_of(decode_memory_sum(bytes, kMemory)), Code::kCorrupt);
}

TEST(MemorySum, RefusesTablesThatCannotBe) {
  const auto with = [](auto change) {
    MemorySum sum = example();
    change(sum);
    return code_of(decode_memory_sum(encode_memory_sum(sum), kMemory));
  };
  EXPECT_EQ(with([](MemorySum& s) { s.memory_bytes += kPageBytes; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{0, 256}, {255, 1}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{0, 3}, {3, 253}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{0, 0}, {3, 253}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{0, 257}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{1, ~0ull}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.own_pages = {{{0, 3}, {32, 224}}}; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.chunks[1].chunk = 16; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.chunks[1].chunk = 0; }), Code::kCorrupt);
  EXPECT_EQ(with([](MemorySum& s) { s.chunks[0].pages = 0; }), Code::kCorrupt);
}

TEST(MemorySum, CountsAreCheckedBeforeTheyAreUsed) {
  for (const std::size_t field : {24u, 32u}) {  // ranges, chunks
    auto bytes = encode_memory_sum(example());
    for (std::size_t i = 0; i < 8; ++i) bytes[field + i] = std::byte{0xFF};
    EXPECT_EQ(code_of(decode_memory_sum(bytes, kMemory)), Code::kCorrupt);
  }
  EXPECT_EQ(code_of(decode_memory_sum(encode_memory_sum(example()), kMaxSnapshotMemory + 1)),
            Code::kLimit);
  auto bytes = encode_memory_sum(example());
  bytes[8] = std::byte{2};
  EXPECT_EQ(code_of(decode_memory_sum(bytes, kMemory)), Code::kUnsupported);
}

}  // namespace
}  // namespace sm
