// The way from real to protected to long mode and back, instruction by instruction.
#include <gtest/gtest.h>

#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/test_cpu.h"
#include "vmm/cpu/soft/exec/msr.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kOperand = 0x5000;

// The steps by which Linux starts a secondary processor.
TEST(Startup, RealToProtectedToLongMode) {
  TestCpu cpu;
  constexpr std::uint64_t kBase = 0x9000;
  constexpr std::uint16_t kGdtr = 0x100, kIdtr = 0x110;
  SegmentRegister& cs = cpu.reg(Segment::kCs);
  cs.selector = kBase >> 4;
  cs.base = kBase;
  cpu.rip = 0;

  // Flat 32-bit code at 0x08, 64-bit code at 0x10, data at 0x18.
  cpu.poke(place::kGdt + 0x08, kCode32);
  cpu.poke(place::kGdt + 0x10, kCode64);
  cpu.poke(place::kGdt + 0x18, kData);
  cpu.poke<std::uint16_t>(kBase + kGdtr, 0x1F);
  cpu.poke<std::uint32_t>(kBase + kGdtr + 2, place::kGdt);

  EXPECT_EQ(cpu.step({0xFA}), Next::kNext);        // cli
  EXPECT_EQ(cpu.step({0x0F, 0x09}), Next::kNext);  // wbinvd
  EXPECT_EQ(cpu.step({0x8C, 0xC8}), Next::kNext);  // mov ax, cs
  EXPECT_EQ(cpu.step({0x8E, 0xD8}), Next::kNext);  // mov ds, ax
  EXPECT_EQ(cpu.step({0x8E, 0xD0}), Next::kNext);  // mov ss, ax
  EXPECT_EQ(cpu.reg(Segment::kDs).base, kBase);
  EXPECT_EQ(cpu.step({0x0F, 0x01, 0x1E, 0x10, 0x01}), Next::kNext);        // lidt [0x110]
  EXPECT_EQ(cpu.step({0x66, 0x0F, 0x01, 0x16, 0x00, 0x01}), Next::kNext);  // lgdtl [0x100]
  EXPECT_EQ(cpu.idt.limit, 0);
  EXPECT_EQ(cpu.gdt.base, place::kGdt);
  static_assert(kIdtr == 0x110 && kGdtr == 0x100);

  cpu.gpr[kRax] = 1;
  EXPECT_EQ(cpu.step({0x0F, 0x01, 0xF0}), Next::kJump);  // lmsw ax
  EXPECT_EQ(cpu.cr0 & cr0::kPe, cr0::kPe);
  EXPECT_EQ(cpu.mode, CodeMode::k16);
  EXPECT_EQ(cs.base, kBase) << "until CS is loaded";
  // ljmpl $8, $0x9400
  EXPECT_EQ(cpu.step({0x66, 0xEA, 0x00, 0x94, 0x00, 0x00, 0x08, 0x00}), Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.rip, 0x9400u);

  cpu.gpr[kRax] = 0x18;
  EXPECT_EQ(cpu.step({0x8E, 0xD8}), Next::kNext);  // mov ds, ax
  EXPECT_EQ(cpu.step({0x8E, 0xD0}), Next::kNext);  // mov ss, ax
  cpu.gpr[kRax] = cr4::kPae | cr4::kPge;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xE0}), Next::kJump);  // mov cr4, eax
  cpu.gpr[kRax] = 0x8000;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xD8}), Next::kJump);  // mov cr3, eax
  cpu.gpr[kRcx] = msr::kEfer;
  cpu.gpr[kRax] = efer::kLme | efer::kSce | efer::kNxe;
  cpu.gpr[kRdx] = 0;
  EXPECT_EQ(cpu.step({0x0F, 0x30}), Next::kJump);  // wrmsr
  EXPECT_FALSE(cpu.long_mode());
  cpu.gpr[kRax] = cr0::kPg | cr0::kPe | cr0::kWp;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kJump);  // mov cr0, eax
  EXPECT_TRUE(cpu.long_mode());
  EXPECT_EQ(cpu.mode, CodeMode::k32) << "compatibility mode until CS is loaded";
  EXPECT_TRUE(cpu.called("paging"));
  // ljmpl $0x10, $0x9800
  EXPECT_EQ(cpu.step({0xEA, 0x00, 0x98, 0x00, 0x00, 0x10, 0x00}), Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.rip, 0x9800u);
  EXPECT_EQ(cpu.cpl, 0);
}

TEST(Startup, LongModeNeedsPae) {
  TestCpu cpu;
  enter_protected_mode(cpu);
  cpu.efer = efer::kLme;
  cpu.gpr[kRax] = cpu.cr0 | cr0::kPg;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_FALSE(cpu.long_mode());
  cpu.cr4 = cr4::kPae;
  cpu.task.attributes = 0x83;  // a 16-bit TSS
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kAborted);
  cpu.task.attributes = 0x8B;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kJump);
  EXPECT_TRUE(cpu.long_mode());
}

// As a kernel does before it starts another one.
TEST(Startup, LongModeToRealMode) {
  TestCpu cpu;
  enter_long_mode(cpu);
  cpu.gpr[kRax] = kOperand;
  cpu.poke<std::uint32_t>(kOperand, 0x6000);
  cpu.poke<std::uint16_t>(kOperand + 4, selector::kKernelCode32);
  ASSERT_EQ(cpu.step({0xFF, 0x28}), Next::kJump);  // ljmp *(rax)
  ASSERT_EQ(cpu.mode, CodeMode::k32);
  cpu.gpr[kRax] = cpu.cr0 & ~cr0::kPg;
  ASSERT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kJump);
  EXPECT_FALSE(cpu.long_mode());
  EXPECT_NE(cpu.efer & efer::kLme, 0u);
  ASSERT_EQ(cpu.step({0xEA, 0x00, 0x70, 0x00, 0x00, 0x90, 0x00}), Next::kJump);  // 16-bit code
  EXPECT_EQ(cpu.mode, CodeMode::k16);
  cpu.gpr[kRax] = cpu.cr0 & ~cr0::kPe;
  ASSERT_EQ(cpu.step({0x0F, 0x22, 0xC0}), Next::kJump);
  ASSERT_EQ(cpu.step({0xEA, 0x00, 0x00, 0x00, 0x08}), Next::kJump);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x8000u);
  EXPECT_EQ(cpu.mode, CodeMode::k16);
}

}  // namespace
}  // namespace sm::soft
