#include "vmm/virtio/blk/device.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/file.h"
#include "support/virtio_conformance.h"

namespace sm {
namespace {

using test::BuiltChain;
using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::VirtioDriverFake;

constexpr std::size_t kDiskBytes = 1 << 20;

std::unique_ptr<FileBackend> file_disk(Access access, std::size_t bytes = kDiskBytes) {
  return must(
      FileBackend::create(must(memory_file("disk", std::vector<std::byte>(bytes))), access));
}

template <Access kAccess, bool kBound>
struct BlkHarness {
  static constexpr std::uint32_t kEagerQueues = 1;
  static std::unique_ptr<VirtioDevice> make(GuestMemory&, EventLoop&, Log&) {
    return must(BlkDevice::create({.name = "blk", .serial = "layer0", .access = kAccess},
                                  kBound ? file_disk(kAccess) : nullptr));
  }
};
using ReadOnlyBlk = BlkHarness<Access::kReadOnly, true>;
using ReadWriteBlk = BlkHarness<Access::kReadWrite, true>;
using EmptyBlk = BlkHarness<Access::kReadWrite, false>;

// A disk behind a transport with a running driver.
class BlkDeviceTest : public ::testing::Test {
 protected:
  void start(Access access, std::unique_ptr<BlockBackend> backend) {
    device_ = must(
        BlkDevice::create({.name = "blk", .serial = "data", .access = access}, std::move(backend)));
    transport_ = must(MmioTransport::create(
        {*device_, *memory_, std::make_unique<test::IrqLineFake>(interrupts_), *loop_, log_}));
    driver_ = std::make_unique<VirtioDriverFake>(*transport_, arena_);
    ASSERT_TRUE(driver_->start(128));
  }
  ChainBuilder request(std::uint32_t type, std::uint64_t sector) {
    ChainBuilder builder(driver_->ring(0));
    builder.readable_object(blk::Header{.type = type, .ioprio = 0, .sector = sector});
    return builder;
  }
  std::uint32_t finish() {
    driver_->kick(0);
    const auto used = driver_->wait_used(*loop_, 0);
    EXPECT_TRUE(used);
    return used ? used->length : 0;
  }
  std::uint8_t status(const BuiltChain& built) {
    return std::to_integer<std::uint8_t>(built.last_written(*memory_));
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(32 << 20));
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  Log log_ = Log::none();
  GuestArena arena_{*memory_};
  std::atomic<int> interrupts_{0};
  std::unique_ptr<BlkDevice> device_;
  std::unique_ptr<MmioTransport> transport_;
  std::unique_ptr<VirtioDriverFake> driver_;
};

TEST_F(BlkDeviceTest, create_refuses_long_serials_and_read_only_backends_of_writable_disks) {
  EXPECT_FALSE(BlkDevice::create({.name = "b", .serial = std::string(21, 's')}, nullptr));
  EXPECT_TRUE(BlkDevice::create({.name = "b", .serial = std::string(20, 's')}, nullptr));
  EXPECT_FALSE(BlkDevice::create({.name = "b", .serial = "", .access = Access::kReadWrite},
                                 file_disk(Access::kReadOnly)));
  EXPECT_TRUE(BlkDevice::create({.name = "b", .serial = "", .access = Access::kReadOnly},
                                file_disk(Access::kReadWrite)));
}

TEST_F(BlkDeviceTest, config_describes_the_disk) {
  start(Access::kReadWrite, file_disk(Access::kReadWrite));
  const auto config = driver_->read_config<blk::Config>(0);
  EXPECT_EQ(config.capacity, kDiskBytes / 512);
  EXPECT_EQ(config.blk_size, 512u);
  EXPECT_EQ(config.seg_max, blk::kMaxSegments);
  EXPECT_EQ(config.size_max, blk::kMaxSegmentBytes);
  EXPECT_EQ(config.max_discard_seg, blk::kMaxDiscardRanges);
  EXPECT_EQ(config.max_write_zeroes_sectors, blk::kMaxZeroSectors);
}

TEST_F(BlkDeviceTest, features_depend_on_access) {
  start(Access::kReadOnly, file_disk(Access::kReadOnly));
  EXPECT_NE(device_->features() & 1ull << VIRTIO_BLK_F_RO, 0u);
  EXPECT_EQ(device_->features() & 1ull << VIRTIO_BLK_F_DISCARD, 0u);
  EXPECT_EQ(driver_->read_config<blk::Config>(0).max_discard_sectors, 0u);
}

TEST_F(BlkDeviceTest, what_is_written_can_be_read) {
  start(Access::kReadWrite, file_disk(Access::kReadWrite));
  const BuiltChain out =
      request(VIRTIO_BLK_T_OUT, 9).readable(std::string(4096, 'k')).writable(1).offer();
  EXPECT_EQ(finish(), 1u);
  EXPECT_EQ(status(out), VIRTIO_BLK_S_OK);
  const BuiltChain in = request(VIRTIO_BLK_T_IN, 8).writable(1024).writable(1).indirect().offer();
  EXPECT_EQ(finish(), 1025u);
  EXPECT_EQ(status(in), VIRTIO_BLK_S_OK);
  const auto data = in.written(*memory_, 0, 1024);
  EXPECT_EQ(as_text(data), std::string(512, '\0') + std::string(512, 'k'));
}

TEST_F(BlkDeviceTest, knows_whether_the_guest_has_changed_it) {
  start(Access::kReadWrite, file_disk(Access::kReadWrite));
  request(VIRTIO_BLK_T_IN, 0).writable(512).writable(1).offer();
  finish();
  request(VIRTIO_BLK_T_FLUSH, 0).writable(1).offer();
  finish();
  EXPECT_FALSE(device_->changed());
  request(VIRTIO_BLK_T_OUT, 0).readable(std::string(512, 'k')).writable(1).offer();
  finish();
  EXPECT_TRUE(device_->changed());
  driver_->reset();
  EXPECT_TRUE(device_->changed());
}

TEST_F(BlkDeviceTest, request_without_status_needs_a_reset) {
  start(Access::kReadWrite, file_disk(Access::kReadWrite));
  request(VIRTIO_BLK_T_FLUSH, 0).offer();
  driver_->kick(0);
  EXPECT_TRUE(driver_->wait_needs_reset(*loop_));
  EXPECT_EQ(driver_->ring(0).used_index(), 0);
  driver_->reset();
  EXPECT_TRUE(driver_->start(128));
  request(VIRTIO_BLK_T_FLUSH, 0).writable(1).offer();
  EXPECT_EQ(finish(), 1u);
}

TEST_F(BlkDeviceTest, batch_shares_one_interrupt) {
  start(Access::kReadOnly, file_disk(Access::kReadOnly));
  test::run_until(*loop_, [&] { return true; });
  for (int i = 0; i < 16; ++i) request(VIRTIO_BLK_T_IN, 0).writable(512).writable(1).offer();
  driver_->kick(0);
  ASSERT_TRUE(test::run_until(*loop_, [&] { return driver_->ring(0).used_index() == 16; }));
  EXPECT_EQ(interrupts_, 1);
}

TEST_F(BlkDeviceTest, more_than_one_turn_is_worked_off_without_another_kick) {
  start(Access::kReadOnly, file_disk(Access::kReadOnly));
  constexpr int kRequests = BlkDevice::kMaxChainsPerTurn + 10;
  for (int i = 0; i < kRequests; ++i) request(VIRTIO_BLK_T_IN, 0).writable(513).offer();
  driver_->kick(0);
  EXPECT_TRUE(test::run_until(*loop_, [&] { return driver_->ring(0).used_index() == kRequests; }));
}

TEST_F(BlkDeviceTest, large_requests_end_a_turn_early) {
  start(Access::kReadOnly, file_disk(Access::kReadOnly));
  for (int i = 0; i < 4; ++i) request(VIRTIO_BLK_T_IN, 0).writable(kDiskBytes).writable(1).offer();
  loop_->run_once(Deadline::after(std::chrono::seconds(5)));
  EXPECT_EQ(driver_->ring(0).used_index(), 1);
  EXPECT_TRUE(test::run_until(*loop_, [&] { return driver_->ring(0).used_index() == 4; }));
}

TEST_F(BlkDeviceTest, disk_bound_late_announces_its_capacity) {
  start(Access::kReadWrite, nullptr);
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), 0u);
  const std::uint32_t generation = driver_->read32(VIRTIO_MMIO_CONFIG_GENERATION);
  EXPECT_FALSE(device_->bind(file_disk(Access::kReadOnly))) << "the disk is writable";
  ASSERT_TRUE(device_->bind(file_disk(Access::kReadWrite)));
  EXPECT_EQ(interrupts_, 1);
  EXPECT_EQ(driver_->interrupt_status(), std::uint32_t{VIRTIO_MMIO_INT_CONFIG});
  EXPECT_NE(driver_->read32(VIRTIO_MMIO_CONFIG_GENERATION), generation);
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), kDiskBytes / 512);
  EXPECT_FALSE(device_->bind(file_disk(Access::kReadWrite))) << "already bound";
  const BuiltChain in = request(VIRTIO_BLK_T_IN, 0).writable(513).offer();
  finish();
  EXPECT_EQ(status(in), VIRTIO_BLK_S_OK);
}

