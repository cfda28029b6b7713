// BufferReader and BufferWriter: windows over the guest buffers of one request that copy across
// their borders, whatever way the driver has cut the request into descriptors. Stack values of the
// device's code. Spec: virtio 1.2, 2.7.4 (message framing).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

// One descriptor's buffer: verified to lie in RAM when the chain was popped.
struct GuestBuffer {
  GuestPhysAddr address;
  std::uint32_t length;
};

std::uint64_t total_length(std::span<const GuestBuffer> buffers);

// A position in a list of buffers.
class BufferCursor {
 public:
  explicit BufferCursor(std::span<const GuestBuffer> buffers)
      : buffers_(buffers), remaining_(total_length(buffers)) {}

  std::uint64_t remaining() const { return remaining_; }
  // The longest piece of at most `n` bytes that lies in one buffer; steps over it. n and
  // remaining() must not be zero.
  GuestBuffer take_piece(std::uint64_t n);

 private:
  std::span<const GuestBuffer> buffers_;
  std::uint32_t offset_ = 0;  // into buffers_.front()
  std::uint64_t remaining_;
};

class BufferReader {
 public:
  BufferReader(const GuestMemory& memory, std::span<const GuestBuffer> buffers)
      : memory_(&memory), cursor_(buffers) {}
  std::uint64_t remaining() const { return cursor_.remaining(); }
  // Exactly out.size() bytes, or kGuest and nothing consumed when fewer remain.
  Status read(std::span<std::byte> out);
  Status skip(std::uint64_t n);
  // The next n bytes as host iovecs for pwritev/sendmsg, consumed.
  Status take_iovecs(std::uint64_t n, std::vector<iovec>& out);
  template <class T>
  requires std::is_trivially_copyable_v<T> Result<T> read_object() {
    T value;
    auto status = read(std::as_writable_bytes(std::span(&value, 1)));
    if (!status) return fail(std::move(status).error());
    return value;
  }

 private:
  const GuestMemory* memory_;
  BufferCursor cursor_;
};

class BufferWriter {
 public:
  BufferWriter(GuestMemory& memory, std::span<const GuestBuffer> buffers)
      : memory_(&memory), cursor_(buffers), total_(cursor_.remaining()) {}
  std::uint64_t remaining() const { return cursor_.remaining(); }
  std::uint64_t written() const { return total_ - cursor_.remaining(); }
  // All of `in`, or kGuest and nothing written when it does not fit.
  Status write(std::span<const std::byte> in);
  // The next n bytes as host iovecs for preadv/recvmsg, counted as written.
  Status take_iovecs(std::uint64_t n, std::vector<iovec>& out);
  template <class T>
  requires std::is_trivially_copyable_v<T> Status write_object(const T& value) {
    return write(std::as_bytes(std::span(&value, 1)));
  }

 private:
  GuestMemory* memory_;
  BufferCursor cursor_;
  std::uint64_t total_;
};

}  // namespace sm
