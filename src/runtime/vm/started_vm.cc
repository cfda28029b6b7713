#include "runtime/vm/started_vm.h"

#include <utility>

namespace sm {

std::optional<Error> VmEndpoint::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

void VmEndpoint::when_ended(std::function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    if (!end_) {
      waiting_.push_back(std::move(done));
      return;
    }
  }
  done();
}

void VmEndpoint::set_ended(Error why) {
  std::vector<std::function<void()>> waiting;
  {
    const std::lock_guard lock(mutex_);
    if (end_) return;
    end_ = std::move(why);
    waiting.swap(waiting_);
  }
  for (const auto& done : waiting) done();
}

}  // namespace sm
