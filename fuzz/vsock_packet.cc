// Fuzzes the vsock device as its guest and its host programs at once: packets, buffers, sockets,
// time and resets in any order.
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <deque>
#include <mutex>

#include "base/check.h"
#include "vmm/virtio/ring_layout.h"
#include "vmm/virtio/vsock/device.h"

namespace sm {
namespace {

constexpr std::uint64_t kMemoryBytes = 1 << 20;
constexpr std::uint16_t kSize = 16;
constexpr std::uint64_t kRingSpace = 0x1000;
constexpr std::uint64_t kRxBuffers = 0x10000;  // slot n: 4 KiB
constexpr std::uint64_t kTxBuffers = 0x40000;  // slot n: 4 KiB
constexpr std::uint64_t kSlot = 4096;
// Behind everything that was ever offered for writing.
constexpr std::uint64_t kCanary = kMemoryBytes - 4096;

constexpr VsockPort kAgent{1028};
constexpr VsockPort kServer{1026};
constexpr std::uint32_t kFirstHostPort = 0x4000'0000;

struct NoInterrupt : VirtioInterrupt {
  void used_buffers() override {}
  void config_changed() override {}
  void needs_reset() override { ++failures; }
  int failures = 0;
};

// One queue from the driver's side: entry n of every table is chain n, one or two descriptors.
struct Ring {
  GuestMemory* memory;
  std::uint64_t base;
  std::uint16_t available = 0;

  GuestPhysAddr at(std::uint64_t offset) const { return GuestPhysAddr(base + offset); }
  QueueConfig config(bool event_idx) const {
    return {.size = kSize,
            .descriptors = at(0),
            .available = at(0x400),
            .used = at(0x600),
            .ready = true,
            .event_idx = event_idx};
  }
  void clear() {
    available = 0;
    SM_CHECK(memory->write(at(0), std::vector<std::byte>(0x1000)).has_value());
  }
  std::uint16_t used() const { return *memory->load_acquire_u16(at(0x600 + ring::kUsedIndex)); }
  bool full() const { return static_cast<std::uint16_t>(available - used()) >= kSize / 2; }
  // Offers `first` and perhaps `second` as the next chain.
  void offer(ring::Descriptor first, std::optional<ring::Descriptor> second) {
    const auto head = static_cast<std::uint16_t>(available % (kSize / 2) * 2);
    if (second) {
      first.flags = static_cast<std::uint16_t>(first.flags | ring::kNext);
      first.next = static_cast<std::uint16_t>(head + 1);
      SM_CHECK(memory->write_object(at(sizeof(first) * (head + 1u)), *second).has_value());
    }
    SM_CHECK(memory->write_object(at(sizeof(first) * head), first).has_value());
    SM_CHECK(
        memory->write_object(at(0x400 + ring::avail_entry(available % kSize)), head).has_value());
    ++available;
    SM_CHECK(memory->store_release_u16(at(0x400 + ring::kAvailIndex), available).has_value());
  }
};

class Machine {
 public:
  Machine(GuestMemory& memory, FuzzedDataProvider& input) : memory_(memory), input_(input) {
    VsockLimits limits;
    limits.connections = 6;
    limits.large_buffers = 2;
    limits.large_buffer = 8192;
    limits.small_buffer = 2048;
    limits.stray_resets = 4;
    const Duration patience =
        input.ConsumeBool() ? Duration{1} : Duration{std::chrono::seconds(60)};
    limits.timeouts = {patience, patience, patience};
    limits_ = limits;
    loop_ = *EventLoop::create();
    device_ = *VsockDevice::create(*loop_, log_, VsockCid{3}, limits);
    device_->attach(interrupt_, lock_);
    device_->set_guest_listener(kServer, [this](VsockPort port) -> Result<UniqueFd> {
      if (raw(port) % 3 == 0) return fail(Code::kGone, "refused");
      return host_socket();
    });
    activate();
  }
  ~Machine() {
    device_->stop();
    loop_->run_once(Deadline::after(Duration{0}));
  }

  void run() {
    for (int steps = 0; steps < 400 && input_.remaining_bytes() != 0; ++steps) {
      step(input_.ConsumeIntegralInRange<int>(0, 15));
      SM_CHECK(device_->connection_count() <= limits_.connections);
      SM_CHECK(device_->buffered_bytes() <= 2 * 8192u + 4 * 2048u);
    }
  }

 private:
  void activate() {
    const std::lock_guard lock(lock_);
    VirtioActivation activation;
    const bool event_idx = input_.ConsumeBool();
    for (Ring& ring : rings_) {
      ring.clear();
      activation.queues.push_back(*Queue::create(memory_, ring.config(event_idx), kSize));
    }
    SM_CHECK(device_->activate(std::move(activation)).has_value());
  }
  void reset() {
    {
      const std::lock_guard lock(lock_);
      device_->reset();
    }
    activate();
  }
  void kick(std::uint32_t queue) {
    bool failed = false;
    {
      const std::lock_guard lock(lock_);
      for (int i = 0;; ++i) {
        SM_CHECK(i < 100);
        const auto more = device_->process_queue(queue);
        failed = !more;
        if (!more || !*more) break;
      }
    }
    // These rings are sound, so the device has no reason to give up.
    SM_CHECK(!failed && interrupt_.failures == 0);
  }
  UniqueFd host_socket() {
    int fds[2];
    SM_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    if (hosts_.size() == 8) hosts_.pop_front();
    hosts_.emplace_back(fds[0]);
    return UniqueFd(fds[1]);
  }
  const UniqueFd* any_host() {
    if (hosts_.empty()) return nullptr;
    return &hosts_[input_.ConsumeIntegralInRange<std::size_t>(0, hosts_.size() - 1)];
  }

