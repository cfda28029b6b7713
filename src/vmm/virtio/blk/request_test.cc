#include "vmm/virtio/blk/request.h"

#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/file.h"
#include "support/chain_builder.h"

namespace sm::blk {
namespace {

using test::BuiltChain;
using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::RingFake;

constexpr std::uint64_t kSectors = 256;

// A disk in memory that can be told to fail.
class BackendFake : public BlockBackend {
 public:
  std::uint64_t size() const override { return reported_size; }
  Access access() const override { return Access::kReadWrite; }
  Status read(std::uint64_t offset, std::span<iovec> to) override {
    ++reads;
    for (const iovec& v : to) {
      if (!fits(offset, v.iov_len, bytes.size())) break;  // only the size is pretended
      std::memcpy(v.iov_base, bytes.data() + offset, v.iov_len);
      offset += v.iov_len;
    }
    return result;
  }
  Status write(std::uint64_t offset, std::span<iovec> from, Durability durability) override {
    last_durability = durability;
    for (const iovec& v : from) {
      std::memcpy(bytes.data() + offset, v.iov_base, v.iov_len);
      offset += v.iov_len;
    }
    return result;
  }
  Status flush() override { return ++flushes, result; }
  Status discard(std::uint64_t offset, std::uint64_t length) override {
    discards.emplace_back(offset, length);
    return result;
  }
  Status write_zeroes(std::uint64_t offset, std::uint64_t length, Unmap unmap) override {
    last_unmap = unmap;
    std::memset(bytes.data() + offset, 0, length);
    return result;
  }
  Status copy_to(int) override { return result; }

