// MmuMailbox: what other threads want dropped from a vCPU's translations and code: bounded lists
// that turn into "everything" when they overflow. Whoever posts also sets kAttentionMemory.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>

namespace sm::soft {

// Pages by number, or all of them.
class PageList {
 public:
  void add(std::uint64_t page) {
    if (count_ != 0 && pages_[count_ - 1] == page) return;
    if (count_ == pages_.size()) {
      all_ = true;
    } else {
      pages_[count_++] = page;
    }
  }
  bool all() const { return all_; }
  bool empty() const { return count_ == 0 && !all_; }
  std::span<const std::uint64_t> pages() const { return {pages_.data(), count_}; }

 private:
  std::array<std::uint64_t, 32> pages_{};
  std::size_t count_ = 0;
  bool all_ = false;
};

class MmuMailbox {
 public:
  // ---- Any thread.
  // The ticket to ask handled() about.
  std::uint64_t post_writer_drop(std::uint64_t page) {
    const std::lock_guard lock(mutex_);
    writers_.add(page);
    return ++posted_;
  }
  bool handled(std::uint64_t ticket) const { return handled_.load() >= ticket; }
  void post_code_drop(std::uint64_t page) {
    const std::lock_guard lock(mutex_);
    code_.add(page);
  }
  void post_flush() {
    const std::lock_guard lock(mutex_);
    flush_ = true;
  }

  // ---- Thread: the vCPU's own.
  PageList take_code_drops() {
    const std::lock_guard lock(mutex_);
    return std::exchange(code_, {});
  }
  struct TranslationDrops {
    PageList writers;
    bool flush = false;
    std::uint64_t ticket = 0;
  };
  TranslationDrops take_translation_drops() {
    const std::lock_guard lock(mutex_);
    return {std::exchange(writers_, {}), std::exchange(flush_, false), posted_};
  }
  void set_handled(std::uint64_t ticket) { handled_.store(ticket); }

 private:
  std::mutex mutex_;
  PageList writers_, code_;
  bool flush_ = false;
  std::uint64_t posted_ = 0;
  std::atomic<std::uint64_t> handled_{0};
};

}  // namespace sm::soft
