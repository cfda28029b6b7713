// bake_vm: makes a VM that runs ready, and saves it: starts its workload, waits until that is
// ready, runs commands that warm it up, takes a snapshot. Blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "proto/agent.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

enum class ReadyWhen : std::uint8_t {
  kPreExec,    // at once: no workload
  kListener,   // a TCP port is listened on that was not before
  kHeartbeat,  // the workload has written to the file kReadyFile
  kAfter,      // some time after the workload's start
  kRequest,    // a function of the caller's says so
};
struct Readiness {
  ReadyWhen when = ReadyWhen::kPreExec;
  std::uint16_t port = 0;              // kListener: this one; 0: any
  std::chrono::milliseconds after{0};  // kAfter
};
// "pre-exec", "listener[:PORT]", "heartbeat", "after-ms:N", and "request:NAME", which programs say
// and no user: the name stands for what the function does.
Result<Readiness> parse_readiness(const std::string& text);

// Empty and writable for everybody when the workload starts, which finds its name in $READY_FILE.
inline constexpr const char* kReadyFile = "/run/supermachine/ready";
inline constexpr const char* kReadyVariable = "SUPERMACHINE_READY_FILE";

// Makes a VM whose workload has been started ready, and returns when it is. May block; ends soon
// once the VM does.
using BakeRequest = std::function<Status()>;

struct BakePlan {
  std::optional<agent::ExecRequest> workload;  // not with kPreExec
  Readiness ready;
  BakeRequest on_request;                  // kRequest
  std::vector<agent::ExecRequest> warmup;  // each must end with status 0
  std::chrono::milliseconds quiesce{0};    // from then on to the snapshot
  Duration limit = std::chrono::minutes(5);
  SaveOrder save;
};

// kGuest: the workload ended before it was ready, or a command failed; kTimeout: it was not ready
// in time; kGone: stopped. Errors of on_request are its own. Else as VmControl::save. After an
// error nothing is kept.
Result<control::Done> bake_vm(const std::shared_ptr<LoopThread>& loop,
                              const std::shared_ptr<VmEndpoint>& vm, const BakePlan& plan,
                              const std::stop_token& stop);

}  // namespace sm
