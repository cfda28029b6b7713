#include "vmm/cpu/soft/soft_vcpu.h"

#include <algorithm>
#include <span>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/state.h"

namespace sm::soft {

namespace {

// What must be looked at before the first instruction after a change of state.
constexpr std::uint32_t kAllToLookAt = kAttentionInterrupt | kAttentionTimer | kAttentionSingle;

}  // namespace

SoftVcpu::SoftVcpu(Machine& machine, Platform& platform, std::uint32_t index,
                   std::vector<CpuidLeaf> cpuid, const ExecutionOptions& options)
    : machine_(machine),
      cpu_{.index = index, .machine = &machine},
      mmu_(cpu_, machine),
      code_(cpu_, machine),
      platform_(platform, cpu_, std::move(cpuid)),
      interpreter_(cpu_, machine, options) {
  reset_cpu(cpu_);
  if (index != 0) interpreter_.wait_for_startup();
  machine_.attach(cpu_);
}

SoftVcpu::~SoftVcpu() {
  machine_.detach(cpu_);
  code_.drop_all();
}

VcpuExit SoftVcpu::device_exit() {
  handed_out_ = true;
  IoAccess& access = cpu_.io.current();
  const auto data = std::as_writable_bytes(std::span(access.data).first(access.size));
  if (access.is_port) {
    return ExitPio{static_cast<std::uint16_t>(access.address), access.is_write, data};
  }
  return ExitMmio{GuestPhysAddr(access.address), access.is_write, data};
}

VcpuExit SoftVcpu::run() {
  if (cpu_.io.waiting()) {
    if (!handed_out_) return device_exit();
    cpu_.io.complete();
  }
  handed_out_ = false;
  const RunEnd end = interpreter_.run();
  platform_.left_guest();
  switch (end) {
    case RunEnd::kDevice:
      return device_exit();
    case RunEnd::kKicked:
      return ExitKicked{};
    case RunEnd::kHalted:
      return ExitHalt{};
    case RunEnd::kShutdown:
      break;
  }
  return ExitShutdown{};
}

void SoftVcpu::kick() { machine_.post(cpu_, kAttentionKick); }

Status SoftVcpu::finish_pending_exit() {
  if (cpu_.io.waiting() && handed_out_) {
    cpu_.io.complete();
    handed_out_ = false;
  }
  if (!cpu_.io.waiting() && interpreter_.finish_instruction()) {
    interpreter_.finish_startup();
    return {};
  }
  return fail(Code::kInternal, "the instruction has further accesses for run() to deliver");
}

// A vCPU that is not in the guest has published when it left.
VcpuCounters SoftVcpu::counters() {
  constexpr Duration kPatience = std::chrono::milliseconds(5);
  const PublishedCounters& published = interpreter_.counters();
  const std::uint64_t times = published.times();
  if (machine_.in_guest(cpu_)) {
    machine_.post(cpu_, kAttentionCount);
    const Deadline deadline = Deadline::after(kPatience);
    while (published.times() == times && machine_.in_guest(cpu_) && !deadline.passed()) {
      std::this_thread::yield();
    }
  }
  return published.read();
}

Result<CpuState> SoftVcpu::state() const {
  if (cpu_.io.active()) {
    return fail(Code::kInternal, "a vCPU's state was asked for in the middle of an instruction");
  }
  CpuState state;
  save_cpu(cpu_, state);
  state.events.nmi_pending = (cpu_.attention.load() & kAttentionNmi) != 0;
  interpreter_.save(state);
  platform_.save(state);
  std::sort(state.msrs.begin(), state.msrs.end(),
            [](const MsrValue& a, const MsrValue& b) { return a.index < b.index; });
  return state;
}

Status SoftVcpu::set_state(const CpuState& state) {
  if (cpu_.io.active()) {
    return fail(Code::kInternal, "a vCPU's state was set in the middle of an instruction");
  }
  SM_TRY_STATUS(load_cpu(state, cpu_));
  mmu_.paging_changed();
  interpreter_.load(state);
  SM_TRY_STATUS(platform_.load(state));
  // Who has interrupts off may have been about to wait for a kick that had come already, which no
  // state holds. With KVM any such wait may end for nothing.
  if (!cpu_.halted && (state.rflags & eflags::kIf) == 0 && platform_.knows_kvm()) {
    platform_.unhalt();
  }
  if (state.events.nmi_pending) {
    machine_.post(cpu_, kAttentionNmi);
  } else {
    cpu_.attention.fetch_and(~static_cast<std::uint32_t>(kAttentionNmi));
  }
  machine_.post(cpu_, kAllToLookAt);
  return {};
}

}  // namespace sm::soft
