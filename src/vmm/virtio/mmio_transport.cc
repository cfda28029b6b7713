#include "vmm/virtio/mmio_transport.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/checked.h"

namespace sm {

namespace {

constexpr std::uint32_t kMagic = 0x7472'6976;  // "virt"
constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kVendor = 0x4d56'4d53;  // "SMVM"
constexpr std::uint32_t kAllOnes = 0xffff'ffff;

// The bits a driver may set, in the only order it may set them. Spec: virtio 1.2, 3.1.1.
struct StatusStep {
  std::uint32_t bit;
  std::uint32_t needs;
};
constexpr std::array<StatusStep, 4> kStatusSteps = {{
    {VIRTIO_CONFIG_S_ACKNOWLEDGE, 0},
    {VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_ACKNOWLEDGE},
    {VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER},
    {VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK},
}};
constexpr std::uint32_t kDriverBits = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                      VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK |
                                      VIRTIO_CONFIG_S_FAILED;

void set_low(std::uint64_t& address, std::uint32_t value) {
  address = (address & ~std::uint64_t{kAllOnes}) | value;
}
void set_high(std::uint64_t& address, std::uint32_t value) {
  address = (address & kAllOnes) | std::uint64_t{value} << 32;
}

}  // namespace

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(MmioTransportArgs args) {
  std::unique_ptr<MmioTransport> transport(new MmioTransport(std::move(args)));
  SM_TRY_STATUS(transport->watch_queues());
  return transport;
}

MmioTransport::MmioTransport(MmioTransportArgs args)
    : device_(args.device),
      memory_(args.memory),
      irq_(std::move(args.irq)),
      loop_(args.loop),
      log_(args.log),
      queues_(device_.queue_max_sizes().size()) {
  device_.attach(*this, mutex_);
}

MmioTransport::~MmioTransport() { stop(); }

Status MmioTransport::watch_queues() {
  for (std::uint32_t i = 0; i < queues_.size(); ++i) {
    UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event.valid()) return fail_errno("eventfd", errno);
    const int fd = event.get();
    const WatchId watch =
        SM_TRY(loop_.add(fd, EPOLLIN, [this, i](std::uint32_t) { on_notify(i); }));
    notifiers_.push_back({std::move(event), watch});
  }
  return {};
}

Status MmioTransport::register_ioevents(EngineVm& engine, GuestPhysAddr base) {
  const auto at = base.checked_add(VIRTIO_MMIO_QUEUE_NOTIFY);
  SM_CHECK(at.has_value());
  for (std::uint32_t i = 0; i < notifiers_.size(); ++i) {
    const auto status = engine.register_ioevent(*at, i, notifiers_[i].event.get());
    if (!status && status.error().code() == Code::kUnsupported) return {};
    SM_TRY_STATUS(status);
  }
  return {};
}

void MmioTransport::stop() {
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) reset_locked();
    stopped_ = true;
  }
  for (QueueNotifier& notifier : notifiers_) {
    loop_.remove(std::exchange(notifier.watch, WatchId::kNone));
  }
}

// --- interrupts ---

void MmioTransport::raise(std::uint32_t reason) {
  // The status must be visible before the driver's handler can run.
  interrupt_status_.fetch_or(reason, std::memory_order_release);
  irq_->trigger();
}

void MmioTransport::used_buffers() { raise(VIRTIO_MMIO_INT_VRING); }

void MmioTransport::config_changed() {
  config_generation_.fetch_add(1, std::memory_order_release);
  if ((status_ & VIRTIO_CONFIG_S_DRIVER_OK) != 0) {
    raise(VIRTIO_MMIO_INT_CONFIG);
  } else {
    config_change_pending_ = true;
  }
}

void MmioTransport::needs_reset() { fail_locked(Error(Code::kGuest, "device gave up")); }

void MmioTransport::fail_locked(const Error& error) {
  log_.guest_warning("{}: {}", device_.name(), error.text());
  active_ = false;
  status_ |= VIRTIO_CONFIG_S_NEEDS_RESET;
  // Spec: virtio 1.2, 2.1.2: a driver that is running must be told.
  if ((status_ & VIRTIO_CONFIG_S_DRIVER_OK) != 0) raise(VIRTIO_MMIO_INT_CONFIG);
}

