// ByteQueue: bytes waiting for a descriptor, in one buffer that is compacted as it drains.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace sm::guest {

class ByteQueue {
 public:
  bool empty() const { return start_ == bytes_.size(); }
  std::size_t size() const { return bytes_.size() - start_; }
  std::span<const std::byte> front() const {
    return std::span<const std::byte>(bytes_).subspan(start_);
  }
  void push(std::span<const std::byte> more) {
    if (start_ > bytes_.size() / 2) compact();
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  }
  void pop(std::size_t n) {
    start_ += n;
    if (start_ == bytes_.size()) clear();
  }
  // Also gives the memory back: a queue that was full once does not stay large.
  void clear() {
    start_ = 0;
    if (bytes_.capacity() > kKeep) {
      bytes_ = {};
    } else {
      bytes_.clear();
    }
  }

 private:
  static constexpr std::size_t kKeep = 64u << 10;
  void compact() {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
  std::vector<std::byte> bytes_;
  std::size_t start_ = 0;
};

}  // namespace sm::guest