  std::string bytes = std::string(kSectors * kSectorBytes, 'd');
  std::uint64_t reported_size = kSectors * kSectorBytes;
  Status result;
  int reads = 0;
  int flushes = 0;
  Durability last_durability = Durability::kVolatile;
  Unmap last_unmap = Unmap::kForbidden;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> discards;
};

Header header(std::uint32_t type, std::uint64_t sector = 0) {
  return Header{.type = type, .ioprio = 0, .sector = sector};
}

class BlkRequestTest : public ::testing::Test {
 protected:
  BlkRequestTest() {
    disk_.backend = &backend_;
    std::memcpy(disk_.serial.data(), "serial-0123456789abc", kSerialBytes);
  }
  // Carries out the chain the builder describes.
  Outcome run(ChainBuilder& builder) {
    built_ = builder.build();
    return must(RequestExecutor(*memory_).execute(disk_, chain()));
  }
  Chain chain() const {
    Chain chain;
    chain.head = built_.head;
    for (const GuestBuffer& b : built_.readable)
      if (b.length != 0) chain.readable.push_back(b);
    for (const GuestBuffer& b : built_.writable)
      if (b.length != 0) chain.writable.push_back(b);
    return chain;
  }
  ChainBuilder request(std::uint32_t type, std::uint64_t sector = 0) {
    ChainBuilder builder(ring_);
    builder.readable_object(header(type, sector));
    return builder;
  }
  // The status byte, which must be what execute() said.
  std::uint8_t status(const Outcome& outcome) {
    EXPECT_EQ(std::to_integer<std::uint8_t>(built_.last_written(*memory_)), outcome.status);
    return outcome.status;
  }
  std::string read_back(std::uint64_t bytes) {
    const auto data = built_.written(*memory_, 0, bytes);
    return std::string(as_text(data));
  }
  Outcome run_ranges(std::uint32_t type, std::span<const Range> ranges) {
    auto builder = request(type);
    builder.readable(std::as_bytes(ranges)).writable(1);
    return run(builder);
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(128 << 20));
  GuestArena arena_{*memory_};
  RingFake ring_{arena_, 256};
  BackendFake backend_;
  Disk disk_;
  BuiltChain built_;
};

TEST_F(BlkRequestTest, read_gives_the_sectors) {
  backend_.bytes.replace(3 * 512, 1024, std::string(512, 'x') + std::string(512, 'y'));
  const Outcome o = run(request(VIRTIO_BLK_T_IN, 3).writable(1024).writable(1));
  EXPECT_EQ(status(o), VIRTIO_BLK_S_OK);
  EXPECT_EQ(o.written, 1025u);
  EXPECT_EQ(o.moved, 1024u);
  EXPECT_EQ(read_back(1024), std::string(512, 'x') + std::string(512, 'y'));
}

// The same request in every way of cutting it into descriptors must do the same.
TEST_F(BlkRequestTest, framing_does_not_matter) {
  for (std::size_t i = 0; i < 1536; ++i) backend_.bytes[i] = static_cast<char>('a' + i % 26);
  const Header h = header(VIRTIO_BLK_T_IN, 0);
  const auto bytes = std::as_bytes(std::span(&h, 1));
  for (const std::size_t cut : {1u, 5u, 8u, 15u, 16u}) {
    for (const std::uint32_t piece : {7u, 100u, 512u, 513u, 1537u}) {
      ChainBuilder builder(ring_);
      builder.readable(bytes.first(cut)).readable(bytes.subspan(cut));
      // The status shares a descriptor with data unless `piece` divides 1536.
      for (std::uint32_t left = 1537; left != 0; left -= std::min(piece, left)) {
        builder.writable(std::min(piece, left));
      }
      const Outcome o = run(builder);
      ASSERT_EQ(status(o), VIRTIO_BLK_S_OK) << cut << "/" << piece;
      ASSERT_EQ(o.written, 1537u);
      ASSERT_EQ(read_back(1536), backend_.bytes.substr(0, 1536));
      ring_.clear();
    }
  }
}

TEST_F(BlkRequestTest, header_and_data_in_one_descriptor_write) {
  const Header h = header(VIRTIO_BLK_T_OUT, 1);
  std::string text(reinterpret_cast<const char*>(&h), sizeof(h));
  text += std::string(512, 'w');
  const Outcome o = run(ChainBuilder(ring_).readable(text).writable(1));
  EXPECT_EQ(status(o), VIRTIO_BLK_S_OK);
  EXPECT_EQ(o.written, 1u);
  EXPECT_EQ(backend_.bytes.substr(512, 512), std::string(512, 'w'));
  EXPECT_EQ(backend_.last_durability, Durability::kVolatile);
}

TEST_F(BlkRequestTest, write_through_when_the_driver_cannot_flush) {
  disk_.write_through = true;
  run(request(VIRTIO_BLK_T_OUT).readable(std::string(512, 'w')).writable(1));
  EXPECT_EQ(backend_.last_durability, Durability::kDurable);
}

TEST_F(BlkRequestTest, transfers_off_the_disk_or_not_whole_sectors_fail) {
  const struct {
    std::uint64_t sector;
    std::uint32_t bytes;
  } bad[] = {{kSectors, 512},
             {kSectors - 1, 1024},
             {kSectors + 1, 512},
             {~0ull, 512},
             {~0ull, 1024},
             {1ull << 55, 512},
             {~0ull / 512, 512},
             {0, 1},
             {0, 511},
             {0, 513},
             {1ull << 63, 512},
             {(~0ull >> 9) + 1, 512},
             {kSectors + 1, 0}};
  for (const auto& b : bad) {
    const Outcome in = run(request(VIRTIO_BLK_T_IN, b.sector).writable(b.bytes).writable(1));
    EXPECT_EQ(status(in), VIRTIO_BLK_S_IOERR) << b.sector << "+" << b.bytes;
    EXPECT_EQ(in.written, b.bytes == 0 ? 1u : 0u);
    const Outcome out =
        run(request(VIRTIO_BLK_T_OUT, b.sector).readable(std::string(b.bytes, 'w')).writable(1));
    EXPECT_EQ(status(out), VIRTIO_BLK_S_IOERR) << b.sector << "+" << b.bytes;
    ring_.clear();
  }
  EXPECT_EQ(backend_.bytes, std::string(kSectors * kSectorBytes, 'd'));
}

TEST_F(BlkRequestTest, transfers_are_limited_to_the_announced_size) {
  backend_.reported_size = 1ull << 40;
  const GuestPhysAddr at = arena_.take(1 << 20);  // the same megabyte, many times
  for (const std::uint64_t bytes : {kMaxDataBytes, kMaxDataBytes + 512}) {
    auto builder = request(VIRTIO_BLK_T_IN);
    for (std::uint64_t left = bytes; left != 0;) {
      const auto n = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, 1 << 20));
      builder.buffer(at, n, ring::kWrite);
      left -= n;
    }
    const bool allowed = bytes == kMaxDataBytes;
    EXPECT_EQ(status(run(builder.writable(1))), allowed ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
    EXPECT_EQ(backend_.reads, 1);
  }
}

TEST_F(BlkRequestTest, read_only_disk_refuses_every_change) {
  disk_.read_only = true;
  const Range range{.sector = 0, .num_sectors = 1, .flags = 0};
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_OUT).readable(std::string(512, 'w')).writable(1))),
            VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_DISCARD, std::span(&range, 1))), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_WRITE_ZEROES, std::span(&range, 1))),
            VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(backend_.bytes, std::string(kSectors * kSectorBytes, 'd'));
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_FLUSH).writable(1))), VIRTIO_BLK_S_OK);
}

