#include "vmm/cpu/soft/interpreter.h"

#include <span>
#include <utility>

#include "vmm/cpu/soft/apic/platform.h"
#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/fast/run.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/semantic.h"
#include "vmm/cpu/soft/unordered_access.h"

namespace sm::soft {

namespace {

constexpr std::uint8_t kMovSsShadow = 2;
// Blocks come back as late as at the end of the one that used the budget up.
constexpr std::int64_t kOvershoot = 2 * kMaxBlock;

bool has_flag(const Cpu& cpu, std::uint32_t flag) { return (cpu.other_flags & flag) != 0; }

}  // namespace

RunEnd Interpreter::run() {
  machine_.enter_guest(cpu_);
  if (options_.instructions_per_run != 0) run_end_ = steps() + options_.instructions_per_run;
  const RunEnd end = cpu_.shutdown ? RunEnd::kShutdown : loop();
  leave_guest();
  return end;
}

bool Interpreter::finish_instruction() {
  if (!cpu_.io.active()) return true;
  machine_.enter_guest(cpu_);
  while (cpu_.io.active() && !cpu_.shutdown) {
    serve_memory(cpu_.attention.load());
    if (step_checked() == Stop::kDevice && !answered_inside()) break;
  }
  leave_guest();
  return !cpu_.io.waiting();
}

void Interpreter::leave_guest() {
  published_.publish(cpu_);
  machine_.leave_guest(cpu_);
}

RunEnd Interpreter::loop() {
  for (;;) {
    if (steps_left() <= 0 && !cpu_.io.active()) [[unlikely]] {
      if (steps() >= run_end_) return RunEnd::kKicked;
      move_time();
    }
    serve_memory(cpu_.attention.load());
    // An instruction that devices have begun to answer is brought to its end first.
    if (!cpu_.io.active()) {
      if (const auto end = serve(cpu_.attention.load())) return *end;
    }
    const bool alone = cpu_.io.active() || cpu_.attention.load() != 0;
    switch (alone ? step_checked() : run_code()) {
      case Stop::kRequest:
      case Stop::kFault:
        break;
      case Stop::kDevice:
        if (!answered_inside()) return RunEnd::kDevice;
        break;
      case Stop::kShutdown:
        return RunEnd::kShutdown;
    }
  }
}

void Interpreter::move_time() {
  options_.virtual_time->clock.advance(VirtualTime::kStep);
  next_step_ += VirtualTime::kStep;
  cpu_.attention.fetch_or(kAttentionTimer);
}

// ---- Requests ---------------------------------------------------------------------------------

void Interpreter::serve_memory(std::uint32_t bits) {
  if ((bits & kAttentionPause) != 0) {
    machine_.give_way(cpu_);
    bits = cpu_.attention.load();  // who has posted meanwhile did not wait for a vCPU outside
  }
  if ((bits & kAttentionMemory) != 0) {
    take(kAttentionMemory);
    cpu_.mmu->handle_mail();
  }
}

// Nothing: go on executing.
std::optional<RunEnd> Interpreter::serve(std::uint32_t bits) {
  for (;; bits = cpu_.attention.load()) {
    serve_memory(bits);
    if ((bits & kAttentionCount) != 0) {
      take(kAttentionCount);
      published_.publish(cpu_);
    }
    if ((bits & kAttentionKick) != 0) {
      take(kAttentionKick);
      return RunEnd::kKicked;
    }
    if ((bits & kAttentionInit) != 0 || mp_state_ == MpState::kSipiReceived) serve_startup();
    if (waits_for_startup()) {
      constexpr std::uint32_t kWake =
          kAttentionKick | kAttentionInit | kAttentionPause | kAttentionMemory;
      machine_.sleep(cpu_, kWake, std::nullopt);
      continue;
    }
    if ((bits & kAttentionTimer) != 0) {
      take(kAttentionTimer);
      cpu_.apic->poll_timer();
    }
    if (!deliver_injected() || !deliver_events()) return RunEnd::kShutdown;
    if ((bits & kAttentionUnhalt) != 0) take(kAttentionUnhalt);
    if (!cpu_.halted) return std::nullopt;
    if (!halt()) return RunEnd::kHalted;
  }
}

void Interpreter::finish_startup() {
  if ((cpu_.attention.load() & kAttentionInit) != 0) serve_startup();
}

// Spec: SDM vol. 3, 8.4.3. A SIPI only means something to a vCPU that waits for one.
void Interpreter::serve_startup() {
  take(kAttentionInit);
  const StartupEvents events = cpu_.apic->take_startup();
  if (events.init) {
    init_cpu(cpu_);
    cpu_.platform->init_reset();
    mp_state_ = cpu_.index == 0 ? MpState::kRunnable : MpState::kInitReceived;
  }
  if (mp_state_ == MpState::kSipiReceived) {
    start_cpu_at(cpu_, static_cast<std::uint8_t>(injected_.sipi_vector));
    mp_state_ = MpState::kRunnable;
  } else if (events.sipi && waits_for_startup()) {
    start_cpu_at(cpu_, events.sipi_vector);
    mp_state_ = MpState::kRunnable;
  }
}

// False: shutdown.
bool Interpreter::deliver_injected() {
  const UnorderedAccess unordered;
  const EventState events = std::exchange(injected_, {});
  if (events.exception_injected || events.exception_pending) {
    const bool is_page_fault = events.exception_vector == vector::kPage;
    if (events.exception_has_payload && events.exception_vector == vector::kDebug) {
      cpu_.dr6 |= events.exception_payload & 0xE00F;
    }
    cpu_.fault = {.vector = events.exception_vector,
                  .has_error_code = events.exception_has_error_code,
                  .error_code = events.exception_error_code,
                  .address = is_page_fault && events.exception_has_payload
                                 ? events.exception_payload
                                 : cpu_.cr2};
    return deliver_fault(cpu_) != Next::kAborted;
  }
  if (events.nmi_injected) return deliver_nmi(cpu_) != Next::kAborted;
  if (!events.interrupt_injected) return true;
  return deliver_interrupt(cpu_, events.interrupt_vector) != Next::kAborted;
}

// A kick that has come and was not looked at ends the HLT in what is saved, as with KVM; it does
// not come again.
void Interpreter::save(CpuState& state) const {
  const bool halted = cpu_.halted && !cpu_.platform->has_unhalt();
  state.mp_state = mp_state_ == MpState::kRunnable && halted ? MpState::kHalted : mp_state_;
  EventState events = injected_;
  events.interrupt_shadow = state.events.interrupt_shadow;
  events.nmi_masked = state.events.nmi_masked;
  events.nmi_pending = state.events.nmi_pending;
  state.events = events;
}

void Interpreter::load(const CpuState& state) {
  cpu_.interrupt_waits = true;
  cpu_.halted = state.mp_state == MpState::kHalted;
  mp_state_ = cpu_.halted ? MpState::kRunnable : state.mp_state;
  injected_ = state.events;
}

// False: shutdown.
bool Interpreter::deliver_events() {
  if (cpu_.interrupt_shadow != 0) return true;
  const std::uint32_t bits = cpu_.attention.load();
  // A second one waits in its bit until IRET.
  if ((bits & kAttentionNmi) != 0 && !cpu_.nmi_masked) {
    take(kAttentionNmi);
    ++cpu_.counts.interrupts;
    tracer_.interrupt(cpu_, "NMI", vector::kNmi);
    const UnorderedAccess unordered;
    return deliver_nmi(cpu_) != Next::kAborted;
  }
  return (bits & kAttentionInterrupt) == 0 || deliver_pending_interrupt();
}

// While EFLAGS.IF is clear the request only leaves a mark, with which setting the flag makes a new
// one; so does what may wait behind an interrupt.
bool Interpreter::deliver_pending_interrupt() {
  take(kAttentionInterrupt);
  cpu_.interrupt_waits = !has_flag(cpu_, eflags::kIf);
  if (cpu_.interrupt_waits) return true;
  const std::optional<std::uint8_t> vector = cpu_.apic->highest_deliverable();
  if (!vector) return true;
  cpu_.apic->acknowledge(*vector);
  ++cpu_.counts.interrupts;
  tracer_.interrupt(cpu_, "interrupt", *vector);
  {
    const UnorderedAccess unordered;
    if (deliver_interrupt(cpu_, *vector) == Next::kAborted) return false;
  }
  // A handler with interrupts enabled may be interrupted by the next.
  cpu_.interrupt_waits = true;
  if (has_flag(cpu_, eflags::kIf)) cpu_.attention.fetch_or(kAttentionInterrupt);
  return true;
}

// One wait. What ended it is looked at by serve(). False: nothing will.
bool Interpreter::halt() {
  if (cpu_.platform->take_unhalt()) {
    cpu_.halted = false;
    return true;
  }
  constexpr std::uint32_t kWake = ~static_cast<std::uint32_t>(kAttentionSingle);
  ++cpu_.counts.halts;
  published_.publish(cpu_);
  const std::optional<std::uint64_t> deadline = cpu_.platform->begin_halt();
  bool goes_on = true;
  if (options_.virtual_time == nullptr) {
    machine_.sleep(cpu_, kWake, deadline);
  } else if ((cpu_.attention.load() & kWake) == 0) {
    goes_on = deadline.has_value();
    if (goes_on) options_.virtual_time->clock.advance_to(*deadline);
  }
  if (cpu_.platform->end_halt()) cpu_.mmu->flush_all();
  return goes_on;
}

// ---- Execution --------------------------------------------------------------------------------

// The platform's own ports never leave the engine.
bool Interpreter::answered_inside() {
  IoAccess& access = cpu_.io.current();
  if (!access.is_port) return false;
  const auto data = std::as_writable_bytes(std::span(access.data).first(access.size));
  if (!cpu_.platform->port(static_cast<std::uint16_t>(access.address), access.is_write, data)) {
    return false;
  }
  cpu_.io.complete();
  return true;
}

void Interpreter::advance(const Insn& insn) {
  const std::uint64_t next = cpu_.rip + insn.length;
  switch (cpu_.mode) {
    case CodeMode::k64:
      cpu_.rip = next;
      break;
    case CodeMode::k32:
      cpu_.rip = next & 0xFFFF'FFFF;
      break;
    case CodeMode::k16:
      cpu_.rip = next & 0xFFFF;
      break;
  }
}

Interpreter::Stop Interpreter::deliver_fault_now() {
  tracer_.fault(cpu_);
  ++cpu_.counts.exceptions;
  cpu_.counts.page_faults += cpu_.fault.vector == vector::kPage ? 1 : 0;
  return deliver_fault(cpu_) == Next::kAborted ? Stop::kShutdown : Stop::kFault;
}

Interpreter::Stop Interpreter::finish(Next next, const Insn& insn) {
  switch (next) {
    case Next::kNext:
      advance(insn);
      break;
    case Next::kJump:
    case Next::kRepeat:
      break;
    case Next::kAborted:
      if (cpu_.io.waiting()) tracer_.device(cpu_, cpu_.io.current());
      return cpu_.io.waiting() ? Stop::kDevice : deliver_fault_now();
  }
  return Stop::kRequest;
}

// 64-bit code by blocks, everything else by single instructions; and all of it where a trace or the
// reference itself is wanted, and where a budget is nearly used up.
Interpreter::Stop Interpreter::run_code() {
  const UnorderedAccess unordered;
  while (cpu_.attention.load(std::memory_order_relaxed) == 0) {
    const std::int64_t left = steps_left();
    if (left <= 0) return Stop::kRequest;
    if (!use_blocks_ || cpu_.mode != CodeMode::k64 || left <= kOvershoot) {
      const Stop stop = run_single();
      if (stop != Stop::kRequest) return stop;
      continue;
    }
    if (run_blocks(cpu_, left - kOvershoot) == BlockStop::kRequest) continue;
    if (cpu_.io.waiting()) {
      tracer_.device(cpu_, cpu_.io.current());
      return Stop::kDevice;
    }
    if (deliver_fault_now() == Stop::kShutdown) return Stop::kShutdown;
  }
  return Stop::kRequest;
}

// One instruction, or a long piece of a string instruction. Stop::kRequest: go on.
Interpreter::Stop Interpreter::run_single() {
  for (std::uint32_t pieces = 1;; ++pieces) {
    const Insn* decoded = cpu_.code->fetch();
    if (decoded == nullptr) [[unlikely]] {
      return deliver_fault_now() == Stop::kShutdown ? Stop::kShutdown : Stop::kRequest;
    }
    tracer_.insn(cpu_, *decoded);
    const Next next = perform(cpu_, *decoded);
    if (next == Next::kRepeat && pieces < kPiecesPerInstruction) {
      if (cpu_.attention.load(std::memory_order_relaxed) == 0) continue;
      return Stop::kRequest;
    }
    if (next != Next::kAborted) ++cpu_.counts.instructions;
    const Stop stop = finish(next, *decoded);
    if (cpu_.halted) [[unlikely]] {
      cpu_.attention.fetch_or(kAttentionInterrupt);
    }
    return stop == Stop::kFault ? Stop::kRequest : stop;
  }
}

Interpreter::Stop Interpreter::step() {
  cpu_.io.rewind();
  const Insn* decoded = cpu_.code->fetch();
  if (decoded == nullptr) {
    cpu_.io.clear();
    return deliver_fault_now();
  }
  tracer_.insn(cpu_, *decoded);
  const Op op = decoded->op;
  loaded_flags_ = op == Op::kPopf || op == Op::kIret;
  const Next next = perform(cpu_, *decoded);
  if (next != Next::kAborted) ++cpu_.counts.instructions;
  const Stop stop = finish(next, *decoded);
  if (stop != Stop::kDevice) cpu_.io.clear();
  return stop;
}

// One instruction with its interrupt shadow, its breakpoints and its single-step trap.
// Spec: SDM vol. 3, 6.8.3 and 17.3.1.
Interpreter::Stop Interpreter::step_checked() {
  const UnorderedAccess unordered;
  const bool armed = breakpoints_armed(cpu_);
  cpu_.mmu->watch(armed);
  if (armed && !cpu_.io.active()) {
    port_hits_ = 0;
    const std::uint32_t hit = cpu_.interrupt_shadow == kMovSsShadow
                                  ? 0
                                  : instruction_breakpoints(cpu_, cpu_.code->instruction_address());
    cpu_.counts.exceptions += hit != 0 ? 1 : 0;
    if (hit != 0)
      return deliver_debug(cpu_, hit) == Next::kAborted ? Stop::kShutdown : Stop::kFault;
  }
  const std::uint32_t flags = cpu_.other_flags;
  const std::uint8_t shadow = std::exchange(cpu_.interrupt_shadow, std::uint8_t{0});
  const Stop stop = step();
  if (stop == Stop::kDevice) {
    cpu_.interrupt_shadow = shadow;
    const IoAccess& access = cpu_.io.current();
    if (armed && access.is_port) {
      port_hits_ |= port_breakpoints(cpu_, static_cast<std::uint16_t>(access.address), access.size);
    }
    return stop;
  }
  if (stop == Stop::kRequest && trap(flags, armed) == Stop::kShutdown) return Stop::kShutdown;
  if (cpu_.halted) cpu_.attention.fetch_or(kAttentionInterrupt);
  settle_single();
  return stop;
}

// What follows a finished instruction that began with `flags`. After MOV SS it waits for the next.
// TF of the beginning counts, even where POPF or IRET has cleared it; but a handler that is entered
// clears it together with the trap.
Interpreter::Stop Interpreter::trap(std::uint32_t flags, bool armed) {
  if ((flags & eflags::kRf) != 0) cpu_.other_flags &= ~eflags::kRf;
  std::uint32_t bits = armed ? cpu_.mmu->take_hits() | port_hits_ : 0;
  if ((flags & eflags::kTf) != 0 && (loaded_flags_ || has_flag(cpu_, eflags::kTf))) {
    bits |= kDebugSingleStep;
  }
  if (bits == 0 || cpu_.interrupt_shadow == kMovSsShadow) return Stop::kRequest;
  ++cpu_.counts.exceptions;
  return deliver_debug(cpu_, bits) == Next::kAborted ? Stop::kShutdown : Stop::kRequest;
}

// Whether the next instruction has to run alone, too.
void Interpreter::settle_single() {
  cpu_.mmu->watch(breakpoints_armed(cpu_));
  const bool alone = cpu_.interrupt_shadow != 0 || has_flag(cpu_, eflags::kTf | eflags::kRf) ||
                     breakpoints_armed(cpu_);
  if (alone) {
    cpu_.attention.fetch_or(kAttentionSingle);
  } else {
    take(kAttentionSingle);
  }
}

}  // namespace sm::soft
