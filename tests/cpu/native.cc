#include "tests/cpu/native.h"

#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "tests/cpu/sandbox.h"
#include "vmm/cpu/soft/semantic.h"

// What native_entry.S knows by offset.
struct NativeFrame {
  std::array<std::uint64_t, 16> in_gpr;
  std::uint64_t in_flags;
  std::uint64_t target;
  std::array<std::uint64_t, 16> out_gpr;
  std::uint64_t out_flags;
  std::uint64_t host_rsp;
  std::uint64_t padding[12];
  sm::soft::FxState in_fx, out_fx;
};
static_assert(offsetof(NativeFrame, out_gpr) == 144);
static_assert(offsetof(NativeFrame, in_fx) == 384 && offsetof(NativeFrame, out_fx) == 896);

extern "C" {
// SAFETY: one thread uses these; the handler of a signal that an instruction raised runs on it.
alignas(64) NativeFrame sm_native_frame;
void sm_native_enter();
extern const char sm_native_exit[];
extern const char sm_native_resume[];
}

namespace sm::cpu_fuzz {

namespace {

// Between entry and exit of an instruction: signals belong to it.
volatile sig_atomic_t g_inside = 0;
Outcome* g_outcome = nullptr;
std::uint64_t g_start = 0;

constexpr std::array kRegisterOrder{REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};

bool has_error_code(std::uint8_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

void note_fault(const greg_t* registers, Outcome& outcome) {
  const auto trap = static_cast<std::uint8_t>(registers[REG_TRAPNO]);
  const auto rip = static_cast<std::uint64_t>(registers[REG_RIP]);
  const auto error = static_cast<std::uint32_t>(registers[REG_ERR]);
  outcome.after.rip = rip;
  if (trap == soft::vector::kBreakpoint) {  // a jump to the filling of the code page
    outcome.after.rip = rip - 1;
    return;
  }
  constexpr std::uint32_t kFetch = 1u << 4;
  if (trap == soft::vector::kPage && (error & kFetch) != 0 && rip != g_start) return;
  outcome.faulted = true;
  outcome.fault = {.vector = trap, .has_error_code = has_error_code(trap)};
  if (outcome.fault.has_error_code) outcome.fault.error_code = error;
  if (trap == soft::vector::kPage) {
    outcome.fault.address = static_cast<std::uint64_t>(registers[REG_CR2]);
  }
}

void on_signal(int number, siginfo_t* /*info*/, void* context) {
  auto* user = static_cast<ucontext_t*>(context);
  greg_t* registers = user->uc_mcontext.gregs;
  if (g_inside == 0) {  // the test's own
    signal(number, SIG_DFL);
    return;
  }
  for (std::size_t i = 0; i < kRegisterOrder.size(); ++i) {
    g_outcome->after.gpr[i] = static_cast<std::uint64_t>(registers[kRegisterOrder[i]]);
  }
  g_outcome->after.rflags = static_cast<std::uint64_t>(registers[REG_EFL]);
  std::memcpy(static_cast<void*>(&g_outcome->after.fx), user->uc_mcontext.fpregs,
              sizeof(soft::FxState));
  note_fault(registers, *g_outcome);
  g_inside = 0;
  registers[REG_RIP] = reinterpret_cast<greg_t>(sm_native_resume);
  registers[REG_RSP] = static_cast<greg_t>(sm_native_frame.host_rsp);
  registers[REG_EFL] = 0x202;
}

bool map_page(std::uint64_t address, int protection) {
  void* wanted = reinterpret_cast<void*>(address);
  return mmap(wanted, kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
              0) == wanted;
}

bool map_sandbox() {
  for (std::uint64_t i = 0; i < kLayout.size(); ++i) {
    // The code page is written between instructions. They see it as if it were not writable:
    // the model says so, and cases that write to it are left out.
    const int protection =
        kLayout[i] == PageKind::kCode ? PROT_READ | PROT_WRITE | PROT_EXEC : PROT_READ | PROT_WRITE;
    if (kLayout[i] != PageKind::kHole && !map_page(kSandbox + i * kPage, protection)) return false;
  }
  std::memset(reinterpret_cast<void*>(kCode), 0xCC, kPage);
  const void* exit = sm_native_exit;
  std::memcpy(reinterpret_cast<void*>(kExitPointer), &exit, sizeof(exit));
  return true;
}

bool install_handlers() {
  static std::array<std::byte, 128 * 1024> alternate;
  const stack_t stack{.ss_sp = alternate.data(), .ss_flags = 0, .ss_size = alternate.size()};
  if (sigaltstack(&stack, nullptr) != 0) return false;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) {
    if (sigaction(number, &action, nullptr) != 0) return false;
  }
  return true;
}

// jmp *[rip + distance] to the exit.
std::size_t append_exit(std::uint8_t* code, std::uint64_t address) {
  const auto distance = static_cast<std::uint32_t>(kExitPointer - (address + 6));
  code[0] = 0xFF;
  code[1] = 0x25;
  std::memcpy(code + 2, &distance, sizeof(distance));
  return 6;
}

}  // namespace

bool Native::prepare() {
  return map_sandbox() && install_handlers() &&
         syscall(SYS_arch_prctl, ARCH_SET_GS, gs_base()) == 0;
}

void Native::protect(bool read_only) {
  for (std::uint64_t i = 0; i < kLayout.size(); ++i) {
    if (kLayout[i] != PageKind::kReadOnly) continue;
    mprotect(reinterpret_cast<void*>(kSandbox + i * kPage), kPage,
             read_only ? PROT_READ : PROT_READ | PROT_WRITE);
  }
}

std::uint64_t Native::fs_base() {
  std::uint64_t base = 0;
  syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
  return base;
}

std::uint64_t Native::gs_base() { return kSandbox + 2 * kPage + 0x18; }

void Native::place(std::span<const std::uint8_t> code, std::uint32_t slot) {
  std::array<std::uint8_t, 32> text;
  text.fill(0xCC);
  std::memcpy(text.data(), code.data(), code.size());
  append_exit(text.data() + code.size(), slot_address(slot) + code.size());
  std::memcpy(reinterpret_cast<void*>(slot_address(slot)), text.data(), text.size());
}

void Native::run(std::uint32_t length, std::uint32_t slot, const MachineState& before,
                 Outcome& outcome) {
  g_start = slot_address(slot);
  NativeFrame& frame = sm_native_frame;
  frame.in_gpr = before.gpr;
  frame.in_flags = before.rflags;
  frame.in_fx = before.fx;
  frame.target = g_start;
  outcome.faulted = false;
  g_outcome = &outcome;
  g_inside = 1;
  sm_native_enter();
  if (g_inside == 0) return;  // a signal has filled the outcome
  g_inside = 0;
  outcome.after.gpr = frame.out_gpr;
  outcome.after.rflags = frame.out_flags;
  outcome.after.fx = frame.out_fx;
  outcome.after.rip = g_start + length;
}

}  // namespace sm::cpu_fuzz
