// What happens between two instructions: traps, shadows, injected events. Guests are a few bytes of
// real-mode code whose handlers count at 0x700.
#include "vmm/cpu/soft/soft_vcpu.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "vmm/cpu/soft/soft_vm.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kCode = 0x1000, kHandler = 0x500, kCount = 0x700, kData = 0x600;
constexpr std::uint16_t kDonePort = 0x99;

class SoftVcpuTest : public testing::Test {
 protected:
  SoftVcpuTest() {
    EXPECT_TRUE(vm_->map_memory(*memory_));
    vcpu_ = vm_->create_vcpu(0, 1).value();
    // inc word [0x700]; iret, for every vector
    put(kHandler, {0xFF, 0x06, 0x00, 0x07, 0xCF});
    for (std::uint64_t vector = 0; vector < 64; ++vector) {
      EXPECT_TRUE(memory_->write_object(GuestPhysAddr(vector * 4), std::uint32_t{kHandler}));
    }
  }

  void put(std::uint64_t at, const std::vector<std::uint8_t>& bytes) {
    ASSERT_TRUE(memory_->write(GuestPhysAddr(at), std::as_bytes(std::span(bytes))));
  }
  // The exit that ends `code`, which gets an OUT to kDonePort behind it.
  VcpuExit run(std::vector<std::uint8_t> code, const std::function<void(CpuState&)>& adjust = {}) {
    code.insert(code.end(), {0xE6, kDonePort});
    put(kCode, code);
    CpuState state = this->state();
    state.cs.selector = 0;
    state.cs.base = 0;
    state.rip = kCode;
    state.gpr[4] = 0x4000;
    if (adjust) adjust(state);
    const Status set = vcpu_->set_state(state);
    EXPECT_TRUE(set) << set.error().text();
    return vcpu_->run();
  }
  static bool is_done(const VcpuExit& exit) {
    const auto* pio = std::get_if<ExitPio>(&exit);
    return pio != nullptr && pio->port == kDonePort;
  }
  // Behind the instruction at hand.
  CpuState state() {
    EXPECT_TRUE(vcpu_->finish_pending_exit());
    return vcpu_->state().value();
  }
  std::uint16_t count() {
    return memory_->read_object<std::uint16_t>(GuestPhysAddr(kCount)).value_or(0xFFFF);
  }

  std::unique_ptr<GuestMemory> memory_ = GuestMemory::create(2 << 20).value();
  std::unique_ptr<EngineVm> vm_ = create_soft_vm({}).value();
  std::unique_ptr<EngineVcpu> vcpu_;
};

constexpr std::uint8_t kNop = 0x90;

// wrmsr of 32 bits
std::vector<std::uint8_t> write_msr(std::uint32_t msr, std::uint32_t value) {
  std::vector<std::uint8_t> code;
  const auto put = [&code](std::uint8_t opcode, std::uint32_t immediate) {
    code.insert(code.end(), {0x66, opcode});
    for (int i = 0; i < 4; ++i) code.push_back(static_cast<std::uint8_t>(immediate >> 8 * i));
  };
  put(0xB9, msr);
  put(0xB8, value);
  code.insert(code.end(), {0x66, 0x31, 0xD2, 0x0F, 0x30});
  return code;
}

