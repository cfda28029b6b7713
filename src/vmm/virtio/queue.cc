#include "vmm/virtio/queue.h"

#include <atomic>

#include "base/check.h"
#include "base/checked.h"
#include "vmm/virtio/ring_layout.h"

namespace sm {

namespace {

constexpr std::uint64_t kMaxChainBytes = 1ull << 32;

// Only for places inside the rings, which create() has verified to be RAM, so it cannot wrap.
GuestPhysAddr at(GuestPhysAddr base, std::uint64_t offset) {
  return GuestPhysAddr(base.raw() + offset);
}

tl::unexpected<Error> broken(std::string cause) { return fail(Code::kGuest, std::move(cause)); }

// Where descriptors are read from: the queue's own table or an indirect one.
struct Table {
  GuestPhysAddr start;
  std::uint32_t count;
  bool indirect;
};

Result<Table> indirect_table(const GuestMemory& memory, const ring::Descriptor& d,
                             std::uint16_t max_chain) {
  // Spec: virtio 1.2, 2.7.5.3.1.
  if ((d.flags & ring::kNext) != 0) return broken("indirect descriptor with a successor");
  if (d.length == 0 || d.length % sizeof(ring::Descriptor) != 0) {
    return broken("indirect table of " + std::to_string(d.length) + " bytes");
  }
  const std::uint32_t count = d.length / static_cast<std::uint32_t>(sizeof(ring::Descriptor));
  if (count > max_chain) {
    return broken("indirect table of " + std::to_string(count) + " descriptors");
  }
  const GuestPhysAddr start(d.address);
  if (!memory.contains(start, d.length)) return broken("indirect table outside RAM");
  return Table{start, count, true};
}

Status append(const GuestMemory& memory, const ring::Descriptor& d, Chain& chain) {
  const bool writable = (d.flags & ring::kWrite) != 0;
  // Spec: virtio 1.2, 2.7.4.2: readable buffers come first.
  if (!writable && !chain.writable.empty()) return broken("readable descriptor after a writable");
  if (d.length == 0) return {};
  const GuestPhysAddr address(d.address);
  if (!memory.contains(address, d.length)) return broken("descriptor outside RAM");
  (writable ? chain.writable : chain.readable).push_back(GuestBuffer{address, d.length});
  return {};
}

}  // namespace

Result<Queue> Queue::create(GuestMemory& memory, const QueueConfig& config,
                            std::uint16_t max_size) {
  SM_CHECK(max_size <= kMaxQueueSize);
  Queue queue(memory);
  if (!config.ready) return queue;
  const std::uint64_t n = config.size;
  if (!is_power_of_two(n) || n > max_size) {
    return broken("queue size " + std::to_string(n) + " is not a power of two up to " +
                  std::to_string(max_size));
  }
  if (!config.descriptors.is_aligned(16) || !config.available.is_aligned(2) ||
      !config.used.is_aligned(4)) {
    return broken("a ring is not aligned");
  }
  if (!memory.contains(config.descriptors, ring::descriptors_bytes(n)) ||
      !memory.contains(config.available, ring::avail_bytes(n)) ||
      !memory.contains(config.used, ring::used_bytes(n))) {
    return broken("a ring lies outside RAM");
  }
  queue.config_ = config;
  queue.max_chain_ = max_size;
  queue.next_available_ = queue.available_seen_ = config.position.next_available;
  queue.next_used_ = config.position.next_used;
  queue.signalled_used_ = config.position.signalled_used;
  return queue;
}

Status Queue::refresh_available() {
  const std::uint16_t index =
      SM_TRY(memory_->load_acquire_u16(at(config_.available, ring::kAvailIndex)));
  const auto ahead = static_cast<std::uint16_t>(index - next_available_);
  if (ahead > config_.size) {
    return broken("available index " + std::to_string(index) + " is " + std::to_string(ahead) +
                  " ahead of " + std::to_string(next_available_));
  }
  available_seen_ = index;
  return {};
}

// True when next_available_ names a chain.
Result<bool> Queue::find_available() {
  if (next_available_ != available_seen_) return true;
  SM_TRY_STATUS(refresh_available());
  if (next_available_ != available_seen_ || !config_.event_idx) {
    return next_available_ != available_seen_;
  }
  // Ask to be told about the next entry, then look again: an entry added before the driver could
  // see the request would otherwise never be announced. The fence keeps the load after the store.
  SM_TRY_STATUS(memory_->store_release_u16(at(config_.used, ring::avail_event(config_.size)),
                                           next_available_));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  SM_TRY_STATUS(refresh_available());
  return next_available_ != available_seen_;
}

Result<std::uint16_t> Queue::watch_available() {
  const GuestPhysAddr index = at(config_.available, ring::kAvailIndex);
  if (config_.event_idx) {
    SM_TRY_STATUS(memory_->store_release_u16(at(config_.used, ring::avail_event(config_.size)),
                                             SM_TRY(memory_->load_acquire_u16(index))));
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  return memory_->load_acquire_u16(index);
}

Status Queue::walk(std::uint16_t head, Chain& chain) const {
  Table table{config_.descriptors, config_.size, false};
  std::uint32_t index = head;
  std::uint64_t bytes = 0;
  // Limit: a chain may be as long as the largest queue the device offers, even when the driver
  // chose a smaller one and describes it indirectly. Loops end here too.
  for (std::uint32_t left = max_chain_; left != 0; --left) {
    if (index >= table.count) return broken("descriptor index " + std::to_string(index));
    auto d = SM_TRY(memory_->read_object<ring::Descriptor>(
        at(table.start, std::uint64_t{index} * sizeof(ring::Descriptor))));
    if ((d.flags & ring::kIndirect) != 0) {
      if (!config_.indirect) return broken("indirect descriptor without the feature");
      if (table.indirect) return broken("nested indirect descriptor");
      table = SM_TRY(indirect_table(*memory_, d, max_chain_));
      index = 0;
      d = SM_TRY(memory_->read_object<ring::Descriptor>(table.start));
      if ((d.flags & ring::kIndirect) != 0) return broken("nested indirect descriptor");
    }
    SM_TRY_STATUS(append(*memory_, d, chain));
    bytes += d.length;
    if (bytes > kMaxChainBytes) return broken("descriptor chain above 4 GiB");
    if ((d.flags & ring::kNext) == 0) return {};
    index = d.next;
  }
  return broken("descriptor chain longer than " + std::to_string(max_chain_));
}

Result<bool> Queue::pop(Chain& chain) {
  chain.readable.clear();
  chain.writable.clear();
  if (!config_.ready) return false;
  if (broken_) return broken("queue is broken");
  // Set back on success: every early return below means the ring cannot be trusted any more.
  broken_ = true;
  if (!SM_TRY(find_available())) {
    broken_ = false;
    return false;
  }
  const std::uint64_t slot = next_available_ % config_.size;
  chain.head =
      SM_TRY(memory_->read_object<std::uint16_t>(at(config_.available, ring::avail_entry(slot))));
  SM_TRY_STATUS(walk(chain.head, chain));
  ++next_available_;
  can_undo_ = true;
  broken_ = false;
  return true;
}

Result<std::optional<Chain>> Queue::pop() {
  Chain chain;
  if (!SM_TRY(pop(chain))) return std::optional<Chain>();
  return std::optional<Chain>(std::move(chain));
}

void Queue::undo_pop() {
  SM_CHECK(can_undo_);
  can_undo_ = false;
  --next_available_;
}

Status Queue::push(const Chain& chain, std::uint32_t written) {
  SM_CHECK(config_.ready);
  can_undo_ = false;
  const std::uint64_t slot = next_used_ % config_.size;
  const ring::UsedElement element{chain.head, written};
  SM_TRY_STATUS(memory_->write_object(at(config_.used, ring::used_element(slot)), element));
  ++next_used_;
  return memory_->store_release_u16(at(config_.used, ring::kUsedIndex), next_used_);
}

Result<bool> Queue::should_interrupt() {
  if (!config_.ready || next_used_ == signalled_used_) return false;
  // The driver publishes its wish, then looks at the used index; we do it the other way round. The
  // fence makes sure that one of us sees the other's store.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!config_.event_idx) {
    signalled_used_ = next_used_;
    const std::uint16_t flags =
        SM_TRY(memory_->load_acquire_u16(at(config_.available, ring::kAvailFlags)));
    return (flags & ring::kNoInterrupt) == 0;
  }
  const std::uint16_t used_event =
      SM_TRY(memory_->load_acquire_u16(at(config_.available, ring::used_event(config_.size))));
  // Spec: virtio 1.2, 2.7.10: has the index passed used_event since the last time?
  const auto since_event = static_cast<std::uint16_t>(next_used_ - used_event - 1);
  const auto since_signal = static_cast<std::uint16_t>(next_used_ - signalled_used_);
  signalled_used_ = next_used_;
  return since_event < since_signal;
}

}  // namespace sm