TEST_F(BlkRequestTest, empty_disk_answers_only_its_serial) {
  disk_.backend = nullptr;
  for (const std::uint32_t type :
       std::initializer_list<std::uint32_t>{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
                                            VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES}) {
    EXPECT_EQ(status(run(request(type).writable(1))), VIRTIO_BLK_S_IOERR) << type;
    EXPECT_EQ(status(run(request(type).writable(513))), VIRTIO_BLK_S_IOERR) << type;
  }
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_GET_ID).writable(21))), VIRTIO_BLK_S_OK);
}

TEST_F(BlkRequestTest, get_id_gives_twenty_bytes) {
  const Outcome o = run(request(VIRTIO_BLK_T_GET_ID).writable(20).writable(1));
  EXPECT_EQ(status(o), VIRTIO_BLK_S_OK);
  EXPECT_EQ(o.written, 21u);
  EXPECT_EQ(read_back(20), "serial-0123456789abc");
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_GET_ID).writable(19).writable(1))), VIRTIO_BLK_S_IOERR);
  const Outcome longer = run(request(VIRTIO_BLK_T_GET_ID).writable(100).writable(1));
  EXPECT_EQ(status(longer), VIRTIO_BLK_S_OK);
  EXPECT_EQ(longer.written, 20u) << "nothing was written between the serial and the status";
}

TEST_F(BlkRequestTest, unknown_types_are_unsupported) {
  for (const std::uint32_t type : {2u, 3u, 5u, 10u, 12u, 14u, 0x80000000u, 0xffffffffu}) {
    EXPECT_EQ(status(run(request(type).writable(512).writable(1))), VIRTIO_BLK_S_UNSUPP) << type;
  }
}

TEST_F(BlkRequestTest, short_header_fails_with_a_status) {
  EXPECT_EQ(status(run(ChainBuilder(ring_).readable("fifteen bytes..").writable(513))),
            VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run(ChainBuilder(ring_).writable(1))), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkRequestTest, no_status_byte_is_an_error) {
  built_ = ChainBuilder(ring_).readable_object(header(VIRTIO_BLK_T_FLUSH)).build();
  EXPECT_FALSE(RequestExecutor(*memory_).execute(disk_, chain()));
  built_ = request(VIRTIO_BLK_T_IN).writable(0).build();
  EXPECT_FALSE(RequestExecutor(*memory_).execute(disk_, chain()));
}

TEST_F(BlkRequestTest, backend_failures_become_a_status) {
  const Range range{.sector = 0, .num_sectors = 1, .flags = 0};
  for (const auto& [code, expected] : {std::pair{Code::kIo, VIRTIO_BLK_S_IOERR},
                                       std::pair{Code::kUnsupported, VIRTIO_BLK_S_UNSUPP}}) {
    backend_.result = fail(code, "broken on purpose");
    const Outcome in = run(request(VIRTIO_BLK_T_IN).writable(512).writable(1));
    EXPECT_EQ(status(in), expected);
    EXPECT_EQ(in.written, 0u);
    EXPECT_EQ(status(run(request(VIRTIO_BLK_T_OUT).readable(std::string(512, 'w')).writable(1))),
              expected);
    EXPECT_EQ(status(run(request(VIRTIO_BLK_T_FLUSH).writable(1))), expected);
    EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_DISCARD, std::span(&range, 1))), expected);
    EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_WRITE_ZEROES, std::span(&range, 1))), expected);
  }
}

