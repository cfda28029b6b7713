// One cgroup (v2) per started process, so that everything it leaves behind can be ended, whatever
// group or session it went to. No controllers: a memory controller would keep every cgroup alive
// as long as a page that it paid for, and thousands of short programs would then fill the memory.
#pragma once

#include <deque>
#include <string>

#include "base/unique_fd.h"

namespace sm::guest {

struct Cgroup {
  UniqueFd dir;  // invalid: this kernel has no cgroup v2
  std::string name;
};

class CgroupPool {
 public:
  // `base` is a folder below the cgroup2 mount, made when missing. Without cgroup2 every cgroup is
  // invalid and nothing else changes. An empty base means none.
  explicit CgroupPool(const std::string& base);

  Cgroup make();
  static void kill(const Cgroup& cgroup);
  // Removes it, now or, when processes live on in it, at a later call.
  void retire(Cgroup cgroup);

 private:
  void remove_leftovers();

  UniqueFd base_;
  std::uint64_t next_ = 1;
  std::deque<std::string> leftovers_;
};

}  // namespace sm::guest
