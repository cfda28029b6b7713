// Interpreter: runs one vCPU's instructions by their semantic functions and deals with everything
// that happens between two of them.
//
//   run():  requests (Cpu::attention) -> run_code() or, where each instruction needs a look, step()
//           ^                                |
//           '--------------------------------'   until a device, a kick or a triple fault
//
// run_code() is the only part that is hot: it runs until a request is there or something stops it,
// 64-bit code by blocks (fast/) and the rest by single instructions.
// Thread: the vCPU's own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/counters.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/time/clock.h"
#include "vmm/cpu/soft/time/timer_queue.h"
#include "vmm/cpu/soft/trace.h"

namespace sm::soft {

enum class RunEnd : std::uint8_t {
  kDevice,    // Cpu::io waits
  kKicked,    // between two instructions
  kHalted,    // with virtual time: nothing inside of the machine ends the HLT
  kShutdown,  // triple fault
};

// Time that is counted in instructions, for one vCPU.
struct VirtualTime {
  static constexpr std::uint32_t kKhz = 1'000'000;  // one instruction is one nanosecond
  // Time moves in steps, so that blocks need not tell which of their instructions asks for it.
  static constexpr std::uint64_t kStep = 1000;
  VirtualClock clock{kKhz, 0};
  PolledTimers timers;
};

struct ExecutionOptions {
  bool reference = false;
  std::uint64_t instructions_per_run = 0;  // 0: no limit
  VirtualTime* virtual_time = nullptr;     // null: the clock of the host
  SoftTraceSink* trace = nullptr;
};

class Interpreter {
 public:
  // `cpu` has its Mmu, CodeCache and VcpuPlatform.
  Interpreter(Cpu& cpu, Machine& machine, const ExecutionOptions& options)
      : cpu_(cpu),
        machine_(machine),
        options_(options),
        use_blocks_(!options.reference && options.trace == nullptr),
        tracer_(options.trace),
        next_step_(options.virtual_time == nullptr ? kNever : VirtualTime::kStep) {}

  RunEnd run();
  // Executes the rest of the instruction at hand, whose last access was answered. False: it has
  // another access for run() to return.
  bool finish_instruction();

  // An INIT or SIPI that has come and was not looked at, which no state holds. While the vCPU is
  // parked.
  void finish_startup();

  // Waits for INIT and SIPI, as all vCPUs but the first do after a reset.
  void wait_for_startup() { mp_state_ = MpState::kUninitialized; }
  // Any thread.
  const PublishedCounters& counters() const { return published_; }
  // The multiprocessor state, and events that another engine had begun to deliver.
  void save(CpuState& state) const;
  void load(const CpuState& state);

 private:
  // Why executing code came to a stop.
  enum class Stop : std::uint8_t {
    kRequest,
    kFault,  // the handler was entered
    kDevice,
    kShutdown,
  };

  static constexpr std::uint64_t kNever = INT64_MAX;  // as a number of instructions

  RunEnd loop();
  // What time and the end of a run are counted in: instructions and exceptions, since a guest may
  // have nothing but those.
  std::uint64_t steps() const { return cpu_.instructions() + cpu_.counts.exceptions; }
  std::int64_t steps_left() const {
    return static_cast<std::int64_t>(std::min(next_step_, run_end_) - steps());
  }
  void move_time();
  void leave_guest();
  void serve_memory(std::uint32_t bits);
  std::optional<RunEnd> serve(std::uint32_t bits);
  void serve_startup();
  bool deliver_injected();
  bool deliver_events();
  bool deliver_pending_interrupt();
  bool halt();
  bool waits_for_startup() const {
    return mp_state_ == MpState::kUninitialized || mp_state_ == MpState::kInitReceived;
  }

  Stop run_code();
  Stop run_single();
  Stop step();
  Stop step_checked();
  Stop trap(std::uint32_t flags, bool armed);
  Stop finish(Next next, const Insn& insn);
  Stop deliver_fault_now();
  void advance(const Insn& insn);
  bool answered_inside();
  void settle_single();
  void take(std::uint32_t bits) { cpu_.attention.fetch_and(~bits); }

  Cpu& cpu_;
  Machine& machine_;
  const ExecutionOptions options_;
  const bool use_blocks_;
  Tracer tracer_;
  PublishedCounters published_;
  std::uint64_t next_step_;                // at so many steps virtual time moves
  std::uint64_t run_end_ = kNever;         // and the run ends
  MpState mp_state_ = MpState::kRunnable;  // kHalted is Cpu::halted
  std::uint32_t port_hits_ = 0;            // I/O breakpoints of the instruction at hand
  bool loaded_flags_ = false;              // the last instruction of step() was a POPF or an IRET
  EventState injected_;                    // of a loaded state; delivered first
};

}  // namespace sm::soft
