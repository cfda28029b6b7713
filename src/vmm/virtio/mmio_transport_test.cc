#include "vmm/virtio/mmio_transport.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <deque>

#include "support/virtio_driver_fake.h"

namespace sm {
namespace {

using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::VirtioDriverFake;

// A device that does as a test says.
class DeviceFake : public VirtioDevice {
 public:
  std::string_view name() const override { return "fake"; }
  VirtioDeviceType type() const override { return VirtioDeviceType::kBalloon; }
  std::uint64_t features() const override { return 1ull << 40 | kRingEventIdx | 7; }
  std::span<const std::uint16_t> queue_max_sizes() const override { return kSizes; }
  void attach(VirtioInterrupt& i, std::mutex& l) override {
    interrupt = &i;
    lock = &l;
  }
  void read_config(std::uint32_t offset, std::span<std::byte> out) const override {
    copy_config(std::as_bytes(std::span(&config, 1)), offset, out);
  }
  void write_config(std::uint32_t offset, std::span<const std::byte> in) override {
    config_writes.emplace_back(offset, in.size());
  }
  Status activate(VirtioActivation a) override {
    activation = std::move(a);
    return activate_result;
  }
  Result<bool> process_queue(std::uint32_t index) override {
    processed.push_back(index);
    if (results.empty()) return false;
    auto result = std::move(results.front());
    results.pop_front();
    return result;
  }
  QueuePosition queue_position(std::uint32_t index) const override {
    return activation.queues[index].position();
  }
  void reset() override { ++resets; }

  static constexpr std::uint16_t kSizes[] = {16, 32};
  VirtioInterrupt* interrupt = nullptr;
  std::mutex* lock = nullptr;
  std::uint64_t config = 0x0807060504030201;
  std::vector<std::pair<std::uint32_t, std::size_t>> config_writes;
  VirtioActivation activation;
  Status activate_result;
  std::vector<std::uint32_t> processed;
  std::deque<Result<bool>> results;  // of the next process_queue() calls, then false
  int resets = 0;
};

// Records ioevents, or says that it has none.
class EngineFake : public EngineVm {
 public:
  struct Ioevent {
    GuestPhysAddr address;
    std::uint32_t value;
    int fd;
  };
  explicit EngineFake(Status result) : result_(std::move(result)) {}
  std::string_view engine_name() const override { return "fake"; }
  EngineCpu cpu() const override { return {"fake", {}}; }
  Status map_memory(const GuestMemory&) override { return {}; }
  Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t) override {
    return fail(Code::kUnsupported, "none");
  }
  Status register_ioevent(GuestPhysAddr address, std::uint32_t value, int fd) override {
    if (result_) ioevents.push_back({address, value, fd});
    return result_;
  }
  Result<std::unique_ptr<EngineVcpu>> create_vcpu(std::uint32_t, std::uint32_t) override {
    return fail(Code::kUnsupported, "none");
  }
  Result<PlatformState> platform_state() const override { return PlatformState{}; }
  Status set_platform_state(const PlatformState&) override { return {}; }
  std::vector<Ioevent> ioevents;