// --- queues ---

void MmioTransport::notify(std::uint32_t queue) {
  if (queue >= notifiers_.size()) return;
  const std::uint64_t one = 1;
  // EAGAIN means the counter is full of notifications nobody has taken yet: one is enough.
  if (::write(notifiers_[queue].event.get(), &one, sizeof(one)) < 0) SM_CHECK(errno == EAGAIN);
}

void MmioTransport::on_notify(std::uint32_t queue) {
  std::uint64_t count = 0;
  if (::read(notifiers_[queue].event.get(), &count, sizeof(count)) < 0) SM_CHECK(errno == EAGAIN);
  std::lock_guard lock(mutex_);
  if (!active_ || !queues_[queue].ready) return;
  const auto more = device_.process_queue(queue);
  if (!more) {
    fail_locked(more.error());
  } else if (*more && active_) {
    notify(queue);
  }
}

// --- registers ---

std::uint64_t MmioTransport::offered_features() const {
  return device_.features() | kVirtioVersion1;
}

bool MmioTransport::features_acceptable_locked() const {
  return (driver_features_ & ~offered_features()) == 0 && (driver_features_ & kVirtioVersion1) != 0;
}

void MmioTransport::read(std::uint64_t offset, std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  if (offset >= VIRTIO_MMIO_CONFIG) {
    std::lock_guard lock(mutex_);
    device_.read_config(static_cast<std::uint32_t>(offset - VIRTIO_MMIO_CONFIG), out);
    return;
  }
  // Spec: virtio 1.2, 4.2.2.2: registers are 32 bits wide and accessed as such.
  if (out.size() != 4 || offset % 4 != 0) return;
  std::uint32_t value = 0;
  if (offset == VIRTIO_MMIO_INTERRUPT_STATUS) {
    value = interrupt_status_.load(std::memory_order_acquire);
  } else {
    std::lock_guard lock(mutex_);
    value = read_register_locked(offset);
  }
  std::memcpy(out.data(), &value, sizeof(value));
}

void MmioTransport::write(std::uint64_t offset, std::span<const std::byte> in) {
  if (offset >= VIRTIO_MMIO_CONFIG) {
    std::lock_guard lock(mutex_);
    if (!stopped_) {
      device_.write_config(static_cast<std::uint32_t>(offset - VIRTIO_MMIO_CONFIG), in);
    }
    return;
  }
  if (in.size() != 4 || offset % 4 != 0) return;
  std::uint32_t value = 0;
  std::memcpy(&value, in.data(), sizeof(value));
  if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) return notify(value);
  if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
    interrupt_status_.fetch_and(~value, std::memory_order_acq_rel);
    return;
  }
  std::lock_guard lock(mutex_);
  if (!stopped_) write_register_locked(offset, value);
}

std::uint32_t MmioTransport::read_register_locked(std::uint64_t offset) const {
  const auto sizes = device_.queue_max_sizes();
  const bool selected = queue_select_ < sizes.size();
  switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
      return kMagic;
    case VIRTIO_MMIO_VERSION:
      return kVersion;
    case VIRTIO_MMIO_DEVICE_ID:
      return static_cast<std::uint32_t>(device_.type());
    case VIRTIO_MMIO_VENDOR_ID:
      return kVendor;
    case VIRTIO_MMIO_DEVICE_FEATURES:
      if (device_features_select_ > 1) return 0;
      return static_cast<std::uint32_t>(offered_features() >> (32 * device_features_select_));
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
      return selected ? sizes[queue_select_] : 0;
    case VIRTIO_MMIO_QUEUE_READY:
      return selected && queues_[queue_select_].ready ? 1 : 0;
    case VIRTIO_MMIO_STATUS:
      return status_;
    case VIRTIO_MMIO_CONFIG_GENERATION:
      return config_generation_.load(std::memory_order_acquire);
    // No device has a shared memory region. Spec: virtio 1.2, 4.2.2: then all bits are ones.
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH:
      return kAllOnes;
    default:
      return 0;
  }
}

