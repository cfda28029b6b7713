// PhysicalMemory: guest-physical addresses to the host's bytes of RAM, in two comparisons. A view
// of a GuestMemory, which outlives it. Any thread; constant after construction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/memory/guest_memory.h"

namespace sm::soft {

inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr std::uint64_t kPageMask = kPageSize - 1;

class PhysicalMemory {
 public:
  PhysicalMemory() = default;
  explicit PhysicalMemory(const GuestMemory& memory) {
    for (const MemoryRegion& region : memory.regions()) {
      Window& window = windows_[region.start.raw() == 0 ? 0 : 1];
      window = {region.start.raw(), region.size, region.host, page_count_};
      page_count_ += region.size / kPageSize;
    }
  }

  // The bytes at `physical`, up to the end of its page; null where there is no RAM.
  std::byte* host(std::uint64_t physical) const {
    for (const Window& window : windows_) {
      const std::uint64_t offset = physical - window.start;
      if (offset < window.size) return window.host + offset;
    }
    return nullptr;
  }

  // Pages of RAM are numbered without the hole between the two windows.
  static constexpr std::uint64_t kNoPage = ~0ull;
  std::uint64_t page_count() const { return page_count_; }
  std::uint64_t page_number(std::uint64_t physical) const {
    for (const Window& window : windows_) {
      const std::uint64_t offset = physical - window.start;
      if (offset < window.size) return window.first_page + offset / kPageSize;
    }
    return kNoPage;
  }
  // The page that `host` points into, which must be inside of RAM.
  std::uint64_t page_number_of_host(const std::byte* host) const {
    for (const Window& window : windows_) {
      const auto offset =
          reinterpret_cast<std::uintptr_t>(host) - reinterpret_cast<std::uintptr_t>(window.host);
      if (offset < window.size) return window.first_page + offset / kPageSize;
    }
    return kNoPage;
  }
  std::byte* host_of_page(std::uint64_t page) const {
    for (const Window& window : windows_) {
      const std::uint64_t index = page - window.first_page;
      if (index < window.size / kPageSize) return window.host + index * kPageSize;
    }
    return nullptr;
  }

 private:
  struct Window {
    std::uint64_t start = 0;
    std::uint64_t size = 0;
    std::byte* host = nullptr;
    std::uint64_t first_page = 0;
  };
  Window windows_[2];
  std::uint64_t page_count_ = 0;
};

}  // namespace sm::soft
