// DetachKeys: Ctrl-P Ctrl-Q in what a user types. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace sm {

class DetachKeys {
 public:
  // Appends to `out` what is for the program; true when the keys were there, and nothing behind
  // them counts. A Ctrl-P is held back until it is known what follows.
  bool filter(std::span<const std::byte> in, std::vector<std::byte>& out) {
    constexpr std::byte kCtrlP{0x10}, kCtrlQ{0x11};
    for (const std::byte b : in) {
      if (held_ && b == kCtrlQ) return true;
      if (held_) out.push_back(kCtrlP);
      held_ = b == kCtrlP;
      if (!held_) out.push_back(b);
    }
    return false;
  }

 private:
  bool held_ = false;
};

}  // namespace sm