void MmioTransport::write_register_locked(std::uint64_t offset, std::uint32_t value) {
  switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
      device_features_select_ = value;
      return;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
      driver_features_select_ = value;
      return;
    case VIRTIO_MMIO_DRIVER_FEATURES: {
      const bool negotiating =
          (status_ & VIRTIO_CONFIG_S_DRIVER) != 0 && (status_ & VIRTIO_CONFIG_S_FEATURES_OK) == 0;
      if (!negotiating) return;
      if (driver_features_select_ == 0) set_low(driver_features_, value);
      if (driver_features_select_ == 1) set_high(driver_features_, value);
      return;
    }
    case VIRTIO_MMIO_QUEUE_SEL:
      queue_select_ = value;
      return;
    case VIRTIO_MMIO_STATUS:
      return write_status_locked(value);
    default:
      return write_queue_locked(offset, value);
  }
}

// The selected queue's registers: changed only between FEATURES_OK and DRIVER_OK, and all but
// QueueReady only while the queue is not ready. Spec: virtio 1.2, 4.2.2.2.
void MmioTransport::write_queue_locked(std::uint64_t offset, std::uint32_t value) {
  constexpr std::uint32_t kSetUp = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
  if (queue_select_ >= queues_.size() || (status_ & kSetUp) != VIRTIO_CONFIG_S_FEATURES_OK) return;
  QueueRegisters& queue = queues_[queue_select_];
  if (offset == VIRTIO_MMIO_QUEUE_READY) {
    queue.ready = (value & 1) != 0;
    return;
  }
  if (queue.ready) return;
  switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
      queue.size = value;
      return;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
      return set_low(queue.descriptors, value);
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
      return set_high(queue.descriptors, value);
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
      return set_low(queue.available, value);
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
      return set_high(queue.available, value);
    case VIRTIO_MMIO_QUEUE_USED_LOW:
      return set_low(queue.used, value);
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
      return set_high(queue.used, value);
    default:
      return;
  }
}

// --- status ---
//
//   0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK        any: write 0 -> reset
//                                     |              | device failed
//                        refused: bit stays 0        v
//                                               NEEDS_RESET       any: FAILED -> only reset helps
void MmioTransport::write_status_locked(std::uint32_t value) {
  if (value == 0) return reset_locked();
  if ((status_ & kDriverBits & ~value) != 0) {
    log_.guest_warning("{}: status {:#x} would clear bits of {:#x}", name(), value, status_);
    return;
  }
  if ((status_ & VIRTIO_CONFIG_S_FAILED) != 0) return;
  for (const StatusStep& step : kStatusSteps) {
    if ((value & step.bit) == 0 || (status_ & step.bit) != 0) continue;
    if ((status_ & step.needs) != step.needs) {
      log_.guest_warning("{}: status {:#x} out of order after {:#x}", name(), value, status_);
      return;
    }
    if (step.bit == VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable_locked()) {
      log_.guest_warning("{}: features {:#x} were not offered", name(), driver_features_);
      return;
    }
    status_ |= step.bit;
    if (step.bit == VIRTIO_CONFIG_S_DRIVER_OK) activate_locked();
  }
  if ((value & VIRTIO_CONFIG_S_FAILED) != 0) {
    status_ |= VIRTIO_CONFIG_S_FAILED;
    active_ = false;
    device_.reset();
  }
}

void MmioTransport::activate_locked() {
  if (const auto status = try_activate_locked(); !status) return fail_locked(status.error());
  active_ = true;
  if (std::exchange(config_change_pending_, false)) raise(VIRTIO_MMIO_INT_CONFIG);
  // Buffers may have been made available before; the driver need not kick for those.
  for (std::uint32_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].ready) notify(i);
  }
}

Status MmioTransport::try_activate_locked() {
  return device_.activate(SM_TRY(activation_locked({})));
}

