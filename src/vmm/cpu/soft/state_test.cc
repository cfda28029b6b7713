// CpuState to and from Cpu, and a running machine's state into another machine.
#include "vmm/cpu/soft/state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "vmm/cpu/kvm/kvm_msrs.h"
#include "vmm/cpu/soft/reset.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm::soft {
namespace {

class Random {
 public:
  std::uint64_t word() { return engine_(); }
  template <class T>
  T number() {
    return static_cast<T>(word());
  }
  bool flag() { return (word() & 1) != 0; }
  std::uint64_t below(std::uint64_t n) { return word() % n; }

 private:
  std::mt19937_64 engine_{20240611};
};

SegmentState random_segment(Random& random) {
  SegmentState segment{.base = random.word(),
                       .limit = random.number<std::uint32_t>(),
                       .selector = random.number<std::uint16_t>(),
                       .type = static_cast<std::uint8_t>(random.below(16)),
                       .dpl = static_cast<std::uint8_t>(random.below(4)),
                       .present = random.flag(),
                       .code_or_data = random.flag(),
                       .long_mode = random.flag(),
                       .default_big = random.flag(),
                       .granularity = random.flag(),
                       .available = random.flag()};
  segment.unusable = !segment.present;  // as KVM has it
  return segment;
}

// Any state that a processor without XSAVE can be in, as far as load_cpu() looks.
CpuState random_state(Random& random) {
  CpuState state;
  for (auto& reg : state.gpr) reg = random.word();
  state.rip = random.word();
  state.rflags = (random.word() & 0x3F'7FD5) | 2;
  for (SegmentState* segment :
       {&state.cs, &state.ds, &state.es, &state.fs, &state.gs, &state.ss, &state.tr, &state.ldt}) {
    *segment = random_segment(random);
  }
  state.tr.present = true;
  state.tr.unusable = false;
  state.gdt = {random.word(), random.number<std::uint16_t>()};
  state.idt = {random.word(), random.number<std::uint16_t>()};
  state.cr0 = 0x8000'0011;
  state.cr2 = random.word();
  state.cr3 = random.word() & 0xFF'FFFF'FFFF;
  state.cr4 = 0x20 | (random.word() & 0x30'0600);
  state.efer = 0x500 | (random.word() & 0x801);
  for (auto& reg : state.dr) reg = random.word();
  state.dr6 = 0xFFFF'0FF0 | random.below(16);
  state.dr7 = 0x400 | random.below(256);
  state.xsave.resize(576);
  for (std::byte& byte : state.xsave) byte = random.number<std::byte>();
  state.xsave[5] = std::byte{0};                                        // reserved
  for (std::size_t i = 26; i < 28; ++i) state.xsave[i] = std::byte{0};  // MXCSR above bit 15
  const std::uint32_t mask = 0xFFFF;
  std::memcpy(&state.xsave[28], &mask, sizeof(mask));
  std::fill(state.xsave.begin() + 416, state.xsave.end(), std::byte{0});
  state.xsave[512] = std::byte{3};
  for (const std::uint32_t index :
       {0x174u, 0x175u, 0x176u, 0x1A0u, 0x277u, 0xC000'0081u, 0xC000'0082u, 0xC000'0083u,
        0xC000'0084u, 0xC000'0102u, 0xC000'0103u}) {
    state.msrs.push_back({index, random.word()});
  }
  state.events.interrupt_shadow = static_cast<std::uint8_t>(random.below(3));
  state.events.nmi_masked = random.flag();
  return state;
}

TEST(SoftState, random_states_survive_the_way_through_a_cpu) {
  Random random;
  for (int i = 0; i < 500; ++i) {
    const CpuState state = random_state(random);
    Cpu cpu;
    const Status loaded = load_cpu(state, cpu);
    ASSERT_TRUE(loaded) << loaded.error().text();
    CpuState saved;
    save_cpu(cpu, saved);
    EXPECT_EQ(saved, state);
  }
}

TEST(SoftState, mode_and_privilege_follow) {
  Random random;
  CpuState state = random_state(random);
  state.rflags &= ~std::uint64_t{eflags::kVm};
  state.cs.long_mode = true;
  state.ss.dpl = 3;
  Cpu cpu;
  ASSERT_TRUE(load_cpu(state, cpu));
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.cpl, 3);
  state.cs.long_mode = false;
  state.cs.default_big = true;
  ASSERT_TRUE(load_cpu(state, cpu));
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  state.cr0 = 0x10;
  state.efer = 0;
  state.cs.default_big = false;
  ASSERT_TRUE(load_cpu(state, cpu));
  EXPECT_EQ(cpu.mode, CodeMode::k16);
  EXPECT_EQ(cpu.cpl, 0);
}

TEST(SoftState, impossible_and_foreign_states_are_refused) {
  Random random;
  const CpuState good = random_state(random);
  Cpu cpu;
  const auto code = [&](auto change) {
    CpuState state = good;
    change(state);
    const Status status = load_cpu(state, cpu);
    return status ? Code::kInternal : status.error().code();
  };
  EXPECT_EQ(code([](CpuState& s) { s.cr0 &= ~1ull; }), Code::kCorrupt);
  EXPECT_EQ(code([](CpuState& s) { s.efer &= ~0x400ull; }), Code::kCorrupt);
  EXPECT_EQ(code([](CpuState& s) { s.cr4 &= ~0x20ull; }), Code::kCorrupt);
  EXPECT_EQ(code([](CpuState& s) { s.xsave.resize(575); }), Code::kCorrupt);
  EXPECT_EQ(code([](CpuState& s) { s.xsave[512] = std::byte{7}; }), Code::kUnsupported);
  EXPECT_EQ(code([](CpuState& s) { s.xcr0 = 7; }), Code::kUnsupported);
  EXPECT_EQ(code([](CpuState& s) { s.events.smi_smm = true; }), Code::kUnsupported);
}

TEST(SoftState, parts_of_xsave_that_are_in_reset_state_are_reset) {
  Random random;
  CpuState state = random_state(random);
  state.xsave[512] = std::byte{0};
  Cpu cpu;
  ASSERT_TRUE(load_cpu(state, cpu));
  EXPECT_EQ(cpu.fx.control, 0x37F);
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
  EXPECT_EQ(cpu.fx.xmm[3], (std::array<std::uint8_t, 16>{}));
  state.xsave.clear();
  ASSERT_TRUE(load_cpu(state, cpu));
  EXPECT_EQ(cpu.fx.mxcsr, 0x1F80u);
}

// ---- Through the engine -----------------------------------------------------------------------

class MachineState : public testing::Test {
 protected:
  struct Vm {
    std::unique_ptr<GuestMemory> memory;
    std::unique_ptr<EngineVm> vm;
    std::unique_ptr<EngineVcpu> vcpu;
  };
  static Vm make() {
    Vm vm;
    vm.memory = GuestMemory::create(2 << 20).value();
    vm.vm = create_soft_vm({}).value();
    EXPECT_TRUE(vm.vm->map_memory(*vm.memory));
    vm.vcpu = vm.vm->create_vcpu(0, 1).value();
    return vm;
  }
};

TEST_F(MachineState, reset_state_is_the_processors) {
  const CpuState state = make().vcpu->state().value();
  EXPECT_EQ(state.rip, 0xFFF0u);
  EXPECT_EQ(state.cs.selector, 0xF000);
  EXPECT_EQ(state.cs.base, 0xFFFF'0000u);
  EXPECT_EQ(state.cr0, 0x6000'0010u);
  EXPECT_EQ(state.rflags, 2u);
  EXPECT_EQ(state.mp_state, MpState::kRunnable);
  EXPECT_EQ(state.lapic.size(), 1024u);
  EXPECT_NE(state.apic_base & 0x900, 0u);
  EXPECT_NE(state.tsc_khz, 0u);
}

TEST_F(MachineState, all_but_the_first_vcpu_wait_to_be_started) {
  Vm vm = make();
  const auto second = vm.vm->create_vcpu(1, 2).value();
  EXPECT_EQ(second->state().value().mp_state, MpState::kUninitialized);
}

TEST_F(MachineState, msrs_are_sorted_unique_and_of_the_kind_that_kvm_saves) {
  const CpuState state = make().vcpu->state().value();
  EXPECT_FALSE(state.msrs.empty());
  for (std::size_t i = 0; i < state.msrs.size(); ++i) {
    EXPECT_FALSE(kvm::is_left_out(state.msrs[i].index)) << std::hex << state.msrs[i].index;
    if (i > 0) {
      EXPECT_LT(state.msrs[i - 1].index, state.msrs[i].index);
    }
  }
}

TEST_F(MachineState, state_survives_the_way_through_a_vcpu) {
  Random random;
  for (int i = 0; i < 50; ++i) {
    Vm vm = make();
    CpuState state = vm.vcpu->state().value();
    const CpuState other = random_state(random);
    state.gpr = other.gpr;
    state.rip = other.rip;
    state.rflags = other.rflags & ~std::uint64_t{eflags::kVm};
    state.ss = other.ss;
    state.gs = other.gs;
    state.cr0 = other.cr0;
    state.cr3 = other.cr3;
    state.cr4 = other.cr4;
    state.efer = other.efer;
    state.xsave = other.xsave;
    state.events = other.events;
    state.events.exception_pending = random.flag();
    state.events.exception_vector = 14;
    state.events.exception_payload = random.word();
    state.events.nmi_pending = random.flag();
    state.mp_state = random.flag() ? MpState::kHalted : MpState::kRunnable;
    Vm second = make();
    const Status loaded = second.vcpu->set_state(state);
    ASSERT_TRUE(loaded) << loaded.error().text();
    CpuState saved = second.vcpu->state().value();
    // Time goes on.
    const auto without_time = [](CpuState& s) {
      std::erase_if(s.msrs,
                    [](const MsrValue& msr) { return msr.index == 0x10 || msr.index == 0x3B; });
    };
    without_time(saved);
    without_time(state);
    EXPECT_EQ(saved, state);
  }
}

// A machine that counts is stopped again and again, and goes on in a new one each time.
TEST_F(MachineState, a_guest_goes_on_in_another_machine) {
  constexpr std::uint64_t kCode = 0x1000, kCounter = 0x8000;
  // real mode: inc word [0x8000]; inc ax; out 0x50, al; jmp back
  constexpr std::array<std::uint8_t, 9> kProgram = {0xFF, 0x06, 0x00, 0x80, 0x40,
                                                    0xE6, 0x50, 0xEB, 0xF7};
  Vm vm = make();
  CpuState state = vm.vcpu->state().value();
  state.cs.selector = 0;
  state.cs.base = 0;
  state.rip = kCode;
  ASSERT_TRUE(vm.memory->write_object(GuestPhysAddr(kCode), kProgram));
  ASSERT_TRUE(vm.vcpu->set_state(state));
  for (std::uint16_t i = 1; i <= 20; ++i) {
    const VcpuExit exit = vm.vcpu->run();
    const auto* pio = std::get_if<ExitPio>(&exit);
    ASSERT_NE(pio, nullptr);
    EXPECT_EQ(static_cast<std::uint8_t>(pio->data[0]), i);
    EXPECT_EQ(vm.memory->read_object<std::uint16_t>(GuestPhysAddr(kCounter)).value(), i);
    ASSERT_TRUE(vm.vcpu->finish_pending_exit());
    Vm next = make();
    std::vector<std::byte> bytes(vm.memory->size());
    ASSERT_TRUE(vm.memory->read(GuestPhysAddr(0), bytes));
    ASSERT_TRUE(next.memory->write(GuestPhysAddr(0), bytes));
    ASSERT_TRUE(next.vcpu->set_state(vm.vcpu->state().value()));
    vm.vcpu.reset();  // first, as the memory has to outlive it
    vm.vm.reset();
    vm = std::move(next);
  }
}

}  // namespace
}  // namespace sm::soft