// An interrupt that comes while EFLAGS.IF is clear waits for whatever sets the flag.
TEST_F(SoftVcpuTest, an_interrupt_waits_for_the_flag) {
  const std::vector<std::vector<std::uint8_t>> setters{
      {0xFB, kNop, 0xFA},              // sti; nop; cli
      {0x68, 0x02, 0x02, 0x9D, kNop},  // push IF; popf; nop
      // push IF; push 0; call +0; pop bx; add bx, 6; push bx; iret; nop
      {0x68, 0x02, 0x02, 0x6A, 0x00, 0xE8, 0, 0, 0x5B, 0x83, 0xC3, 0x06, 0x53, 0xCF, kNop}};
  std::uint16_t expected = 0;
  for (const auto& setter : setters) {
    std::vector<std::uint8_t> code{0xFB, kNop, 0xFA};  // sti; nop; cli
    const std::vector<std::vector<std::uint8_t>> writes{write_msr(0x1B, 0xFEE0'0D00),  // x2APIC
                                                        write_msr(0x80F, 0x1FF),
                                                        write_msr(0x83F, 0x21)};  // to itself
    for (const auto& bytes : writes) code.insert(code.end(), bytes.begin(), bytes.end());
    code.insert(code.end(), {kNop, kNop});
    code.insert(code.end(), setter.begin(), setter.end());
    const auto end = write_msr(0x80B, 0);  // EOI
    code.insert(code.end(), end.begin(), end.end());
    EXPECT_TRUE(is_done(run(code)));
    EXPECT_EQ(count(), ++expected);
  }
}

TEST_F(SoftVcpuTest, single_step_traps_after_every_instruction) {
  EXPECT_TRUE(
      is_done(run({kNop, kNop, kNop}, [](CpuState& state) { state.rflags |= eflags::kTf; })));
  EXPECT_EQ(count(), 3);
  EXPECT_EQ(state().dr6 & (1u << 14), 1u << 14);
}

TEST_F(SoftVcpuTest, single_step_traps_after_the_instruction_that_ends_it) {
  const auto stepping = [](CpuState& state) { state.rflags |= eflags::kTf; };
  // pushf; pop ax; and ah, ~1; push ax; popf; nop
  EXPECT_TRUE(is_done(run({0x9C, 0x58, 0x80, 0xE4, 0xFE, 0x50, 0x9D, kNop}, stepping)));
  EXPECT_EQ(count(), 5);
  // the same flags; push 0; push kCode + 12; iret; nop
  EXPECT_TRUE(is_done(run(
      {0x9C, 0x58, 0x80, 0xE4, 0xFE, 0x50, 0x6A, 0x00, 0x68, 0x0C, 0x10, 0xCF, kNop}, stepping)));
  EXPECT_EQ(count(), 5 + 7);
}

TEST_F(SoftVcpuTest, no_single_step_of_what_enters_a_handler) {
  // int 0x21; nop: the handler is not stepped, nor the INT itself
  EXPECT_TRUE(
      is_done(run({0xCD, 0x21, kNop}, [](CpuState& state) { state.rflags |= eflags::kTf; })));
  EXPECT_EQ(count(), 2);
}

TEST_F(SoftVcpuTest, no_trap_between_mov_ss_and_the_next_instruction) {
  // mov ss, ax; nop; nop
  EXPECT_TRUE(
      is_done(run({0x8E, 0xD0, kNop, kNop}, [](CpuState& state) { state.rflags |= eflags::kTf; })));
  EXPECT_EQ(count(), 2);
}

TEST_F(SoftVcpuTest, instruction_breakpoint_hits_before_its_instruction) {
  // The handler has to set RF, or the breakpoint hits for ever: iret of 32 bits with RF in the
  // frame. pushfd-like frame: enlarge the 16-bit one: pop ax; pop bx; pop cx; or ecx, 0x10000; push
  // ecx ...
  put(kHandler, {0xFF, 0x06, 0x00,
                 0x07,              // inc word [0x700]
                 0x58, 0x5B, 0x59,  // pop ax, bx, cx
                 0x0F, 0xB7, 0xC9 /* movzx cx, cx */,
                 0x66, 0x81, 0xC9,
                 0x00, 0x00, 0x01,
                 0x00, 0x66, 0x51,  // or ecx, RF; push ecx
                 0x66, 0x0F, 0xB7,
                 0xDB, 0x66, 0x53,  // movzx ebx, bx; push ebx
                 0x66, 0x0F, 0xB7,
                 0xC0, 0x66, 0x50,  // movzx eax, ax; push eax
                 0x66, 0xCF});      // iretd
  EXPECT_TRUE(is_done(run({kNop, kNop, kNop}, [](CpuState& state) {
    state.dr[2] = kCode + 1;
    state.dr7 = 0x400 | 1u << 4;
  })));
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(state().dr6 & 0xF, 1u << 2);
}

struct Watch {
  std::uint32_t condition;
  std::uint16_t hits;
};

TEST_F(SoftVcpuTest, data_breakpoints_hit_after_their_access) {
  constexpr std::uint32_t kWrite = 1, kAccess = 3;
  for (const Watch& watch : {Watch{kWrite, 1}, Watch{kAccess, 2}}) {
    ASSERT_TRUE(memory_->write_object(GuestPhysAddr(kCount), std::uint16_t{0}));
    // mov [0x600], ax; nop; mov ax, [0x600]; mov ax, [0x604]
    EXPECT_TRUE(is_done(
        run({0xA3, 0x00, 0x06, kNop, 0xA1, 0x00, 0x06, 0xA1, 0x04, 0x06}, [&](CpuState& state) {
          state.dr[0] = kData;
          state.dr7 = 0x400 | 1 | watch.condition << 16 | 3u << 18;
        })));
    EXPECT_EQ(count(), watch.hits) << "condition " << watch.condition;
    EXPECT_EQ(state().dr6 & 0xF, 1u);
  }
}

TEST_F(SoftVcpuTest, port_breakpoints_hit_when_the_device_has_answered) {
  // out 0x42, al
  const auto arm = [](CpuState& state) {
    state.cr4 |= 8;
    state.dr[1] = 0x42;
    state.dr7 = 0x400 | 1u << 2 | 2u << 20;
  };
  const VcpuExit exit = run({0xE6, 0x42}, arm);
  ASSERT_TRUE(std::holds_alternative<ExitPio>(exit));
  EXPECT_EQ(std::get<ExitPio>(exit).port, 0x42);
  EXPECT_EQ(count(), 0);
  EXPECT_TRUE(is_done(vcpu_->run()));
  EXPECT_EQ(count(), 1);
}

TEST_F(SoftVcpuTest, events_of_a_loaded_state_are_delivered_first) {
  EXPECT_TRUE(is_done(run({kNop}, [](CpuState& state) {
    state.events.interrupt_injected = true;
    state.events.interrupt_vector = 33;
  })));
  EXPECT_EQ(count(), 1);
  EXPECT_TRUE(is_done(run({kNop}, [](CpuState& state) {
    state.events.exception_pending = true;
    state.events.exception_vector = 14;
    state.events.exception_has_payload = true;
    state.events.exception_payload = 0x1234'5678;
  })));
  EXPECT_EQ(count(), 2);
  EXPECT_EQ(state().cr2, 0x1234'5678u);
  EXPECT_TRUE(is_done(run({kNop}, [](CpuState& state) { state.events.nmi_pending = true; })));
  EXPECT_EQ(count(), 3);
}

TEST_F(SoftVcpuTest, nmi_waits_while_another_is_handled) {
  EXPECT_TRUE(is_done(run({kNop}, [](CpuState& state) {
    state.events.nmi_pending = true;
    state.events.nmi_masked = true;
  })));
  EXPECT_EQ(count(), 0);
  EXPECT_TRUE(state().events.nmi_pending);
  // push the flags, cs and ip of what follows; iret
  EXPECT_TRUE(is_done(run({0x9C, 0x0E, 0x68, 0x06, 0x10, 0xCF})));
  EXPECT_EQ(count(), 1);
}

TEST_F(SoftVcpuTest, halted_state_stays_halted_until_a_kick) {
  put(kCode, {0xF4});
  CpuState state = vcpu_->state().value();
  state.mp_state = MpState::kHalted;
  ASSERT_TRUE(vcpu_->set_state(state));
  vcpu_->kick();
  EXPECT_TRUE(std::holds_alternative<ExitKicked>(vcpu_->run()));
  EXPECT_EQ(vcpu_->state().value().mp_state, MpState::kHalted);
}

TEST_F(SoftVcpuTest, code_that_writes_its_next_instruction_runs_the_new_one) {
  // mov byte [next], 0x40 (inc ax); next: nop
  EXPECT_TRUE(is_done(
      run({0xC6, 0x06, 0x05, 0x10, 0x40, kNop}, [](CpuState& state) { state.gpr[0] = 0; })));
  EXPECT_EQ(state().gpr[0], 1u);
}

TEST_F(SoftVcpuTest, wrong_uses_are_refused) {
  EXPECT_EQ(vm_->map_memory(*memory_).error().code(), Code::kInternal);
  EXPECT_EQ(vm_->create_vcpu(0, 1).error().code(), Code::kInternal);
  EXPECT_EQ(vm_->create_vcpu(8, 9).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(vm_->create_vcpu(1, 1).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(vm_->register_ioevent(GuestPhysAddr(0), 0, 0).error().code(), Code::kUnsupported);
  const VcpuExit exit = run({});
  ASSERT_TRUE(is_done(exit));
  EXPECT_EQ(vcpu_->set_state({}).error().code(), Code::kInternal);
  EXPECT_EQ(vcpu_->state().error().code(), Code::kInternal);
}

// KVM_HC_KICK_CPU ends a HLT whatever EFLAGS.IF is. It comes once: a copy that waits for it waits
// for ever.
TEST_F(SoftVcpuTest, kick_that_nobody_looked_at_is_in_what_is_saved) {
  // mov ax, 5; xor bx, bx; xor cx, cx; vmcall
  EXPECT_TRUE(is_done(run({0xB8, 0x05, 0x00, 0x31, 0xDB, 0x31, 0xC9, 0x0F, 0x01, 0xC1})));
  CpuState halted = state();
  halted.mp_state = MpState::kHalted;
  ASSERT_TRUE(vcpu_->set_state(halted));
  EXPECT_EQ(vcpu_->state()->mp_state, MpState::kRunnable);
}

// Both vCPUs are asked to pause, and the first one starts the other before it does.
TEST_F(SoftVcpuTest, startup_of_a_parked_vcpu_is_in_what_is_saved) {
  vcpu_.reset();
  vm_ = create_soft_vm({}).value();
  ASSERT_TRUE(vm_->map_memory(*memory_));
  vcpu_ = vm_->create_vcpu(0, 2).value();
  const std::unique_ptr<EngineVcpu> other = vm_->create_vcpu(1, 2).value();
  ASSERT_EQ(other->state()->mp_state, MpState::kUninitialized);
  // mov ecx, 0x830; mov edx, 1; mov eax, 0x4500 (INIT); wrmsr; mov eax, 0x4602 (SIPI); wrmsr
  const VcpuExit exit =
      run({0x66, 0xB9, 0x30, 0x08, 0,    0,    0x66, 0xBA, 1, 0,    0, 0, 0x66, 0xB8,
           0,    0x45, 0,    0,    0x0F, 0x30, 0x66, 0xB8, 2, 0x46, 0, 0, 0x0F, 0x30},
          [](CpuState& state) { state.apic_base |= 0xC00; });
  EXPECT_TRUE(is_done(exit));
  ASSERT_TRUE(other->finish_pending_exit());
  const CpuState started = other->state().value();
  EXPECT_EQ(started.mp_state, MpState::kRunnable);
  EXPECT_EQ(started.cs.base, 0x2000u);
}

TEST_F(SoftVcpuTest, wait_with_interrupts_off_ends_after_a_restore_for_who_knows_kvm) {
  constexpr std::uint32_t kSystemTime = 0x4B56'4D01;
  const auto knows_kvm = [](CpuState& state) {
    state.rflags &= ~std::uint64_t{eflags::kIf};
    for (MsrValue& msr : state.msrs) {
      if (msr.index == kSystemTime) msr.value = 0x5001;
    }
  };
  EXPECT_TRUE(is_done(run({0xF4}, knows_kvm)));  // hlt
}

}  // namespace
}  // namespace sm::soft
