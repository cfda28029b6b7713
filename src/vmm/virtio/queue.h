// Queue: a split virtqueue as the device sees it, with every guest-controlled value checked.
// One thread at a time (the device's lock). Spec: virtio 1.2, 2.7.
//
//   while (auto chain = SM_TRY(queue.pop())) {      // optional<Chain>; an error = the ring is
//   broken
//     ... chain->readable / chain->writable ...
//     SM_TRY_STATUS(queue.push(*chain, bytes_written));
//   }
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

inline constexpr std::uint64_t kRingIndirectDesc = 1ull << 28;
inline constexpr std::uint64_t kRingEventIdx = 1ull << 29;
inline constexpr std::uint64_t kVirtioVersion1 = 1ull << 32;

// One descriptor's buffer: verified to lie in RAM when the chain was popped.
struct GuestBuffer {
  GuestPhysAddr address;
  std::uint32_t length;
};

// A window over consecutive buffers that copies across their borders.
class BufferReader {
 public:
  BufferReader(const GuestMemory& memory, std::span<const GuestBuffer> buffers);
  std::uint64_t remaining() const { return remaining_; }
  // Exactly out.size() bytes, or kGuest when fewer remain.
  Status read(std::span<std::byte> out);
  Status skip(std::uint64_t n);
  // The next n bytes as host iovecs for pwritev/sendmsg, consumed.
  Status take_iovecs(std::uint64_t n, std::vector<iovec>& out);
  template <class T>
  Result<T> read_object();

 private:
  const GuestMemory* memory_;
  std::span<const GuestBuffer> buffers_;
  std::uint64_t offset_ = 0;  // into buffers_.front()
  std::uint64_t remaining_ = 0;
};

class BufferWriter {
 public:
  BufferWriter(GuestMemory& memory, std::span<const GuestBuffer> buffers);
  std::uint64_t remaining() const { return remaining_; }
  std::uint64_t written() const { return written_; }
  Status write(std::span<const std::byte> in);
  // The next n bytes as host iovecs for preadv/recvmsg, counted as written.
  Status take_iovecs(std::uint64_t n, std::vector<iovec>& out);
  template <class T>
  Status write_object(const T& value);

 private:
  GuestMemory* memory_;
  std::span<const GuestBuffer> buffers_;
  std::uint64_t offset_ = 0;
  std::uint64_t remaining_ = 0;
  std::uint64_t written_ = 0;
};

// One request of the driver. Give it back with Queue::push exactly once.
struct Chain {
  std::uint16_t head;
  std::vector<GuestBuffer> readable;
  std::vector<GuestBuffer> writable;
};

struct QueueConfig {
  std::uint16_t size = 0;  // a power of two, at most the device's maximum
  GuestPhysAddr descriptors, available, used;
  bool ready = false;
  bool event_idx = false;
  bool indirect = false;
};

class Queue {
 public:
  // A queue the driver left off.
  explicit Queue(GuestMemory& memory) : memory_(&memory) {}
  // Checks size, alignment and that all three rings are RAM.
  static Result<Queue> create(GuestMemory& memory, const QueueConfig& config,
                              std::uint16_t max_size);

  bool ready() const { return config_.ready; }
  GuestMemory& memory() const { return *memory_; }

  // The next available chain, or nothing. With event_idx, asks for a notification about later ones
  // before it says nothing (and looks again, so none is missed).
  // An error: index out of range, a loop, more than `size` descriptors, more than 4 GiB in all, a
  // buffer outside RAM, readable after writable, a bad indirect table, or an impossible ring index.
  Result<std::optional<Chain>> pop();
  // Un-pops the last popped chain (a device that has no room yet).
  void undo_pop();
  // Returns a chain with the number of bytes written into its writable part.
  Status push(const Chain& chain, std::uint32_t written);
  // True when the driver wants an interrupt for what was pushed since the last call.
  Result<bool> should_interrupt();

 private:
  GuestMemory* memory_;
  QueueConfig config_;
  std::uint16_t next_available_ = 0;
  std::uint16_t next_used_ = 0;
  std::uint16_t signalled_used_ = 0;
  bool signalled_valid_ = false;
};

}  // namespace sm
