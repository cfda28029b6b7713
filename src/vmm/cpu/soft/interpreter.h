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

#include <cstdint>
#include <optional>

#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/soft/code_cache.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/machine.h"

namespace sm::soft {

enum class RunEnd : std::uint8_t {
  kDevice,    // Cpu::io waits
  kKicked,    // between two instructions
  kShutdown,  // triple fault
};

class Interpreter {
 public:
  // `cpu` has its Mmu, CodeCache and VcpuPlatform.
  Interpreter(Cpu& cpu, Machine& machine) : cpu_(cpu), machine_(machine) {}

  RunEnd run();
  // Executes the rest of the instruction at hand, whose last access was answered. False: it has
  // another access for run() to return.
  bool finish_instruction();

  // Waits for INIT and SIPI, as all vCPUs but the first do after a reset.
  void wait_for_startup() { mp_state_ = MpState::kUninitialized; }
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

  RunEnd loop();
  void serve_memory(std::uint32_t bits);
  std::optional<RunEnd> serve(std::uint32_t bits);
  void serve_startup();
  bool deliver_injected();
  bool deliver_events();
  bool deliver_pending_interrupt();
  void halt();
  bool waits_for_startup() const {
    return mp_state_ == MpState::kUninitialized || mp_state_ == MpState::kInitReceived;
  }

  Stop run_code();
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
  MpState mp_state_ = MpState::kRunnable;  // kHalted is Cpu::halted
  std::uint32_t port_hits_ = 0;            // I/O breakpoints of the instruction at hand
  bool loaded_flags_ = false;              // the last instruction of step() was a POPF or an IRET
  EventState injected_;                    // of a loaded state; delivered first
};

}  // namespace sm::soft
