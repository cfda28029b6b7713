#include "runtime/bake/vm_host.h"

#include <future>
#include <utility>

#include "runtime/vm/vm_process.h"

namespace sm {

Result<std::unique_ptr<VmHost>> VmHost::create(const std::string& runtime_dir) {
  std::unique_ptr<VmHost> out(new VmHost(runtime_dir));
  out->loop_ = SM_TRY(LoopThread::start("supermachine"));
  StartLimits limits;
  limits.permits = default_start_permits();
  limits.reserve_bytes = 256ull << 20;
  out->gate_ = std::make_unique<StartGate>(out->loop_->loop(), limits, &available_memory);
  return out;
}

Result<std::shared_ptr<VmPool>> VmHost::pool(std::shared_ptr<VmSource> source,
                                             const PoolLimits& limits, bool ahead) {
  auto starter = std::make_unique<ProcessStarter>(loop_->loop(), std::move(source), runtime_dir_,
                                                  VmProcess::Limits(), ahead);
  return VmPool::create(*loop_, *gate_, std::move(starter), limits);
}

Result<VmLease> VmHost::acquire(VmPool& pool) {
  if (auto lease = pool.try_acquire()) return std::move(*lease);
  std::promise<Result<VmLease>> answer;
  pool.acquire([&answer](Result<VmLease> lease) { answer.set_value(std::move(lease)); });
  return answer.get_future().get();
}

}  // namespace sm
