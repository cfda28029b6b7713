#include "vmm/cpu/kvm/kvm_vcpu.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "vmm/cpu/kvm/exit_text.h"
#include "vmm/cpu/kvm/kick_signal.h"

namespace sm::kvm {

namespace {

Status set_cpuid(int vcpu_fd, std::span<const CpuidLeaf> leaves) {
  EntryTable<CpuidHead, kvm_cpuid_entry2> table(leaves.size());
  table.head().nent = static_cast<std::uint32_t>(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const CpuidLeaf& leaf = leaves[i];
    kvm_cpuid_entry2& entry = table[i];
    entry.function = leaf.function;
    entry.index = leaf.index;
    entry.flags = leaf.indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    entry.eax = leaf.eax;
    entry.ebx = leaf.ebx;
    entry.ecx = leaf.ecx;
    entry.edx = leaf.edx;
  }
  SM_TRY(call(vcpu_fd, kSetCpuid2, &table.head(), "KVM_SET_CPUID2"));
  return {};
}

// One machine-check bank instead of KVM's 32: no error is ever reported through them, and a guest
// kernel touches each of them on each vCPU while it boots.
Status set_machine_check_banks(int vcpu_fd) {
  std::uint64_t capabilities = 1;
  SM_TRY(call(vcpu_fd, KVM_X86_SETUP_MCE, &capabilities, "KVM_X86_SETUP_MCE"));
  return {};
}

}  // namespace

Result<std::unique_ptr<EngineVcpu>> KvmVcpu::create(int vm_fd, std::uint32_t index,
                                                    const HostTraits& traits,
                                                    std::span<const CpuidLeaf> cpuid) {
  UniqueFd fd(
      SM_TRY(call(vm_fd, KVM_CREATE_VCPU, static_cast<unsigned long>(index), "KVM_CREATE_VCPU")));
  RunMapping mapping = SM_TRY(RunMapping::map(fd.get(), traits.run_size));
  SM_TRY_STATUS(set_cpuid(fd.get(), cpuid));
  if (traits.has_mce) SM_TRY_STATUS(set_machine_check_banks(fd.get()));
  std::unique_ptr<KvmVcpu> vcpu(new KvmVcpu(std::move(fd), std::move(mapping), traits));
  vcpu->reset_ = SM_TRY(read_reset_state(vcpu->fd_.get()));
  return vcpu;
}

// SAFETY: immediate_exit is a byte of the run area, which lives as long as this object; the kernel
// reads it with a single access.
std::atomic_ref<std::uint8_t> KvmVcpu::immediate_exit() const {
  return std::atomic_ref<std::uint8_t>(run_area()->immediate_exit);
}

void KvmVcpu::kick() {
  kicked_.store(true);
  immediate_exit().store(1);
  if (const pid_t thread = running_.load(); thread != 0) send_kick_signal(thread);
}

// In this order: a kick between the two lines leaves immediate_exit up, so the next run() returns.
void KvmVcpu::clear_kick() {
  immediate_exit().store(0);
  kicked_.exchange(false);
}

// One KVM_RUN: 0 or an errno. Sequentially consistent stores: either a kick sees running_, or the
// kernel sees the kick's immediate_exit.
int KvmVcpu::enter() {
  if (thread_ == 0) {
    thread_ = static_cast<pid_t>(::syscall(SYS_gettid));
    unblock_kick_signal();
  }
  pending_ = false;
  running_.store(thread_);
  const int result = ::ioctl(fd_.get(), KVM_RUN, 0);
  const int error = result < 0 ? errno : 0;
  running_.store(0);
  return error;
}

VcpuExit KvmVcpu::run() {
  if (string_.remaining > 0) return next_element();
  if (std::exchange(undelivered_, false)) return translate();
  for (;;) {
    const int error = enter();
    if (error == EAGAIN) continue;  // a waiting vCPU was woken by INIT or SIPI
    if (error == EINTR) {
      clear_kick();
      return ExitKicked{};
    }
    if (error != 0) return fault(error);
    return translate();
  }
}

Status KvmVcpu::finish_pending_exit() {
  if (string_.remaining > 0 || undelivered_) {
    return fail(Code::kInternal, "the instruction has further accesses for run() to deliver");
  }
  if (!pending_) return {};
  immediate_exit().store(1);
  const int error = enter();
  immediate_exit().store(0);
  // A kick in between must outlive this: its own store to immediate_exit may have been undone
  // above.
  if (kicked_.load()) immediate_exit().store(1);
  if (error == EINTR) return {};
  if (error != 0) return fail_errno("finish a vCPU's exit", error);
  pending_ = true;
  undelivered_ = true;
  return fail(Code::kInternal, "the instruction has further accesses for run() to deliver");
}

// The kernel filled exit_reason and its union before KVM_RUN returned; nobody else writes them.
VcpuExit KvmVcpu::translate() {
  kvm_run* run = run_area();
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      pending_ = true;
      return start_string();
    case KVM_EXIT_MMIO:
      pending_ = true;
      if (run->mmio.len == 0 || run->mmio.len > sizeof(run->mmio.data)) return fault(0);
      return ExitMmio{GuestPhysAddr(run->mmio.phys_addr), run->mmio.is_write != 0,
                      std::as_writable_bytes(std::span(run->mmio.data, run->mmio.len))};
    case KVM_EXIT_HLT:
      return ExitHalt{};
    case KVM_EXIT_INTR:
      clear_kick();
      return ExitKicked{};
    case KVM_EXIT_SHUTDOWN:
      return ExitShutdown{};
    case KVM_EXIT_SYSTEM_EVENT:
      if (run->system_event.type == KVM_SYSTEM_EVENT_CRASH) return fault(0);
      return ExitShutdown{};
    default:
      return fault(0);
  }
}

