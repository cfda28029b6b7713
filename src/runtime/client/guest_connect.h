// A connection to a TCP port of a guest, over its agent.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

// `first` is sent behind the request: what the port hears first. `done` is called once, on the
// loop, with a non-blocking stream socket. Thread: the loop's. kIo when nothing answers at that
// port, kGone.
void connect_to_guest(LoopThread& loop, const std::shared_ptr<VmEndpoint>& vm, std::uint16_t port,
                      std::span<const std::byte> first, std::function<void(Result<UniqueFd>)> done);

}  // namespace sm
