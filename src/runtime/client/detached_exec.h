// detached_exec: starts a program of a guest that then is nobody's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "proto/agent.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

// `request` is detached. `done` gets the program's id in the guest: on the loop, or within the call
// when the loop is gone. Any thread.
void detached_exec(const std::shared_ptr<LoopThread>& loop, const std::shared_ptr<VmEndpoint>& vm,
                   const agent::ExecRequest& request,
                   std::function<void(Result<std::uint32_t>)> done);

}  // namespace sm