VcpuExit KvmVcpu::start_string() {
  const auto& io = run_area()->io;
  const auto bytes = checked_mul<std::uint64_t>(io.size, io.count);
  const bool size_is_sane = io.size == 1 || io.size == 2 || io.size == 4;
  if (!size_is_sane || io.count == 0 || !bytes || !fits(io.data_offset, *bytes, mapping_.size())) {
    return fault(0);
  }
  string_ = StringCursor{.offset = static_cast<std::size_t>(io.data_offset),
                         .element_size = io.size,
                         .remaining = io.count,
                         .port = io.port,
                         .is_write = io.direction == KVM_EXIT_IO_OUT};
  return next_element();
}

VcpuExit KvmVcpu::next_element() {
  std::byte* at = mapping_.bytes() + string_.offset;
  string_.offset += string_.element_size;
  --string_.remaining;
  return ExitPio{string_.port, string_.is_write, std::span(at, string_.element_size)};
}

VcpuExit KvmVcpu::fault(int error) const {
  kvm_regs regs{};
  kvm_sregs sregs{};
  const bool known = call(fd_.get(), KVM_GET_REGS, &regs, "KVM_GET_REGS").has_value() &&
                     call(fd_.get(), KVM_GET_SREGS, &sregs, "KVM_GET_SREGS").has_value();
  std::string text = error != 0 ? run_error_text(error) : exit_text(*run_area());
  if (known)
    text +=
        fmt::format(", at cs:rip {:#x}:{:#x}, cr0 {:#x}", sregs.cs.selector, regs.rip, sregs.cr0);
  return ExitFault{std::move(text)};
}

Result<CpuState> KvmVcpu::state() const { return get_state(fd_.get(), *traits_); }

Status KvmVcpu::set_state(const CpuState& state) {
  if (pending_ || string_.remaining > 0) {
    return fail(Code::kInternal, "a vCPU's state was set in the middle of an instruction");
  }
  return kvm::set_state(fd_.get(), *traits_, reset_, state);
}

}  // namespace sm::kvm
