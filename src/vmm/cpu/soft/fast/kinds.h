// Kinds: numbers of some handlers, by address. Of every instruction that is translated, so there is
// no search: the multiplier is one with which no two share a slot. Where the linker has put them
// near one another it takes some tries to find one.
//
// Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft::fast {

inline constexpr std::uint8_t kNoKind = 0xFF;

class Kinds {
 public:
  // `handlers` live as long as this, and are fewer than kNoKind.
  explicit Kinds(std::span<const Handler> handlers) : handlers_(handlers) {
    constexpr int kTries = 1000;  // none of the layouts that were tried needed more than nine
    for (int i = 0; !fill(); ++i) {
      if (i == kTries) std::abort();
      multiplier_ *= 0xD134'2543'DE82'EF95;  // odd, and each try has nothing to do with the last
    }
  }
  // The place among the handlers; kNoKind for those that are none.
  std::uint8_t of(Handler handler) const {
    const std::uint8_t kind = slots_[slot_of(handler)];
    return handlers_[kind] == handler ? kind : kNoKind;
  }

 private:
  static constexpr int kBits = 11;
  bool fill() {
    slots_.fill(0);
    std::array<bool, std::size_t{1} << kBits> taken{};
    for (std::size_t i = 0; i < handlers_.size(); ++i) {
      const std::size_t slot = slot_of(handlers_[i]);
      if (taken[slot]) return false;
      taken[slot] = true;
      slots_[slot] = static_cast<std::uint8_t>(i);
    }
    return true;
  }
  std::size_t slot_of(Handler handler) const {
    return static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(handler) * multiplier_ >>
                                    (64 - kBits));
  }
  std::span<const Handler> handlers_;
  std::uint64_t multiplier_ = 0x9E37'79B9'7F4A'7C15;
  std::array<std::uint8_t, std::size_t{1} << kBits> slots_;
};

}  // namespace sm::soft::fast
