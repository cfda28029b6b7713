#include "vmm/cpu/vcpu_hold.h"

#include "vmm/cpu/vcpu_thread.h"

namespace sm {

VcpuHold::Token VcpuHold::hold() {
  std::lock_guard lock(mutex_);
  const auto self = threads_.find(std::this_thread::get_id());
  if (self == threads_.end()) return 0;
  const Token token = next_++;
  held_.emplace(token, self->second);
  self->second->add_hold();
  return token;
}

void VcpuHold::release(Token token) {
  std::lock_guard lock(mutex_);
  const auto it = held_.find(token);
  if (it == held_.end()) return;
  it->second->drop_hold();
  held_.erase(it);
}

void VcpuHold::release_all() {
  std::lock_guard lock(mutex_);
  for (const auto& [token, thread] : held_) thread->drop_hold();
  held_.clear();
}

void VcpuHold::attach(std::thread::id id, VcpuThread& thread) {
  std::lock_guard lock(mutex_);
  threads_[id] = &thread;
}

void VcpuHold::detach(std::thread::id id) {
  std::lock_guard lock(mutex_);
  const auto it = threads_.find(id);
  if (it == threads_.end()) return;
  std::erase_if(held_, [&](const auto& entry) { return entry.second == it->second; });
  threads_.erase(it);
}

}  // namespace sm