// `saved`: where the queues stand, one per queue; empty for queues that begin.
Result<VirtioActivation> MmioTransport::activation_locked(std::span<const VirtioQueueState> saved) {
  VirtioActivation activation;
  activation.features = driver_features_ & device_.features();
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    const QueueRegisters& registers = queues_[i];
    const QueueConfig config{
        .size = narrow<std::uint16_t>(registers.size).value_or(0),
        .descriptors = GuestPhysAddr(registers.descriptors),
        .available = GuestPhysAddr(registers.available),
        .used = GuestPhysAddr(registers.used),
        .ready = registers.ready,
        .event_idx = (activation.features & kRingEventIdx) != 0,
        .indirect = (activation.features & kRingIndirectDesc) != 0,
        .position = saved.empty() ? QueuePosition{} : saved[i].position,
    };
    activation.queues.push_back(
        SM_TRY(Queue::create(memory_, config, device_.queue_max_sizes()[i])));
  }
  return activation;
}

// Finished when this returns: the device touches no guest memory any more.
void MmioTransport::reset_locked() {
  active_ = false;
  device_.reset();
  status_ = 0;
  device_features_select_ = 0;
  driver_features_select_ = 0;
  driver_features_ = 0;
  queue_select_ = 0;
  std::fill(queues_.begin(), queues_.end(), QueueRegisters{});
  config_change_pending_ = false;
  interrupt_status_.store(0, std::memory_order_release);
}

// --- snapshots ---

VirtioState MmioTransport::state() const {
  VirtioState state{.device_type = static_cast<std::uint32_t>(device_.type()),
                    .status = status_,
                    .device_features_select = device_features_select_,
                    .driver_features_select = driver_features_select_,
                    .driver_features = driver_features_,
                    .queue_select = queue_select_,
                    .interrupt_status = interrupt_status_.load(std::memory_order_acquire),
                    .config_generation = config_generation_.load(std::memory_order_acquire),
                    .config_change_pending = config_change_pending_,
                    .active = active_,
                    .queues = {},
                    .device = {}};
  for (std::uint32_t i = 0; i < queues_.size(); ++i) {
    const QueueRegisters& queue = queues_[i];
    state.queues.push_back(
        {.size = queue.size,
         .descriptors = queue.descriptors,
         .available = queue.available,
         .used = queue.used,
         .ready = queue.ready,
         .position = active_ && queue.ready ? device_.queue_position(i) : QueuePosition{}});
  }
  return state;
}

Status MmioTransport::set_state(const VirtioState& state) {
  const std::lock_guard lock(mutex_);
  if (state.device_type != static_cast<std::uint32_t>(device_.type()) || !state.device.empty()) {
    return fail(Code::kUnsupported, std::string(name()) + ": the state is another device's");
  }
  if (state.queues.size() != queues_.size()) {
    return fail(Code::kCorrupt, std::string(name()) + ": a state of " +
                                    std::to_string(state.queues.size()) + " queues");
  }
  status_ = state.status & (kDriverBits | VIRTIO_CONFIG_S_NEEDS_RESET);
  device_features_select_ = state.device_features_select;
  driver_features_select_ = state.driver_features_select;
  driver_features_ = state.driver_features;
  queue_select_ = state.queue_select;
  interrupt_status_ = state.interrupt_status & (VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
  config_generation_ = state.config_generation;
  config_change_pending_ = state.config_change_pending;
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    const VirtioQueueState& saved = state.queues[i];
    queues_[i] = {saved.size, saved.descriptors, saved.available, saved.used, saved.ready};
  }
  if (!state.active) return {};
  constexpr std::uint32_t kRunning = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
  if ((status_ & kRunning) != kRunning || !features_acceptable_locked()) {
    return fail(Code::kCorrupt, std::string(name()) + ": active without a driver");
  }
  auto activation = SM_TRY_WITH(activation_locked(state.queues), name());
  SM_TRY_STATUS(device_.restore(std::move(activation)));
  active_ = true;
  return {};
}

void MmioTransport::go_on() {
  const std::lock_guard lock(mutex_);
  if (interrupt_status_ != 0) irq_->trigger();
  for (std::uint32_t i = 0; i < queues_.size(); ++i) {
    if (active_ && queues_[i].ready) notify(i);
  }
}

}  // namespace sm
