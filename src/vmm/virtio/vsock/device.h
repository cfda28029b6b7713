// VsockDevice: virtio-vsock for one guest. Streams between ports of the guest and sockets of the
// host, opened by either side.
//
// Threads: the functions of VirtioDevice as device.h says; everything of the host side on the
// loop's thread. Callbacks given to it run on the loop's thread without locks, never from inside a
// call, and never after stop(). See docs/design/0005-vsock.md and docs/reference/vsock.md.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/vsock/host_bridge.h"
#include "vmm/virtio/vsock/muxer.h"

namespace sm {

// Names one unix listener of a device.
enum class VsockListenerId : std::uint32_t {};

// When a listener's connections are accepted.
enum class VsockAccept : std::uint8_t {
  kNow,
  kWhenTold,  // they wait in the kernel's queue until start_accepting()
};

class VsockDevice final : public VirtioDevice {
 public:
  // kInvalidArgument unless `guest` is a context id that a guest may have.
  static Result<std::unique_ptr<VsockDevice>> create(EventLoop& loop, Log& log, VsockCid guest,
                                                     const VsockLimits& limits = {});
  // Like stop(), but needs no lock: when the transport has ended already, nobody else knows the
  // device any more. Thread: the loop's, or any when nobody runs it.
  ~VsockDevice() override;

  // --- the host side ---

  // Bridges every connection to the new unix socket `path` to `guest_port`.
  Result<VsockListenerId> listen_unix(const std::string& path, VsockPort guest_port,
                                      VsockAccept accept = VsockAccept::kNow);
  Status start_accepting(VsockListenerId id);
  // Connects a stream socket of the host to a port of the guest. When this succeeds, on_result is
  // called once: with success, kGone (the guest refused) or kTimeout. Before the driver is there,
  // the request waits for it as long as the connect timeout.
  Status connect_guest(VsockPort guest_port, UniqueFd socket, VsockConnectResult on_result);
  // Answers connections of the guest to `host_port` from now on; an empty handler refuses them.
  void set_guest_listener(VsockPort host_port, VsockGuestHandler handler);
  // Drops all connections and tells the driver that they are gone and that its context id may have
  // changed: what a restored guest needs. Spec: virtio 1.2, 5.10.6.7.
  Status reset_transport();
  // Closes all sockets, listeners and timers. Idempotent. Before the transport ends.
  void stop();

  std::size_t connection_count();
  std::size_t buffered_bytes();

  // --- VirtioDevice ---

  std::string_view name() const override { return "vsock"; }
  VirtioDeviceType type() const override { return VirtioDeviceType::kVsock; }
  std::uint64_t features() const override;
  std::span<const std::uint16_t> queue_max_sizes() const override;
  void attach(VirtioInterrupt& interrupt, std::mutex& lock) override;
  void read_config(std::uint32_t offset, std::span<std::byte> out) const override;
  void write_config(std::uint32_t offset, std::span<const std::byte> in) override;
  Status activate(VirtioActivation activation) override;
  Result<bool> process_queue(std::uint32_t index) override;
  QueuePosition queue_position(std::uint32_t index) const override {
    return queues_[index].position();
  }
  // The driver is told that all connections are gone, and new ones wait until it has taken note.
  Status restore(VirtioActivation activation) override;
  void reset() override;

 private:
  struct Listener {
    VsockPort guest_port;
    std::unique_ptr<VsockUnixListener> socket;
  };

  VsockDevice(EventLoop& loop, Log& log, VsockCid guest, const VsockLimits& limits);
  std::unique_lock<std::mutex> hold();
  void stop_locked();
  void on_socket_event(VsockConnectionId id, std::uint32_t events);
  void on_timer();
  void on_accepted(VsockPort guest_port, UniqueFd socket);

  // With the lock held, on the loop's thread: does what can be done, arranges for the rest.
  void settle();
  Result<bool> pump();
  Result<bool> pump_from_guest();
  Result<bool> pump_to_guest();
  Status tell_driver();
  Status send_event();
  Status await_driver();
  void set_timer();
  void forget_guest();
  // With the lock held, any thread: has run_later() called on the loop.
  void schedule();
  void run_later();

  EventLoop* loop_;
  Log* log_;
  VsockCid guest_;
  VirtioInterrupt* interrupt_ = nullptr;
  std::mutex* lock_ = nullptr;

  // The rest is guarded by *lock_.
  VsockMuxer muxer_;
  std::vector<Queue> queues_;  // empty: not active
  Chain chain_;
  bool guest_has_sent_ = false;  // there may be chains in the transmit queue
  // What the driver has back in its transmit queue and was not interrupted for, and until when it
  // may wait for that.
  std::uint32_t untold_chains_ = 0;
  std::uint64_t untold_bytes_ = 0;
  std::optional<TimePoint> tell_at_;
  bool event_pending_ = false;  // the driver has to hear of a transport reset
  // After a restore: the event queue's available index before the driver heard of the reset. Until
  // it has moved, a new connection could be mistaken for one of the old.
  std::optional<std::uint16_t> reset_mark_;
  bool scheduled_ = false;
  // Posted tasks hold it weakly; stop() ends them by dropping it.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);

  // Loop thread only.
  std::optional<TimePoint> timer_at_;
  TimerId timer_ = TimerId::kNone;
  std::map<VsockListenerId, Listener> listeners_;
  std::uint32_t next_listener_ = 0;
};

}  // namespace sm
