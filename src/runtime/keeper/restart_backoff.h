// RestartBackoff: how long to wait before a command is started again. Pure.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace sm {

class RestartBackoff {
 public:
  static constexpr Duration kFirst = std::chrono::milliseconds(100);
  static constexpr Duration kMost = std::chrono::minutes(1);
  // A command that ran so long was all right.
  static constexpr Duration kGoodRun = std::chrono::seconds(10);

  // `ran`: how long the command ran that has just ended. Doubles from one short run to the next.
  Duration next(Duration ran) {
    if (ran >= kGoodRun) wait_ = kFirst;
    const Duration out = wait_;
    wait_ = std::min(wait_ * 2, kMost);
    return out;
  }

 private:
  Duration wait_ = kFirst;
};

}  // namespace sm