 private:
  Status result_;
};

class MmioTransportTest : public ::testing::Test {
 protected:
  void turn() { loop_->run_once(Deadline::after(std::chrono::nanoseconds(0))); }
  void settle() {
    for (int i = 0; i < 5; ++i) turn();
  }
  void start() {
    ASSERT_TRUE(driver_.start());
    settle();
    device_.processed.clear();
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(4 << 20));
  std::unique_ptr<EventLoop> loop_ = must(EventLoop::create());
  Log log_ = Log::none();
  DeviceFake device_;
  std::atomic<int> interrupts_{0};
  GuestArena arena_{*memory_};
  std::unique_ptr<MmioTransport> transport_ = must(MmioTransport::create(
      {device_, *memory_, std::make_unique<test::IrqLineFake>(interrupts_), *loop_, log_}));
  VirtioDriverFake driver_{*transport_, arena_};
};

TEST_F(MmioTransportTest, features_are_shown_in_two_halves) {
  EXPECT_EQ(driver_.offered_features(), device_.features() | kVirtioVersion1);
}

TEST_F(MmioTransportTest, activation_carries_what_was_negotiated) {
  ASSERT_TRUE(driver_.negotiate(kVirtioVersion1 | kRingEventIdx | 2));
  driver_.set_driver_features(~0ull);  // too late
  driver_.add_queue(1, 8);
  driver_.driver_ok();
  EXPECT_EQ(device_.activation.features, kRingEventIdx | 2);
  ASSERT_EQ(device_.activation.queues.size(), 2u);
  EXPECT_FALSE(device_.activation.queues[0].ready());
  EXPECT_TRUE(device_.activation.queues[1].ready());
  EXPECT_EQ(device_.activation.queues[1].size(), 8);
}

TEST_F(MmioTransportTest, activation_processes_ready_queues_once) {
  ASSERT_TRUE(driver_.negotiate(driver_.offered_features()));
  driver_.add_queue(1, 8);
  driver_.driver_ok();
  EXPECT_TRUE(device_.processed.empty()) << "not on the vCPU's thread";
  settle();
  EXPECT_EQ(device_.processed, (std::vector<std::uint32_t>{1}));
  driver_.kick(0);  // not ready
  settle();
  EXPECT_EQ(device_.processed.size(), 1u);
}

TEST_F(MmioTransportTest, kick_processes_the_queue_on_the_loop) {
  start();
  driver_.kick(1);
  driver_.kick(1);
  EXPECT_TRUE(device_.processed.empty());
  settle();
  EXPECT_EQ(device_.processed, (std::vector<std::uint32_t>{1}));
}

TEST_F(MmioTransportTest, queue_with_more_is_processed_again_in_turn_with_others) {
  start();
  for (int i = 0; i < 6; ++i) device_.results.push_back(true);
  driver_.kick(0);
  turn();
  EXPECT_EQ(device_.processed, (std::vector<std::uint32_t>{0}));
  driver_.kick(1);
  settle();
  // Six times "more", then each queue once without.
  ASSERT_EQ(device_.processed.size(), 8u);
  EXPECT_GE(std::count(device_.processed.begin(), device_.processed.end(), 1u), 3);
}

TEST_F(MmioTransportTest, process_error_shows_needs_reset) {
  start();
  device_.results.push_back(fail(Code::kGuest, "broken ring"));
  driver_.kick(0);
  settle();
  EXPECT_TRUE(driver_.needs_reset());
  EXPECT_EQ(driver_.interrupt_status(), std::uint32_t{VIRTIO_MMIO_INT_CONFIG});
  EXPECT_EQ(interrupts_, 1);
  driver_.kick(0);
  driver_.kick(1);
  settle();
  EXPECT_EQ(device_.processed.size(), 1u);
  // A driver that adds bits keeps NEEDS_RESET; only a reset clears it.
  driver_.add_status(VIRTIO_CONFIG_S_DRIVER_OK);
  EXPECT_TRUE(driver_.needs_reset());
  driver_.reset();
  EXPECT_EQ(driver_.status(), 0u);
}

TEST_F(MmioTransportTest, activate_error_shows_needs_reset) {
  device_.activate_result = fail(Code::kGuest, "no");
  EXPECT_FALSE(driver_.start());
  settle();
  EXPECT_TRUE(device_.processed.empty());
}

TEST_F(MmioTransportTest, device_may_give_up_by_itself) {
  start();
  {
    std::lock_guard lock(*device_.lock);
    device_.interrupt->needs_reset();
  }
  EXPECT_TRUE(driver_.needs_reset());
  driver_.kick(0);
  settle();
  EXPECT_TRUE(device_.processed.empty());
}

TEST_F(MmioTransportTest, interrupt_status_collects_and_is_acknowledged) {
  start();
  device_.interrupt->used_buffers();
  device_.interrupt->used_buffers();
  {
    std::lock_guard lock(*device_.lock);
    device_.interrupt->config_changed();
  }
  EXPECT_EQ(interrupts_, 3);
  EXPECT_EQ(driver_.interrupt_status(), 3u);
  driver_.acknowledge(VIRTIO_MMIO_INT_VRING);
  EXPECT_EQ(driver_.interrupt_status(), 2u);
  driver_.acknowledge(0xffffffff);
  EXPECT_EQ(driver_.interrupt_status(), 0u);
}

TEST_F(MmioTransportTest, config_change_before_driver_ok_is_announced_then) {
  const std::uint32_t generation = driver_.read32(VIRTIO_MMIO_CONFIG_GENERATION);
  {
    std::lock_guard lock(*device_.lock);
    device_.interrupt->config_changed();
  }
  EXPECT_EQ(driver_.read32(VIRTIO_MMIO_CONFIG_GENERATION), generation + 1);
  EXPECT_EQ(interrupts_, 0);
  ASSERT_TRUE(driver_.start());
  EXPECT_EQ(interrupts_, 1);
  EXPECT_EQ(driver_.interrupt_status(), std::uint32_t{VIRTIO_MMIO_INT_CONFIG});
}

TEST_F(MmioTransportTest, config_space_reaches_the_device) {
  EXPECT_EQ(driver_.read_config<std::uint64_t>(0), device_.config);
  EXPECT_EQ(driver_.read_config<std::uint8_t>(3), 4);
  EXPECT_EQ(driver_.read_config<std::uint32_t>(6), 0x0807u);
  const std::vector<std::byte> bytes(2);
  transport_->write(VIRTIO_MMIO_CONFIG + 5, bytes);
  EXPECT_EQ(device_.config_writes, (std::vector<std::pair<std::uint32_t, std::size_t>>{{5, 2}}));
}

TEST_F(MmioTransportTest, reset_is_finished_when_the_write_returns) {
  start();
  const int before = device_.resets;
  driver_.kick(0);
  device_.interrupt->used_buffers();
  driver_.reset();
  EXPECT_EQ(device_.resets, before + 1);
  EXPECT_EQ(driver_.interrupt_status(), 0u);
  settle();
  EXPECT_TRUE(device_.processed.empty());
}

TEST_F(MmioTransportTest, queue_can_be_taken_back_before_driver_ok) {
  ASSERT_TRUE(driver_.negotiate(driver_.offered_features()));
  driver_.add_queue(0, 8);
  driver_.write32(VIRTIO_MMIO_QUEUE_READY, 0);
  EXPECT_EQ(driver_.read32(VIRTIO_MMIO_QUEUE_READY), 0u);
  driver_.add_queue(0, 16);
  driver_.driver_ok();
  EXPECT_EQ(device_.activation.queues[0].size(), 16);
}

TEST_F(MmioTransportTest, ioevents_signal_the_loop_without_an_exit) {
  EngineFake engine{Status()};
  ASSERT_TRUE(transport_->register_ioevents(engine, GuestPhysAddr(0xd000'0000)));
  ASSERT_EQ(engine.ioevents.size(), 2u);
  EXPECT_EQ(engine.ioevents[1].address, GuestPhysAddr(0xd000'0050));
  EXPECT_EQ(engine.ioevents[1].value, 1u);
  start();
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(engine.ioevents[1].fd, &one, sizeof(one)), 8);
  settle();
  EXPECT_EQ(device_.processed, (std::vector<std::uint32_t>{1}));
}

TEST_F(MmioTransportTest, engine_without_ioevents_is_fine_and_other_errors_are_not) {
  EngineFake none{fail(Code::kUnsupported, "not here")};
  EXPECT_TRUE(transport_->register_ioevents(none, GuestPhysAddr(0xd000'0000)));
  EngineFake broken{fail(Code::kIo, "ioctl failed")};
  EXPECT_FALSE(transport_->register_ioevents(broken, GuestPhysAddr(0xd000'0000)));
}

TEST_F(MmioTransportTest, stop_resets_the_device_once) {
  start();
  const int before = device_.resets;
  driver_.kick(0);
  transport_->stop();
  transport_->stop();
  settle();
  EXPECT_EQ(device_.resets, before + 1);
  EXPECT_TRUE(device_.processed.empty());
  transport_.reset();
  EXPECT_EQ(device_.resets, before + 1);
}

TEST_F(MmioTransportTest, stop_inside_a_callback_of_the_loop_is_fine) {
  start();
  loop_->post([&] { transport_->stop(); });
  driver_.kick(0);
  driver_.kick(1);
  settle();
  EXPECT_LE(device_.processed.size(), 2u);
  driver_.kick(0);
  device_.processed.clear();
  settle();
  EXPECT_TRUE(device_.processed.empty());
}

// --- snapshots ---

// The same guest memory, a device and a transport made anew.
struct RestoredTransport {
  explicit RestoredTransport(GuestMemory& memory, EventLoop& loop, Log& log)
      : transport(must(MmioTransport::create(
            {device, memory, std::make_unique<test::IrqLineFake>(interrupts), loop, log}))) {}
  DeviceFake device;
  std::atomic<int> interrupts{0};
  std::unique_ptr<MmioTransport> transport;
};

TEST_F(MmioTransportTest, a_saved_state_is_the_state_of_another_transport) {
  start();
  driver_.kick(1);
  settle();
  const VirtioState saved = transport_->state();
  EXPECT_TRUE(saved.active);
  RestoredTransport other(*memory_, *loop_, log_);
  ASSERT_TRUE(other.transport->set_state(saved));
  EXPECT_EQ(other.transport->state(), saved);
  EXPECT_EQ(other.device.activation.features, device_.activation.features);
  EXPECT_EQ(other.device.activation.queues[0].size(), device_.activation.queues[0].size());
}

TEST_F(MmioTransportTest, a_restored_queue_goes_on_where_it_stood) {
  start();
  Queue& queue = device_.activation.queues[0];
  for (int i = 0; i < 3; ++i) test::ChainBuilder(driver_.ring(0)).writable(8).offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  ASSERT_TRUE(queue.push(chain, 4));
  RestoredTransport other(*memory_, *loop_, log_);
  ASSERT_TRUE(other.transport->set_state(transport_->state()));
  Queue& restored = other.device.activation.queues[0];
  int left = 0;
  while (must(restored.pop(chain))) {
    ++left;
    ASSERT_TRUE(restored.push(chain, 0));
  }
  EXPECT_EQ(left, 2);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(driver_.ring(0).take_used().has_value()) << i;
}

TEST_F(MmioTransportTest, going_on_looks_at_the_queues_and_repeats_a_pending_interrupt) {
  start();
  {
    const std::lock_guard lock(*device_.lock);
    device_.interrupt->used_buffers();
  }
  RestoredTransport other(*memory_, *loop_, log_);
  ASSERT_TRUE(other.transport->set_state(transport_->state()));
  EXPECT_EQ(other.interrupts, 0);
  other.transport->go_on();
  EXPECT_EQ(other.interrupts, 1);
  settle();
  EXPECT_EQ(other.device.processed, (std::vector<std::uint32_t>{0, 1}));
}

TEST_F(MmioTransportTest, a_state_that_no_driver_could_have_made_is_refused) {
  start();
  const VirtioState good = transport_->state();
  const auto code = [&](auto change) {
    VirtioState state = good;
    change(state);
    RestoredTransport other(*memory_, *loop_, log_);
    const Status status = other.transport->set_state(state);
    return status ? Code::kInternal : status.error().code();
  };
  EXPECT_EQ(code([](VirtioState& s) { s.device_type = 2; }), Code::kUnsupported);
  EXPECT_EQ(code([](VirtioState& s) { s.device.resize(1); }), Code::kUnsupported);
  EXPECT_EQ(code([](VirtioState& s) { s.queues.pop_back(); }), Code::kCorrupt);
  EXPECT_EQ(code([](VirtioState& s) { s.status = 1; }), Code::kCorrupt);
  EXPECT_EQ(code([](VirtioState& s) { s.driver_features = ~0ull; }), Code::kCorrupt);
  EXPECT_EQ(code([](VirtioState& s) { s.queues[0].size = 3; }), Code::kGuest);
  EXPECT_EQ(code([](VirtioState& s) { s.queues[0].used = ~0ull << 12; }), Code::kGuest);
}

}  // namespace
}  // namespace sm
