#include "vmm/virtio/vsock/device.h"

#include <algorithm>

#include "base/check.h"
#include "base/checked.h"

namespace sm {

namespace {

constexpr std::uint32_t kRxQueue = 0;  // to the guest
constexpr std::uint32_t kTxQueue = 1;  // from the guest
constexpr std::uint32_t kEventQueue = 2;
constexpr std::array<std::uint16_t, 3> kQueueSizes{256, 256, 16};

// Bit 0 is VIRTIO_VSOCK_F_STREAM; linux/virtio_vsock.h of Debian 12 has no name for it yet.
constexpr std::uint64_t kFeatureStream = 1ull << 0;

// Limits of one turn: other devices have a right to the loop, too.
constexpr int kChainsPerTurn = 128;
constexpr std::uint64_t kBytesPerTurn = 2u << 20;

// The driver frees sent packets when it is interrupted for them, which nothing waits for as long as
// the queue has room. So that waits for an interrupt that is due anyway, or for one of these.
constexpr std::uint32_t kMostUntoldChains = 32;
constexpr std::uint64_t kMostUntoldBytes = 256u << 10;
constexpr Duration kMostUntold = std::chrono::milliseconds(10);

}  // namespace

Result<std::unique_ptr<VsockDevice>> VsockDevice::create(EventLoop& loop, Log& log, VsockCid guest,
                                                         const VsockLimits& limits) {
  if (guest < VsockCid::kFirstGuest || guest > VsockCid::kLastGuest) {
    return fail(Code::kInvalidArgument,
                "a guest cannot have the vsock context id " +
                    std::to_string(static_cast<std::uint64_t>(guest)),
                "use 3 .. 4294967294");
  }
  return std::unique_ptr<VsockDevice>(new VsockDevice(loop, log, guest, limits));
}

VsockDevice::VsockDevice(EventLoop& loop, Log& log, VsockCid guest, const VsockLimits& limits)
    : loop_(&loop),
      log_(&log),
      guest_(guest),
      muxer_(loop, log, guest, limits,
             [this](VsockConnectionId id, std::uint32_t events) { on_socket_event(id, events); }) {}

VsockDevice::~VsockDevice() { stop_locked(); }

void VsockDevice::attach(VirtioInterrupt& interrupt, std::mutex& lock) {
  interrupt_ = &interrupt;
  lock_ = &lock;
}

// Before attach() nobody else knows the device.
std::unique_lock<std::mutex> VsockDevice::hold() {
  return lock_ == nullptr ? std::unique_lock<std::mutex>() : std::unique_lock(*lock_);
}

// --- the host side ---

Result<VsockListenerId> VsockDevice::listen_unix(const std::string& path, VsockPort guest_port,
                                                 VsockAccept accept) {
  auto socket = SM_TRY_WITH(VsockUnixListener::create(*loop_, *log_, path,
                                                      [this, guest_port](UniqueFd fd) {
                                                        on_accepted(guest_port, std::move(fd));
                                                      }),
                            "vsock listener");
  if (accept == VsockAccept::kNow) SM_TRY_STATUS(socket->start());
  const VsockListenerId id{next_listener_++};
  listeners_.emplace(id, Listener{guest_port, std::move(socket)});
  return id;
}

Status VsockDevice::start_accepting(VsockListenerId id) {
  const auto it = listeners_.find(id);
  if (it == listeners_.end()) return fail(Code::kNotFound, "no such vsock listener");
  return it->second.socket->start();
}

void VsockDevice::on_accepted(VsockPort guest_port, UniqueFd socket) {
  auto status = connect_guest(guest_port, std::move(socket), [this, guest_port](Status result) {
    if (result) return;
    log_->info("vsock: guest port {}: {}", raw(guest_port), result.error().text());
  });
  if (!status) log_->warning("vsock: connection refused: {}", status.error().text());
}

Status VsockDevice::connect_guest(VsockPort guest_port, UniqueFd socket,
                                  VsockConnectResult on_result) {
  const auto lock = hold();
  if (alive_ == nullptr) return fail(Code::kGone, "the vsock device has been stopped");
  SM_TRY_STATUS(muxer_.open(guest_port, std::move(socket), std::move(on_result)));
  settle();
  return {};
}

void VsockDevice::set_guest_listener(VsockPort host_port, VsockGuestHandler handler) {
  const auto lock = hold();
  muxer_.set_guest_handler(host_port, std::move(handler));
}

Status VsockDevice::reset_transport() {
  const auto lock = hold();
  muxer_.drop_all();
  event_pending_ = true;
  settle();
  return {};
}

void VsockDevice::stop() {
  if (alive_ == nullptr) return;
  const auto lock = hold();
  stop_locked();
}

void VsockDevice::stop_locked() {
  listeners_.clear();
  loop_->cancel_timer(std::exchange(timer_, TimerId::kNone));
  alive_.reset();
  queues_.clear();
  muxer_.drop_all();
  muxer_.close_dropped();
  muxer_.take_results();
}

std::size_t VsockDevice::connection_count() {
  const auto lock = hold();
  return muxer_.connection_count();
}

std::size_t VsockDevice::buffered_bytes() {
  const auto lock = hold();
  return muxer_.buffered_bytes();
}

// --- VirtioDevice ---

std::uint64_t VsockDevice::features() const {
  return kFeatureStream | kRingEventIdx | kRingIndirectDesc;
}

std::span<const std::uint16_t> VsockDevice::queue_max_sizes() const { return kQueueSizes; }

void VsockDevice::read_config(std::uint32_t offset, std::span<std::byte> out) const {
  const virtio_vsock_config config{.guest_cid = static_cast<std::uint64_t>(guest_)};
  copy_config(std::as_bytes(std::span(&config, 1)), offset, out);
}

void VsockDevice::write_config(std::uint32_t, std::span<const std::byte>) {}

Status VsockDevice::activate(VirtioActivation activation) {
  SM_CHECK(activation.queues.size() == kQueueSizes.size());
  if (alive_ == nullptr) return fail(Code::kGone, "the vsock device has been stopped");
  queues_ = std::move(activation.queues);
  return {};
}

Status VsockDevice::restore(VirtioActivation activation) {
  SM_TRY_STATUS(activate(std::move(activation)));
  muxer_.start_at_random_port();
  if (!queues_[kEventQueue].ready()) return {};
  event_pending_ = true;
  reset_mark_ = SM_TRY(queues_[kEventQueue].watch_available());
  return {};
}

void VsockDevice::reset() {
  event_pending_ = false;
  reset_mark_.reset();
  forget_guest();
}

void VsockDevice::forget_guest() {
  queues_.clear();
  guest_has_sent_ = false;
  untold_chains_ = 0;
  untold_bytes_ = 0;
  tell_at_.reset();
  muxer_.drop_all();
  schedule();
}

Result<bool> VsockDevice::process_queue(std::uint32_t index) {
  if (queues_.empty()) return false;
  if (index == kTxQueue) guest_has_sent_ = true;
  auto more = pump();
  if (!more) forget_guest();
  if (muxer_.has_calls()) schedule();
  set_timer();
  return more;
}

// --- the data path ---

void VsockDevice::on_socket_event(VsockConnectionId id, std::uint32_t events) {
  const auto lock = hold();
  muxer_.on_socket_event(id, events);
  settle();
}

void VsockDevice::on_timer() {
  const auto lock = hold();
  timer_ = TimerId::kNone;
  timer_at_.reset();
  muxer_.expire(now());
  settle();
}

void VsockDevice::settle() {
  bool again = false;
  if (!queues_.empty()) {
    const auto more = pump();
    if (more) {
      again = *more;
    } else {
      log_->guest_warning("vsock: {}", more.error().text());
      forget_guest();
      interrupt_->needs_reset();
    }
  }
  if (again || muxer_.has_calls()) schedule();
  set_timer();
}

// True when more could be done at once, but others should have their turn first.
Result<bool> VsockDevice::pump() {
  if (event_pending_) SM_TRY_STATUS(send_event());
  if (reset_mark_) SM_TRY_STATUS(await_driver());
  const bool more_from_guest = guest_has_sent_ && SM_TRY(pump_from_guest());
  const bool more_to_guest = !reset_mark_ && SM_TRY(pump_to_guest());
  SM_TRY_STATUS(tell_driver());
  // Packets of the guest that had to wait for room among the resets.
  const bool unblocked = guest_has_sent_ && muxer_.can_receive();
  return more_from_guest || more_to_guest || unblocked;
}

Result<bool> VsockDevice::pump_from_guest() {
  Queue& queue = queues_[kTxQueue];
  std::uint64_t bytes = 0;
  bool more = true;
  for (int i = 0; i < kChainsPerTurn && bytes < kBytesPerTurn; ++i) {
    if (!muxer_.can_receive()) {
      more = false;
      break;
    }
    if (!SM_TRY(queue.pop(chain_))) {
      guest_has_sent_ = more = false;
      break;
    }
    BufferReader reader(queue.memory(), chain_.readable);
    bytes += reader.remaining();
    ++untold_chains_;
    // Copied once; from here on only the copy counts.
    if (auto header = reader.read_object<virtio_vsock_hdr>()) {
      muxer_.receive(VsockHeader::from_guest(*header), reader);
    } else {
      log_->guest_warning("vsock: packet of {} bytes dropped", total_length(chain_.readable));
    }
    SM_TRY_STATUS(queue.push(chain_, 0));
  }
  untold_bytes_ += bytes;
  return more;
}

// One interrupt for both queues.
Status VsockDevice::tell_driver() {
  const bool received = SM_TRY(queues_[kRxQueue].should_interrupt());
  if (untold_chains_ > 0 && !tell_at_) tell_at_ = now() + kMostUntold;
  const auto most = std::min<std::uint32_t>(kMostUntoldChains, queues_[kTxQueue].size() / 4u);
  const bool tell_sent =
      untold_chains_ > 0 && (received || untold_chains_ >= most ||
                             untold_bytes_ >= kMostUntoldBytes || *tell_at_ <= now());
  bool sent = false;
  if (tell_sent) {
    sent = SM_TRY(queues_[kTxQueue].should_interrupt());
    untold_chains_ = 0;
    untold_bytes_ = 0;
    tell_at_.reset();
  }
  if (received || sent) interrupt_->used_buffers();
  return {};
}

Result<bool> VsockDevice::pump_to_guest() {
  Queue& queue = queues_[kRxQueue];
  std::uint64_t bytes = 0;
  bool more = true;
  for (int i = 0; i < kChainsPerTurn && bytes < kBytesPerTurn; ++i) {
    if (!muxer_.has_output() || !SM_TRY(queue.pop(chain_))) {
      more = false;
      break;
    }
    if (total_length(chain_.writable) <= kVsockHeaderSize) {
      log_->guest_warning("vsock: receive buffer of {} bytes", total_length(chain_.writable));
      SM_TRY_STATUS(queue.push(chain_, 0));
      continue;
    }
    const std::uint32_t written = SM_TRY(muxer_.emit(queue.memory(), chain_.writable));
    if (written == 0) {
      queue.undo_pop();
      continue;
    }
    bytes += written;
    SM_TRY_STATUS(queue.push(chain_, written));
  }
  return more;
}

Status VsockDevice::send_event() {
  Queue& queue = queues_[kEventQueue];
  if (!SM_TRY(queue.pop(chain_))) return {};
  const virtio_vsock_event event{.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
  BufferWriter writer(queue.memory(), chain_.writable);
  // A buffer too small for an event goes back empty; the next one may do.
  if (writer.remaining() >= sizeof(event)) {
    SM_TRY_STATUS(writer.write_object(event));
    event_pending_ = false;
  }
  SM_TRY_STATUS(queue.push(chain_, static_cast<std::uint32_t>(writer.written())));
  return notify_used(queue, *interrupt_);
}

// The driver gives the event's buffer back when it has dealt with the event.
Status VsockDevice::await_driver() {
  const std::uint16_t index = SM_TRY(queues_[kEventQueue].watch_available());
  if (!event_pending_ && index != *reset_mark_) reset_mark_.reset();
  return {};
}

// --- later, on the loop's thread ---

void VsockDevice::set_timer() {
  auto next = muxer_.next_deadline();
  if (tell_at_ && (!next || *tell_at_ < *next)) next = tell_at_;
  if (!next || (timer_at_ && *timer_at_ <= *next)) return;
  loop_->cancel_timer(timer_);
  timer_ = loop_->add_timer(*next, [this] { on_timer(); });
  timer_at_ = *next;
}

void VsockDevice::schedule() {
  if (scheduled_ || alive_ == nullptr) return;
  scheduled_ = true;
  loop_->post([this, token = std::weak_ptr<int>(alive_)] {
    if (!token.expired()) run_later();
  });
}

void VsockDevice::run_later() {
  std::vector<std::pair<VsockConnectResult, Status>> results;
  std::vector<VsockMuxer::GuestRequest> requests;
  {
    const auto lock = hold();
    scheduled_ = false;
    muxer_.close_dropped();
    results = muxer_.take_results();
    requests = muxer_.take_requests();
  }
  const std::weak_ptr<int> token = alive_;
  for (auto& [callback, status] : results) {
    callback(std::move(status));
    if (token.expired()) return;
  }
  for (auto& request : requests) {
    auto socket = request.handler(request.guest_port);
    if (token.expired()) return;
    const auto lock = hold();
    muxer_.complete(request.id, std::move(socket));
  }
  const auto lock = hold();
  settle();
}

}  // namespace sm
