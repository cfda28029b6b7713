// RingFake: the driver's side of one split virtqueue, for tests. It can behave (ChainBuilder,
// offer(), take_used()) and misbehave (raw descriptors, indices and ring entries). One thread, or
// one thread per RingFake.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "support/guest_arena.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/ring_layout.h"

namespace sm::test {

class RingFake {
 public:
  RingFake(GuestArena& arena, std::uint16_t size)
      : arena_(&arena),
        size_(size),
        descriptors_(arena.take(ring::descriptors_bytes(size), 16)),
        available_(arena.take(ring::avail_bytes(size), 2)),
        used_(arena.take(ring::used_bytes(size), 4)) {
    clear();
  }

  GuestArena& arena() const { return *arena_; }
  GuestMemory& memory() const { return arena_->memory(); }
  std::uint16_t size() const { return size_; }
  GuestPhysAddr descriptors() const { return descriptors_; }
  GuestPhysAddr available() const { return available_; }
  GuestPhysAddr used() const { return used_; }

  // Zeroes the rings and starts over, as a driver does after it has reset the device.
  void clear() {
    zero(descriptors_, ring::descriptors_bytes(size_));
    zero(available_, ring::avail_bytes(size_));
    zero(used_, ring::used_bytes(size_));
    free_.clear();
    for (std::uint16_t i = size_; i != 0; --i) free_.push_back(static_cast<std::uint16_t>(i - 1));
    chains_.clear();
    next_available_ = 0;
    last_used_ = 0;
    last_kicked_ = 0;
  }

  // What a device's Queue is created from.
  QueueConfig config(bool event_idx = false, bool indirect = false) const {
    return QueueConfig{.size = size_,
                       .descriptors = descriptors_,
                       .available = available_,
                       .used = used_,
                       .ready = true,
                       .event_idx = event_idx,
                       .indirect = indirect};
  }

  // --- behaving ---

  std::size_t free_descriptors() const { return free_.size(); }
  // The indices of `count` free descriptors, which belong together until the first of them comes
  // back in the used ring.
  std::vector<std::uint16_t> take_descriptors(std::size_t count) {
    SM_CHECK(count != 0 && count <= free_.size());
    std::vector<std::uint16_t> taken;
    for (; count != 0; --count) {
      taken.push_back(free_.back());
      free_.pop_back();
    }
    chains_[taken.front()] = taken;
    return taken;
  }
  // Makes a chain available and publishes it.
  void offer(std::uint16_t head) {
    set_available_entry(next_available_, head);
    ++next_available_;
    must(memory().store_release_u16(index_address(), next_available_));
  }
  // The next chain the device has given back.
  std::optional<ring::UsedElement> take_used() {
    if (used_index() == last_used_) return std::nullopt;
    const auto element = must(
        memory().read_object<ring::UsedElement>(at(used_, ring::used_element(last_used_ % size_))));
    ++last_used_;
    const auto it = chains_.find(static_cast<std::uint16_t>(element.id));
    if (it != chains_.end()) {
      free_.insert(free_.end(), it->second.rbegin(), it->second.rend());
      chains_.erase(it);
    }
    return element;
  }
  // With event index: true when the device asked to hear about what was offered since the last
  // call.
  bool kick_wanted() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint16_t old = std::exchange(last_kicked_, next_available_);
    const auto since_event = static_cast<std::uint16_t>(next_available_ - avail_event() - 1);
    return since_event < static_cast<std::uint16_t>(next_available_ - old);
  }
  // With event index: ask for an interrupt once the used index passes `index`.
  void set_used_event(std::uint16_t index) {
    must(memory().store_release_u16(at(available_, ring::used_event(size_)), index));
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  void set_no_interrupt(bool on) {
    must(
        memory().store_release_u16(at(available_, ring::kAvailFlags), on ? ring::kNoInterrupt : 0));
  }
  std::uint16_t used_index() const {
    return must(memory().load_acquire_u16(at(used_, ring::kUsedIndex)));
  }
  std::uint16_t avail_event() const {
    return must(memory().load_acquire_u16(at(used_, ring::avail_event(size_))));
  }
  std::uint16_t next_available() const { return next_available_; }
  std::uint16_t last_used() const { return last_used_; }

  // --- misbehaving ---

  void set_descriptor(std::uint16_t index, const ring::Descriptor& d) {
    must(memory().write_object(at(descriptors_, sizeof(ring::Descriptor) * index), d));
  }
  ring::Descriptor descriptor(std::uint16_t index) const {
    return must(
        memory().read_object<ring::Descriptor>(at(descriptors_, sizeof(ring::Descriptor) * index)));
  }
  void set_available_entry(std::uint16_t slot, std::uint16_t head) {
    must(memory().write_object(at(available_, ring::avail_entry(slot % size_)), head));
  }
  // Publishes an index, honest or not.
  void set_available_index(std::uint16_t index) {
    next_available_ = index;
    must(memory().store_release_u16(index_address(), index));
  }

 private:
  static GuestPhysAddr at(GuestPhysAddr base, std::uint64_t offset) {
    return GuestPhysAddr(base.raw() + offset);
  }
  GuestPhysAddr index_address() const { return at(available_, ring::kAvailIndex); }
  void zero(GuestPhysAddr start, std::uint64_t bytes) {
    must(memory().write(start, std::vector<std::byte>(bytes)));
  }

  GuestArena* arena_;
  std::uint16_t size_;
  GuestPhysAddr descriptors_, available_, used_;
  std::vector<std::uint16_t> free_;
  std::unordered_map<std::uint16_t, std::vector<std::uint16_t>> chains_;  // by head
  std::uint16_t next_available_ = 0;
  std::uint16_t last_used_ = 0;
  std::uint16_t last_kicked_ = 0;
};

}  // namespace sm::test
