// PageRange: pages of RAM by number: its regions one after the other, without the gap between them.
#pragma once

#include <cstdint>

namespace sm {

struct PageRange {
  std::uint64_t first = 0, count = 0;  // pages of 4096 bytes
  bool operator==(const PageRange&) const = default;
};

}  // namespace sm
