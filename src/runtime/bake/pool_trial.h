// run_pool_trial: fills a pool and uses it for some time, for figures. Blocks the process's main
// thread; the user's signals end it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "runtime/run_options.h"

namespace sm {

struct PoolTrial {
  RunOptions run;  // image: a tag, a folder of a snapshot (with a slash), or an image
  std::uint32_t count = 4;
  std::uint32_t cycles = 20;
};
struct PoolFigures {
  double fill_ms = 0;  // from nothing to `count` VMs that are ready; 0: it did not come to that
  std::vector<double> acquire_ms, exec_ms, release_ms;
  std::uint64_t warm = 0, failed = 0;
  int interrupted_by = 0;  // by this signal: the figures are those so far
};
// The command (default: true) runs once in each cycle and must end with status 0.
Result<PoolFigures> run_pool_trial(const PoolTrial& trial, const HostEnv& host);

}  // namespace sm