TEST_F(BlkRequestTest, flush_reaches_the_backend) {
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_FLUSH).writable(1))), VIRTIO_BLK_S_OK);
  EXPECT_EQ(backend_.flushes, 1);
}

TEST_F(BlkRequestTest, discard_takes_several_ranges) {
  const Range ranges[] = {{0, 8, 0}, {16, 8, 0}, {32, 0, 0}};
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_DISCARD, ranges)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(backend_.discards,
            (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 4096}, {8192, 4096}}));
}

TEST_F(BlkRequestTest, write_zeroes_with_and_without_unmap) {
  for (const std::uint32_t flags : {0u, 1u}) {
    backend_.bytes.assign(backend_.bytes.size(), 'd');
    const Range range{2, 4, flags};
    const Outcome o = run_ranges(VIRTIO_BLK_T_WRITE_ZEROES, std::span(&range, 1));
    EXPECT_EQ(status(o), VIRTIO_BLK_S_OK);
    EXPECT_EQ(o.moved, 4u * 512);
    EXPECT_EQ(backend_.bytes.substr(0, 4096),
              std::string(1024, 'd') + std::string(2048, '\0') + std::string(1024, 'd'));
    EXPECT_EQ(backend_.last_unmap, flags == 0 ? Unmap::kForbidden : Unmap::kAllowed);
  }
}

TEST_F(BlkRequestTest, bad_ranges_change_nothing) {
  const Range good{0, 1, 0};
  const struct {
    std::uint32_t type;
    Range range;
    std::uint8_t expected;
  } bad[] = {
      {VIRTIO_BLK_T_DISCARD, {kSectors, 1, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {kSectors - 1, 2, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {~0ull, 1, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {~0ull, ~0u, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {1ull << 55, 1, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {0, kMaxDiscardSectors + 1, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_DISCARD, {0, 1, 1}, VIRTIO_BLK_S_UNSUPP},
      {VIRTIO_BLK_T_DISCARD, {0, 1, 2}, VIRTIO_BLK_S_UNSUPP},
      {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 2}, VIRTIO_BLK_S_UNSUPP},
      {VIRTIO_BLK_T_WRITE_ZEROES, {0, 1, 0x80000001}, VIRTIO_BLK_S_UNSUPP},
      {VIRTIO_BLK_T_WRITE_ZEROES, {0, kMaxZeroSectors + 1, 0}, VIRTIO_BLK_S_IOERR},
      {VIRTIO_BLK_T_WRITE_ZEROES, {kSectors, 1, 0}, VIRTIO_BLK_S_IOERR},
  };
  for (const auto& b : bad) {
    const Range ranges[] = {good, b.range};
    const auto used = std::span(ranges).subspan(b.type == VIRTIO_BLK_T_DISCARD ? 0 : 1);
    EXPECT_EQ(status(run_ranges(b.type, used)), b.expected) << b.range.sector;
  }
  EXPECT_TRUE(backend_.discards.empty());
  EXPECT_EQ(backend_.bytes, std::string(kSectors * kSectorBytes, 'd'));
}

TEST_F(BlkRequestTest, range_lists_of_wrong_length_fail) {
  const std::vector<Range> many(kMaxDiscardRanges + 1, Range{0, 1, 0});
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_DISCARD, many)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_WRITE_ZEROES, std::span(many).first(2))),
            VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run_ranges(VIRTIO_BLK_T_DISCARD, {})), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(run(request(VIRTIO_BLK_T_DISCARD).readable("seventeen bytes..").writable(1))),
            VIRTIO_BLK_S_IOERR);
  EXPECT_TRUE(backend_.discards.empty());
}

}  // namespace
}  // namespace sm::blk
