// GuestArena: hands out pieces of guest memory, one after the other, to tests that play the guest.
// Nothing is freed; rewind() starts again. One thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/checked.h"
#include "vmm/memory/guest_memory.h"

namespace sm::test {

// The value of a result that cannot fail unless the test itself is wrong.
template <class T>
T must(Result<T> result) {
  SM_CHECK(result.has_value());
  return *std::move(result);
}
inline void must(const Status& status) { SM_CHECK(status.has_value()); }

class GuestArena {
 public:
  GuestArena(GuestMemory& memory, std::uint64_t start, std::uint64_t end)
      : memory_(&memory), start_(start), next_(start), end_(end) {}
  // All of the memory above the first page.
  explicit GuestArena(GuestMemory& memory) : GuestArena(memory, 4096, memory.size()) {}

  GuestMemory& memory() const { return *memory_; }

  GuestPhysAddr take(std::uint64_t bytes, std::uint64_t alignment = 16) {
    next_ = (next_ + alignment - 1) & ~(alignment - 1);
    SM_CHECK(fits(next_, bytes, end_));
    const GuestPhysAddr at(next_);
    next_ += bytes;
    return at;
  }
  GuestPhysAddr put(std::span<const std::byte> bytes) {
    const GuestPhysAddr at = take(bytes.size());
    must(memory_->write(at, bytes));
    return at;
  }
  std::uint64_t mark() const { return next_; }
  // Gives back everything taken since `mark`.
  void rewind(std::uint64_t mark) { next_ = mark; }
  void rewind() { next_ = start_; }

 private:
  GuestMemory* memory_;
  std::uint64_t start_;
  std::uint64_t next_;
  std::uint64_t end_;
};

}  // namespace sm::test