// Whatever a guest asks of a disk that nothing is bound to fails, the name excepted, and nothing of
// it is carried out later.
TEST_F(BlkDeviceTest, empty_disk_refuses_everything_and_stays_usable) {
  start(Access::kReadWrite, nullptr);
  const std::string sector(512, 'x');
  const blk::Range all{.sector = 0, .num_sectors = 8, .flags = 0};
  const auto range = std::as_bytes(std::span(&all, 1));
  std::vector<BuiltChain> refused;
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    refused.push_back(request(VIRTIO_BLK_T_IN, at).writable(513).offer());
    refused.push_back(request(VIRTIO_BLK_T_IN, at).writable(1).offer());
    refused.push_back(request(VIRTIO_BLK_T_OUT, at).readable(sector).writable(1).offer());
    refused.push_back(request(VIRTIO_BLK_T_OUT, at).writable(1).offer());
    refused.push_back(request(VIRTIO_BLK_T_DISCARD, at).readable(range).writable(1).offer());
    refused.push_back(request(VIRTIO_BLK_T_WRITE_ZEROES, at).readable(range).writable(1).offer());
    refused.push_back(request(VIRTIO_BLK_T_FLUSH, at).writable(1).offer());
    refused.push_back(request(0xdead'beef, at).writable(1).offer());
  }
  const BuiltChain name = request(VIRTIO_BLK_T_GET_ID, 0).writable(21).offer();
  driver_->kick(0);
  ASSERT_TRUE(
      test::run_until(*loop_, [&] { return driver_->ring(0).used_index() == refused.size() + 1; }));
  for (const BuiltChain& chain : refused) EXPECT_EQ(status(chain), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(status(name), VIRTIO_BLK_S_OK);
  EXPECT_FALSE(device_->changed());

  ASSERT_TRUE(device_->bind(file_disk(Access::kReadWrite)));
  const BuiltChain in = request(VIRTIO_BLK_T_IN, 0).writable(513).offer();
  driver_->kick(0);
  ASSERT_TRUE(
      test::run_until(*loop_, [&] { return driver_->ring(0).used_index() == refused.size() + 2; }));
  EXPECT_EQ(status(in), VIRTIO_BLK_S_OK);
  EXPECT_EQ(as_text(in.written(*memory_, 0, 512)), std::string(512, '\0'));
}

TEST_F(BlkDeviceTest, disk_bound_before_there_is_a_driver_is_announced_to_it) {
  device_ = must(BlkDevice::create({.name = "blk", .serial = "data"}, nullptr));
  transport_ = must(MmioTransport::create(
      {*device_, *memory_, std::make_unique<test::IrqLineFake>(interrupts_), *loop_, log_}));
  ASSERT_TRUE(device_->bind(file_disk(Access::kReadOnly)));
  EXPECT_EQ(interrupts_, 0);
  driver_ = std::make_unique<VirtioDriverFake>(*transport_, arena_);
  ASSERT_TRUE(driver_->start(128));
  EXPECT_EQ(driver_->interrupt_status(), std::uint32_t{VIRTIO_MMIO_INT_CONFIG});
  EXPECT_EQ(driver_->read_config<std::uint64_t>(0), kDiskBytes / 512);
}

TEST_F(BlkDeviceTest, saved_empty_disk_gets_one_when_it_goes_on) {
  start(Access::kReadOnly, nullptr);
  EXPECT_EQ(device_->describe().bytes, 0u);
  const VirtioState saved = transport_->state();
  auto device = must(BlkDevice::create({.name = "blk", .serial = "data"}, nullptr));
  std::atomic<int> interrupts{0};
  auto transport = must(MmioTransport::create(
      {*device, *memory_, std::make_unique<test::IrqLineFake>(interrupts), *loop_, log_}));
  ASSERT_TRUE(transport->set_state(saved));
  ASSERT_TRUE(device->bind(file_disk(Access::kReadOnly)));
  EXPECT_EQ(interrupts, 1);
  EXPECT_EQ(transport->state().interrupt_status, std::uint32_t{VIRTIO_MMIO_INT_CONFIG});
  EXPECT_EQ(transport->state().config_generation, saved.config_generation + 1);
  EXPECT_EQ(device->describe().bytes, kDiskBytes);

  // Its driver has taken the disk as read-only: a writable one in its place is another device.
  auto writable = must(
      BlkDevice::create({.name = "blk", .serial = "data", .access = Access::kReadWrite}, nullptr));
  auto other = must(MmioTransport::create(
      {*writable, *memory_, std::make_unique<test::IrqLineFake>(interrupts), *loop_, log_}));
  EXPECT_FALSE(other->set_state(saved));
}

TEST_F(BlkDeviceTest, without_the_flush_feature_writes_still_work) {
  start(Access::kReadWrite, file_disk(Access::kReadWrite));
  driver_->reset();
  ASSERT_TRUE(driver_->start(128, 1ull << VIRTIO_BLK_F_FLUSH));
  const BuiltChain out =
      request(VIRTIO_BLK_T_OUT, 0).readable(std::string(512, 'k')).writable(1).offer();
  finish();
  EXPECT_EQ(status(out), VIRTIO_BLK_S_OK);
}

}  // namespace
}  // namespace sm

namespace sm::test {
using BlkHarnesses = ::testing::Types<ReadOnlyBlk, ReadWriteBlk, EmptyBlk>;
INSTANTIATE_TYPED_TEST_SUITE_P(Blk, VirtioConformance, BlkHarnesses);
}  // namespace sm::test
