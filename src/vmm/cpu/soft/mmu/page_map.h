// PageMap: for each page of guest RAM, which vCPUs hold decoded code of it and which may hold a
// write translation to it. A vCPU may have a write translation only while nobody has code of the
// page, so every write to code takes the slow path and is noticed.
//
// Beside that, which lines of a page were ever decoded: writes to others leave the code as it is.
//
// Both halves of a page's word change and are read in one atomic operation: who registers as a
// holder of code sees every earlier writer, and a writer sees every earlier holder of code.
// Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace sm::soft {

inline constexpr std::uint32_t kMaxSoftVcpus = 8;  // a bit for each in both halves

using VcpuSet = std::uint8_t;
constexpr VcpuSet vcpu_bit(std::uint32_t index) { return static_cast<VcpuSet>(1u << index); }

class PageMap {
 public:
  PageMap() = default;
  // The host gives zeroed memory for it when a part is first used.
  explicit PageMap(std::uint64_t pages)
      : words_(static_cast<std::uint16_t*>(std::calloc(pages, sizeof(std::uint16_t)))),
        lines_(static_cast<std::uint64_t*>(std::calloc(pages, sizeof(std::uint64_t)))) {}
  bool valid() const { return words_ != nullptr && lines_ != nullptr; }

  VcpuSet code_holders(std::uint64_t page) const {
    return static_cast<VcpuSet>(word(page).load(std::memory_order_relaxed) & 0xFF);
  }
  // Registers and returns the vCPUs that may write to the page by a translation of their own.
  VcpuSet add_code_holder(std::uint64_t page, std::uint32_t vcpu) {
    return static_cast<VcpuSet>(word(page).fetch_or(vcpu_bit(vcpu)) >> 8);
  }
  bool is_code_holder(std::uint64_t page, std::uint32_t vcpu) const {
    return (word(page).load() & vcpu_bit(vcpu)) != 0;
  }
  // The page was written: whose code of it is gone.
  VcpuSet take_code_holders(std::uint64_t page) {
    if (code_holders(page) == 0) return 0;
    return static_cast<VcpuSet>(word(page).fetch_and(0xFF00) & 0xFF);
  }
  void drop_code_holder(std::uint64_t page, std::uint32_t vcpu) {
    word(page).fetch_and(static_cast<std::uint16_t>(~vcpu_bit(vcpu)));
  }

  // The bytes [begin, end) of the page, `end` at most its size, are about to be decoded, or were
  // and are to be compared with what was: whoever writes to them later finds that in
  // has_code_lines(), and what was written earlier is seen. Lines stay: other code in the page
  // makes them more.
  void add_code_lines(std::uint64_t page, std::uint64_t begin, std::uint64_t end) {
    lines(page).fetch_or(lines_of(begin, end));
  }
  // Behind the write.
  bool has_code_lines(std::uint64_t page, std::uint64_t begin, std::uint64_t end) {
    return (lines(page).fetch_or(0) & lines_of(begin, end)) != 0;
  }

  // False: somebody holds code of the page, and no write translation may be made.
  bool add_writer(std::uint64_t page, std::uint32_t vcpu) {
    const auto bit = static_cast<std::uint16_t>(vcpu_bit(vcpu) << 8);
    std::uint16_t value = word(page).load(std::memory_order_relaxed);
    if ((value & bit) == 0) value = word(page).fetch_or(bit);
    return (value & 0xFF) == 0;
  }
  void drop_writer(std::uint64_t page, std::uint32_t vcpu) {
    word(page).fetch_and(static_cast<std::uint16_t>(~(vcpu_bit(vcpu) << 8)));
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // 64 lines of 64 bytes.
  static std::uint64_t lines_of(std::uint64_t begin, std::uint64_t end) {
    return ~0ull << begin / 64 & ~0ull >> (63 - (end - 1) / 64);
  }
  std::atomic_ref<std::uint64_t> lines(std::uint64_t page) const {
    return std::atomic_ref<std::uint64_t>(lines_.get()[page]);
  }
  std::atomic_ref<std::uint16_t> word(std::uint64_t page) const {
    return std::atomic_ref<std::uint16_t>(words_.get()[page]);
  }
  std::unique_ptr<std::uint16_t[], Free> words_;
  std::unique_ptr<std::uint64_t[], Free> lines_;
};

}  // namespace sm::soft