  void offer_rx() {
    Ring& rx = rings_[0];
    if (rx.full()) return;
    const std::uint64_t at = kRxBuffers + rx.available % kSize * kSlot;
    const auto first = input_.ConsumeIntegralInRange<std::uint32_t>(0, 2048);
    std::optional<ring::Descriptor> second;
    if (input_.ConsumeBool()) second = ring::Descriptor{at + 2048, first, ring::kWrite, 0};
    rx.offer({at, first, ring::kWrite, 0}, second);
    kick(0);
  }
  virtio_vsock_hdr header() {
    virtio_vsock_hdr h{};
    if (input_.ConsumeIntegralInRange<int>(0, 7) == 0) {
      const auto raw_bytes = input_.ConsumeBytes<std::uint8_t>(sizeof(h));
      if (!raw_bytes.empty()) std::memcpy(&h, raw_bytes.data(), raw_bytes.size());
      return h;
    }
    h.src_cid = 3;
    h.dst_cid = 2;
    h.type = kVsockStream;
    if (input_.ConsumeBool()) {
      h.src_port = raw(kAgent);
      h.dst_port = kFirstHostPort + input_.ConsumeIntegralInRange<std::uint32_t>(0, 15);
    } else {
      h.src_port = input_.ConsumeIntegralInRange<std::uint32_t>(0, 7);
      h.dst_port = raw(kServer);
    }
    h.op = input_.ConsumeIntegralInRange<std::uint16_t>(0, 8);
    h.flags = input_.ConsumeIntegralInRange<std::uint32_t>(0, 4);
    h.buf_alloc = input_.ConsumeBool() ? 65536 : input_.ConsumeIntegral<std::uint32_t>();
    h.fwd_cnt = input_.ConsumeBool() ? 0 : input_.ConsumeIntegral<std::uint32_t>();
    return h;
  }
  void offer_packet() {
    Ring& tx = rings_[1];
    // Unanswered resets may hold the queue up; a driver that overruns it is not this test.
    if (tx.full()) return;
    const std::uint64_t at = kTxBuffers + tx.available % kSize * kSlot;
    virtio_vsock_hdr h = header();
    const auto payload = input_.ConsumeIntegralInRange<std::uint32_t>(0, 2048);
    const bool honest = input_.ConsumeIntegralInRange<int>(0, 7) != 0;
    if (honest) h.len = h.op == VIRTIO_VSOCK_OP_RW ? payload : 0;
    SM_CHECK(memory_.write_object(GuestPhysAddr(at), h).has_value());
    const auto cut = input_.ConsumeBool()
                         ? std::uint32_t{sizeof(h)}
                         : input_.ConsumeIntegralInRange<std::uint32_t>(0, sizeof(h) + payload);
    const auto rest = static_cast<std::uint32_t>(sizeof(h)) + payload - cut;
    tx.offer({at, cut, 0, 0}, ring::Descriptor{at + cut, rest, 0, 0});
    kick(1);
  }

  void step(int what) {
    switch (what) {
      case 0:
        (void)device_->connect_guest(kAgent, host_socket(), [](Status) {});
        return;
      case 1:
        if (const UniqueFd* host = any_host()) {
          const std::string bytes(input_.ConsumeIntegralInRange<std::size_t>(0, 20'000), 'h');
          (void)::send(host->get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        return;
      case 2:
        if (const UniqueFd* host = any_host()) {
          char buffer[4096];
          (void)::recv(host->get(), buffer, sizeof(buffer), MSG_DONTWAIT);
        }
        return;
      case 3:
        if (const UniqueFd* host = any_host()) {
          ::shutdown(host->get(), input_.ConsumeIntegralInRange<int>(SHUT_RD, SHUT_RDWR));
        }
        return;
      case 4:
        if (!hosts_.empty()) hosts_.pop_front();
        return;
      case 5:
        if (input_.ConsumeIntegralInRange<int>(0, 3) == 0) return reset();
        return kick(input_.ConsumeIntegralInRange<std::uint32_t>(0, 2));
      case 6:
        if (input_.ConsumeBool()) return (void)device_->reset_transport();
        if (!rings_[2].full()) {
          const auto bytes = input_.ConsumeIntegralInRange<std::uint32_t>(0, 8);
          rings_[2].offer({kRxBuffers, bytes, ring::kWrite, 0}, std::nullopt);
        }
        return kick(2);
      case 7:
      case 8:
      case 9:
        return loop_->run_once(Deadline::after(Duration{0}));
      case 10:
      case 11:
        return offer_rx();
      default:
        return offer_packet();
    }
  }

  GuestMemory& memory_;
  FuzzedDataProvider& input_;
  std::array<Ring, 3> rings_{Ring{&memory_, kRingSpace}, Ring{&memory_, kRingSpace + 0x1000},
                             Ring{&memory_, kRingSpace + 0x2000}};
  VsockLimits limits_;
  NoInterrupt interrupt_;
  std::mutex lock_;
  Log log_ = Log::none();
  std::unique_ptr<EventLoop> loop_;
  std::deque<UniqueFd> hosts_;
  std::unique_ptr<VsockDevice> device_;
};

}  // namespace
}  // namespace sm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sm;
  static GuestMemory& memory = *[] {
    auto created = GuestMemory::create(kMemoryBytes);
    SM_CHECK(created.has_value());
    return created->release();
  }();
  const std::vector<std::byte> canary(4096, std::byte{0xc5});
  SM_CHECK(memory.write(GuestPhysAddr(kCanary), canary).has_value());
  FuzzedDataProvider input(data, size);
  Machine(memory, input).run();
  std::vector<std::byte> after(4096);
  SM_CHECK(memory.read(GuestPhysAddr(kCanary), after).has_value());
  SM_CHECK(after == canary);
  return 0;
}
