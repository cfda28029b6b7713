// ByteRing: a first-in first-out buffer of bytes with a fixed limit. Takes memory as it fills and
// gives it back when it runs empty, so that a thousand idle connections cost nothing.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "base/check.h"

namespace sm {

class ByteRing {
 public:
  explicit ByteRing(std::size_t limit) : limit_(limit) {}

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::size_t room() const { return limit_ - size_; }

  // Appends n <= room() bytes that fill(span) writes, in one or two pieces; stops at its first
  // false, and then nothing was appended.
  template <class Fill>
  bool append(std::size_t n, Fill&& fill) {
    SM_CHECK(n <= room());
    if (n == 0) return true;
    reserve(size_ + n);
    const std::size_t tail = (head_ + size_) % capacity_;
    const std::size_t first = std::min(n, capacity_ - tail);
    if (!fill(std::span(bytes_.get() + tail, first))) return false;
    if (first != n && !fill(std::span(bytes_.get(), n - first))) return false;
    size_ += n;
    return true;
  }

  // The content in order, as one or two pieces (the second may be empty).
  std::array<iovec, 2> pieces() const {
    const std::size_t first = std::min(size_, capacity_ - head_);
    return {iovec{bytes_.get() + head_, first}, iovec{bytes_.get(), size_ - first}};
  }

  void drop(std::size_t n) {
    SM_CHECK(n <= size_);
    size_ -= n;
    head_ = size_ == 0 ? 0 : (head_ + n) % capacity_;
    if (size_ == 0) clear();
  }
  void clear() {
    bytes_.reset();
    head_ = size_ = capacity_ = 0;
  }

 private:
  void reserve(std::size_t wanted) {
    if (wanted <= capacity_) return;
    std::size_t capacity = std::max<std::size_t>(capacity_, kFirstCapacity);
    while (capacity < wanted) capacity *= 2;
    capacity = std::min(capacity, limit_);
    auto bytes = std::make_unique_for_overwrite<std::byte[]>(capacity);
    if (size_ != 0) {
      const auto from = pieces();
      std::memcpy(bytes.get(), from[0].iov_base, from[0].iov_len);
      std::memcpy(bytes.get() + from[0].iov_len, from[1].iov_base, from[1].iov_len);
    }
    bytes_ = std::move(bytes);
    capacity_ = capacity;
    head_ = 0;
  }

  static constexpr std::size_t kFirstCapacity = 4096;

  std::size_t limit_;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
  std::unique_ptr<std::byte[]> bytes_;
};

}  // namespace sm
