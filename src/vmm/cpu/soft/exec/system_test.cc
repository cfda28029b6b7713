// System instructions: who may use them, control registers, MSRs, descriptor tables.
#include "vmm/cpu/soft/exec/system.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/event/test_cpu.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/msr.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kOperand = 0x5000;  // RAX points there

class System : public ::testing::Test {
 protected:
  System() {
    enter_long_mode(cpu);
    cpu.gpr[kRax] = kOperand;
  }
  void expect_fault(Next next, std::uint8_t vector, std::uint32_t error_code = 0) {
    EXPECT_EQ(next, Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, vector);
    EXPECT_EQ(cpu.fault.error_code, error_code);
  }
  Next wrmsr(std::uint32_t index, std::uint64_t value) {
    cpu.gpr[kRcx] = index;
    cpu.gpr[kRax] = value & 0xFFFFFFFF;
    cpu.gpr[kRdx] = value >> 32;
    return cpu.step({0x0F, 0x30});
  }
  std::uint64_t rdmsr(std::uint32_t index) {
    cpu.gpr[kRcx] = index;
    cpu.gpr[kRax] = cpu.gpr[kRdx] = ~0ull;
    EXPECT_EQ(cpu.step({0x0F, 0x32}), Next::kNext) << std::hex << index;
    EXPECT_EQ((cpu.gpr[kRax] | cpu.gpr[kRdx]) >> 32, 0u);
    return cpu.gpr[kRdx] << 32 | cpu.gpr[kRax];
  }
  Next write_cr(std::uint8_t number, std::uint64_t value) {
    cpu.gpr[kRbx] = value;
    const std::uint8_t modrm = static_cast<std::uint8_t>(0xC3 | (number & 7) << 3);
    const std::uint8_t rex = number == 8 ? 0x44 : 0x40;
    return cpu.step({rex, 0x0F, 0x22, modrm});
  }
  TestCpu cpu;
};

// ---- Who may use what ---------------------------------------------------------------------------

// An instruction in 64-bit mode, what it raises for a program, and that the kernel may use it.
struct Rule {
  const char* name;
  std::initializer_list<std::uint8_t> code;
  std::uint8_t user_vector;
};
constexpr std::uint8_t kGp = vector::kProtection, kUd = vector::kUndefined, kAllowed = 0xFF;

TEST_F(System, PrivilegedInstructionsAreRefusedToPrograms) {
  const Rule kRules[] = {
      {"hlt", {0xF4}, kGp},
      {"cli", {0xFA}, kGp},
      {"sti", {0xFB}, kGp},
      {"clts", {0x0F, 0x06}, kGp},
      {"invd", {0x0F, 0x08}, kGp},
      {"wbinvd", {0x0F, 0x09}, kGp},
      {"rdmsr", {0x0F, 0x32}, kGp},
      {"wrmsr", {0x0F, 0x30}, kGp},
      {"rdpmc", {0x0F, 0x33}, kGp},
      {"mov rbx, cr0", {0x0F, 0x20, 0xC3}, kGp},
      {"mov rbx, cr2", {0x0F, 0x20, 0xD3}, kGp},
      {"mov rbx, cr3", {0x0F, 0x20, 0xDB}, kGp},
      {"mov rbx, cr4", {0x0F, 0x20, 0xE3}, kGp},
      {"mov rbx, cr8", {0x44, 0x0F, 0x20, 0xC3}, kGp},
      {"mov cr0, rbx", {0x0F, 0x22, 0xC3}, kGp},
      {"mov cr2, rbx", {0x0F, 0x22, 0xD3}, kGp},
      {"mov cr3, rbx", {0x0F, 0x22, 0xDB}, kGp},
      {"mov cr4, rbx", {0x0F, 0x22, 0xE3}, kGp},
      {"mov cr8, rbx", {0x44, 0x0F, 0x22, 0xC3}, kGp},
      {"mov rbx, dr0", {0x0F, 0x21, 0xC3}, kGp},
      {"mov dr7, rbx", {0x0F, 0x23, 0xFB}, kGp},
      {"lmsw ax", {0x0F, 0x01, 0xF0}, kGp},
      {"lgdt [rax]", {0x0F, 0x01, 0x10}, kGp},
      {"lidt [rax]", {0x0F, 0x01, 0x18}, kGp},
      {"lldt ax", {0x0F, 0x00, 0xD0}, kGp},
      {"ltr ax", {0x0F, 0x00, 0xD8}, kGp},
      {"invlpg [rax]", {0x0F, 0x01, 0x38}, kGp},
      {"invpcid rbx, [rax]", {0x66, 0x0F, 0x38, 0x82, 0x18}, kGp},
      {"swapgs", {0x0F, 0x01, 0xF8}, kGp},
      {"sysretq", {0x48, 0x0F, 0x07}, kGp},
      {"sysexit", {0x0F, 0x35}, kGp},
      {"int 0x80", {0xCD, 0x80}, kGp},
      {"clac", {0x0F, 0x01, 0xCA}, kUd},
      {"stac", {0x0F, 0x01, 0xCB}, kUd},
      {"monitor", {0x0F, 0x01, 0xC8}, kUd},
      {"mwait", {0x0F, 0x01, 0xC9}, kUd},
      {"xgetbv", {0x0F, 0x01, 0xD0}, kUd},
      {"xsetbv", {0x0F, 0x01, 0xD1}, kUd},
      {"rsm", {0x0F, 0xAA}, kUd},
      {"getsec", {0x0F, 0x37}, kUd},
      {"ud2", {0x0F, 0x0B}, kUd},
      {"ud1", {0x0F, 0xB9, 0xC0}, kUd},
      {"sgdt [rax]", {0x0F, 0x01, 0x00}, kAllowed},
      {"sidt [rax]", {0x0F, 0x01, 0x08}, kAllowed},
      {"sldt ax", {0x0F, 0x00, 0xC0}, kAllowed},
      {"str ax", {0x0F, 0x00, 0xC8}, kAllowed},
      {"smsw ax", {0x0F, 0x01, 0xE0}, kAllowed},
      {"rdtsc", {0x0F, 0x31}, kAllowed},
      {"rdtscp", {0x0F, 0x01, 0xF9}, kAllowed},
      {"cpuid", {0x0F, 0xA2}, kAllowed},
      {"vmcall", {0x0F, 0x01, 0xC1}, kAllowed},
      {"rdfsbase rbx", {0xF3, 0x48, 0x0F, 0xAE, 0xC3}, kAllowed},
      {"verr ax", {0x0F, 0x00, 0xE0}, kAllowed},
      {"lar ebx, eax", {0x0F, 0x02, 0xD8}, kAllowed},
      {"mov ebx, ds", {0x8C, 0xDB}, kAllowed},
  };
  for (const Rule& rule : kRules) {
    enter_user(cpu);
    cpu.gpr[kRax] = kOperand;
    cpu.gpr[kRcx] = 0;
    cpu.fault = {};
    const std::uint64_t cr0 = cpu.cr0, cr4 = cpu.cr4;
    const Next next = cpu.step(rule.code);
    EXPECT_EQ(next == Next::kAborted ? cpu.fault.vector : kAllowed, rule.user_vector) << rule.name;
    EXPECT_EQ(cpu.cr0, cr0) << rule.name;
    EXPECT_EQ(cpu.cr4, cr4) << rule.name;
    if (next == Next::kAborted) {
      EXPECT_EQ(cpu.rip, place::kUserCode) << rule.name;
    }
    EXPECT_FALSE(cpu.halted) << rule.name;
  }
}

TEST_F(System, UmipAndTsdTakeMoreFromPrograms) {
  cpu.cr4 |= cr4::kUmip | cr4::kTsd;
  const Rule kRules[] = {
      {"sgdt [rax]", {0x0F, 0x01, 0x00}, kGp}, {"sidt [rax]", {0x0F, 0x01, 0x08}, kGp},
      {"sldt ax", {0x0F, 0x00, 0xC0}, kGp},    {"str ax", {0x0F, 0x00, 0xC8}, kGp},
      {"smsw ax", {0x0F, 0x01, 0xE0}, kGp},    {"rdtsc", {0x0F, 0x31}, kGp},
      {"rdtscp", {0x0F, 0x01, 0xF9}, kGp},
  };
  for (const Rule& rule : kRules) {
    EXPECT_EQ(cpu.step(rule.code), Next::kNext) << rule.name << " by the kernel";
    cpu.gpr[kRax] = kOperand;
  }
  enter_user(cpu);
  for (const Rule& rule : kRules) {
    EXPECT_EQ(cpu.step(rule.code), Next::kAborted) << rule.name;
    EXPECT_EQ(cpu.fault.vector, rule.user_vector) << rule.name;
  }
}

TEST_F(System, RealModeDoesNotKnowSelectorsOfTheSystem) {
  TestCpu real;
  const Rule kRules[] = {
      {"lldt ax", {0x0F, 0x00, 0xD0}, kUd},
      {"ltr ax", {0x0F, 0x00, 0xD8}, kUd},
      {"sldt ax", {0x0F, 0x00, 0xC0}, kUd},
      {"str ax", {0x0F, 0x00, 0xC8}, kUd},
      {"lar", {0x0F, 0x02, 0xD8}, kUd},
      {"lsl", {0x0F, 0x03, 0xD8}, kUd},
      {"verr", {0x0F, 0x00, 0xE0}, kUd},
      {"arpl", {0x63, 0xD8}, kUd},
      {"sysenter", {0x0F, 0x34}, kGp},
      {"mov ax, cr0", {0x0F, 0x20, 0xC0}, kAllowed},
      {"cli", {0xFA}, kAllowed},
      {"hlt", {0xF4}, kAllowed},
  };
  for (const Rule& rule : kRules) {
    const Next next = real.step(rule.code);
    EXPECT_EQ(next == Next::kAborted ? real.fault.vector : kAllowed, rule.user_vector) << rule.name;
  }
}

// ---- Flags, halt --------------------------------------------------------------------------------

TEST_F(System, StiShadowsOnlyWhenInterruptsWereOff) {
  ASSERT_EQ(cpu.step({0xFB}), Next::kNext);
  EXPECT_EQ(cpu.interrupt_shadow, 1);
  EXPECT_NE(cpu.other_flags & eflags::kIf, 0u);
  EXPECT_EQ(cpu.attention.load(), kAttentionInterrupt | kAttentionSingle);
  cpu.interrupt_shadow = 0;
  ASSERT_EQ(cpu.step({0xFB}), Next::kNext);
  EXPECT_EQ(cpu.interrupt_shadow, 0);
  ASSERT_EQ(cpu.step({0xFA}), Next::kNext);
  EXPECT_EQ(cpu.other_flags & eflags::kIf, 0u);
}

TEST_F(System, IoplLetsProgramsControlInterrupts) {
  enter_user(cpu);
  cpu.other_flags = eflags::kIopl;
  EXPECT_EQ(cpu.step({0xFB}), Next::kNext);
  EXPECT_EQ(cpu.step({0xFA}), Next::kNext);
}

TEST_F(System, HaltMovesBehindItself) {
  ASSERT_EQ(cpu.step({0xF4}), Next::kNext);
  EXPECT_TRUE(cpu.halted);
  EXPECT_EQ(cpu.rip, place::kKernelCode + 1);
}

TEST_F(System, AccessFlag) {
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xCB}), Next::kNext);
  EXPECT_NE(cpu.other_flags & eflags::kAc, 0u);
  EXPECT_TRUE(cpu.called("ac 1"));
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xCA}), Next::kNext);
  EXPECT_EQ(cpu.other_flags & eflags::kAc, 0u);
  EXPECT_TRUE(cpu.called("ac 0"));
}

// ---- Control registers --------------------------------------------------------------------------

TEST_F(System, Cr0KeepsItsFixedBitsAndRefusesNonsense) {
  const std::uint64_t good = cpu.cr0;
  ASSERT_EQ(write_cr(0, (good | cr0::kTs) & ~cr0::kEt), Next::kJump);
  EXPECT_EQ(cpu.cr0, good | cr0::kTs);
  EXPECT_EQ(cpu.rip, place::kKernelCode + 4);
  EXPECT_TRUE(cpu.calls.empty()) << "TS has nothing to do with paging";
  ASSERT_EQ(write_cr(0, good & ~cr0::kWp), Next::kJump);
  EXPECT_TRUE(cpu.called("paging"));
  ASSERT_EQ(write_cr(0, good), Next::kJump);
  expect_fault(write_cr(0, good | 1ull << 32), kGp);
  expect_fault(write_cr(0, good & ~cr0::kPe), kGp);
  expect_fault(write_cr(0, good | cr0::kNw), kGp);
  expect_fault(write_cr(0, good & ~cr0::kPg), kGp);  // from 64-bit code
  EXPECT_EQ(cpu.cr0, good);
}

TEST_F(System, Cr3) {
  ASSERT_EQ(write_cr(3, 0x12345018), Next::kJump);
  EXPECT_EQ(cpu.cr3, 0x12345018u);
  EXPECT_TRUE(cpu.called("cr3"));
  expect_fault(write_cr(3, 1ull << 63), kGp);
  expect_fault(write_cr(3, 1ull << 40), kGp);
  cpu.cr4 |= cr4::kPcide;
  ASSERT_EQ(write_cr(3, 1ull << 63 | 0x1005), Next::kJump);
  EXPECT_EQ(cpu.cr3, 0x1005u);
  EXPECT_TRUE(cpu.called("cr3 no flush"));
}

// Without long mode these load the page-directory pointers, and those have reserved bits.
TEST_F(System, PaePointersAreCheckedWhenTheyAreLoaded) {
  cpu.efer = 0;
  cpu.pae_pointers_valid = false;
  const std::uint64_t cr3 = cpu.cr3, good = cpu.cr4, paged = cpu.cr0;
  expect_fault(write_cr(3, 0x12345020), kGp);
  EXPECT_EQ(cpu.cr3, cr3);
  expect_fault(write_cr(4, good ^ cr4::kPge), kGp);
  EXPECT_EQ(cpu.cr4, good);
  EXPECT_EQ(write_cr(4, good ^ cr4::kTsd), Next::kJump);  // does not load them
  cpu.cr0 &= ~cr0::kPg;
  EXPECT_EQ(write_cr(3, 0x12345020), Next::kJump);
  expect_fault(write_cr(0, paged), kGp);
  EXPECT_EQ(cpu.cr0, paged & ~cr0::kPg);
  cpu.pae_pointers_valid = true;
  EXPECT_EQ(write_cr(0, paged), Next::kJump);
}

TEST_F(System, Cr4KnowsWhatThisCpuHas) {
  const std::uint64_t good = cpu.cr4;
  for (const unsigned absent : {0u, 1u, 12u, 13u, 14u, 18u, 19u, 22u, 23u, 24u, 63u}) {
    expect_fault(write_cr(4, good | 1ull << absent), kGp);
  }
  expect_fault(write_cr(4, good & ~cr4::kPae), kGp);
  cpu.cr3 = 0x1001;
  expect_fault(write_cr(4, good | cr4::kPcide), kGp);
  cpu.cr3 = 0x1000;
  cpu.calls.clear();
  ASSERT_EQ(write_cr(4, good | cr4::kOsfxsr), Next::kJump);
  EXPECT_FALSE(cpu.called("paging"));
  ASSERT_EQ(write_cr(4, good | cr4::kPcide | cr4::kSmap), Next::kJump);
  EXPECT_TRUE(cpu.called("paging"));
  cpu.cr3 = 0x1001;  // keeping PCIDE is no new activation
  EXPECT_EQ(write_cr(4, good | cr4::kPcide), Next::kJump);
  // Nor does 32-bit code leave paging with it.
  set_code_segment(cpu, segment_register({.low = kCode32}, selector::kKernelCode32), 0);
  cpu.gpr[kRbx] = cpu.cr0 & ~cr0::kPg;
  expect_fault(cpu.step({0x0F, 0x22, 0xC3}), kGp);
  cpu.cr4 &= ~cr4::kPcide;
  EXPECT_EQ(cpu.step({0x0F, 0x22, 0xC3}), Next::kJump);
}

TEST_F(System, Cr2AndCr8) {
  ASSERT_EQ(write_cr(2, 0xFFFF800012345678), Next::kJump);
  EXPECT_EQ(cpu.cr2, 0xFFFF800012345678u);
  ASSERT_EQ(write_cr(8, 9), Next::kJump);
  EXPECT_EQ(cpu.task_priority, 9u);
  ASSERT_EQ(cpu.step({0x44, 0x0F, 0x20, 0xC1}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRcx], 9u);
  expect_fault(write_cr(8, 16), kGp);
}

TEST_F(System, MachineStatusWord) {
  const std::uint64_t before = cpu.cr0;
  cpu.gpr[kRax] = cr0::kTs | cr0::kMp;  // without PE, which stays
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xF0}), Next::kJump);
  EXPECT_EQ(cpu.cr0, (before & ~0xFull) | 0xA | cr0::kPe);
  ASSERT_EQ(cpu.step({0x0F, 0x06}), Next::kNext);
  EXPECT_EQ(cpu.cr0 & cr0::kTs, 0u);
  cpu.gpr[kRbx] = ~0ull;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xE3}), Next::kNext);  // smsw ebx
  EXPECT_EQ(cpu.gpr[kRbx], cpu.cr0);
  cpu.gpr[kRax] = kOperand;
  cpu.poke<std::uint64_t>(kOperand, ~0ull);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x20}), Next::kNext);  // smsw [rax]
  EXPECT_EQ(cpu.peek<std::uint64_t>(kOperand), 0xFFFFFFFFFFFF0000 | (cpu.cr0 & 0xFFFF));
}

TEST_F(System, DebugRegisters) {
  cpu.gpr[kRbx] = 0x1234;
  ASSERT_EQ(cpu.step({0x0F, 0x23, 0xC3}), Next::kNext);
  EXPECT_EQ(cpu.dr[0], 0x1234u);
  cpu.gpr[kRbx] = 0x2000;
  ASSERT_EQ(cpu.step({0x0F, 0x23, 0xFB}), Next::kNext);
  expect_fault(cpu.step({0x0F, 0x21, 0xC3}), vector::kDebug);
}

TEST_F(System, Invalidations) {
  cpu.reg(Segment::kGs).base = 0x10000;
  cpu.reg(Segment::kDs).base = 0x777;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x38}), Next::kJump);
  EXPECT_TRUE(cpu.called("page " + std::to_string(kOperand)));
  ASSERT_EQ(cpu.step({0x65, 0x0F, 0x01, 0x38}), Next::kJump);
  EXPECT_TRUE(cpu.called("page " + std::to_string(kOperand + 0x10000)));

  const auto invpcid = [&](std::uint64_t type, std::uint64_t pcid, std::uint64_t linear) {
    cpu.gpr[kRbx] = type;
    cpu.poke(kOperand, pcid);
    cpu.poke(kOperand + 8, linear);
    return cpu.step({0x66, 0x0F, 0x38, 0x82, 0x18});
  };
  EXPECT_EQ(invpcid(2, 0, 0), Next::kJump);
  EXPECT_TRUE(cpu.called("pcid 2 0 0"));
  expect_fault(invpcid(4, 0, 0), kGp);
  expect_fault(invpcid(0, 0x1000, 0), kGp);
  expect_fault(invpcid(0, 0, 0x0000800000000000), kGp);
  expect_fault(invpcid(1, 5, 0), kGp);  // CR4.PCIDE is clear
  EXPECT_EQ(invpcid(3, 5, 0), Next::kJump);
  cpu.cr4 |= cr4::kPcide;
  EXPECT_EQ(invpcid(0, 5, 0x7000), Next::kJump);
  EXPECT_TRUE(cpu.called("pcid 0 5 " + std::to_string(0x7000)));
}

// ---- Model-specific registers -------------------------------------------------------------------

TEST_F(System, PlainMsrs) {
  struct {
    std::uint32_t index;
    std::uint64_t good;
    std::vector<std::uint64_t> bad;
  } const kCases[] = {
      {msr::kStar, 0x0023001012345678, {}},
      {msr::kLstar, 0xFFFFFFFF81000000, {0x0000800000000000, 1ull << 63}},
      {msr::kCstar, 0x00007FFFFFFFFFFF, {0x0000800000000000}},
      {msr::kSyscallMask, 0x47700, {1ull << 32}},
      {msr::kFsBase, 0x00007F0000000000, {0x00FF000000000000}},
      {msr::kGsBase, 0xFFFF888000000000, {0x00FF000000000000}},
      {msr::kKernelGsBase, 0xFFFF888000000000, {0x00FF000000000000}},
      {msr::kTscAux, 0x1003, {1ull << 32}},
      {msr::kSysenterCs, 0x10, {1ull << 32}},
      {msr::kSysenterEsp, 0xFFFF888000000000, {0x00FF000000000000}},
      {msr::kSysenterEip, 0xFFFF888000000000, {0x00FF000000000000}},
      {msr::kPat, 0x0407010500070106, {0x02, 0x03, 0x08, 0x0300000000000000}},
      {msr::kMiscEnable, 1, {}},
  };
  for (const auto& each : kCases) {
    EXPECT_EQ(wrmsr(each.index, each.good), Next::kNext) << std::hex << each.index;
    EXPECT_EQ(rdmsr(each.index), each.good) << std::hex << each.index;
    for (const std::uint64_t bad : each.bad) {
      expect_fault(wrmsr(each.index, bad), kGp);
      EXPECT_EQ(rdmsr(each.index), each.good) << std::hex << each.index;
    }
  }
  EXPECT_EQ(cpu.reg(Segment::kFs).base, 0x00007F0000000000u);
  EXPECT_EQ(cpu.reg(Segment::kGs).base, 0xFFFF888000000000u);
}

TEST_F(System, Efer) {
  const std::uint64_t good = cpu.efer;
  EXPECT_EQ(rdmsr(msr::kEfer), good);
  EXPECT_EQ(wrmsr(msr::kEfer, good & ~efer::kLma), Next::kJump);
  EXPECT_EQ(cpu.efer, good) << "LMA cannot be written";
  EXPECT_FALSE(cpu.called("paging"));
  EXPECT_EQ(wrmsr(msr::kEfer, good & ~efer::kNxe), Next::kJump);
  EXPECT_TRUE(cpu.called("paging"));
  expect_fault(wrmsr(msr::kEfer, good & ~efer::kLme), kGp);
  for (const unsigned absent : {1u, 9u, 12u, 13u, 14u, 15u, 32u}) {
    expect_fault(wrmsr(msr::kEfer, good | 1ull << absent), kGp);
  }
}

TEST_F(System, OtherMsrsAreThePlatforms) {
  cpu.platform_msrs[0x6E0] = 5;
  EXPECT_EQ(rdmsr(0x6E0), 5u);
  EXPECT_EQ(wrmsr(0x6E0, 0x123456789A), Next::kNext);
  EXPECT_EQ(cpu.platform_msrs[0x6E0], 0x123456789Au);
  expect_fault(wrmsr(0x12345, 0), kGp);
  cpu.gpr[kRcx] = 0x12345;
  expect_fault(cpu.step({0x0F, 0x32}), kGp);
}

TEST_F(System, ConstantMsrs) {
  EXPECT_EQ(rdmsr(0x3A), 1u);
  expect_fault(wrmsr(0x3A, 5), kGp);
  EXPECT_EQ(wrmsr(0x8B, 7), Next::kNext);
  EXPECT_EQ(rdmsr(0x8B), 0u);
  EXPECT_EQ(rdmsr(msr::kArchCapabilities) & 0x31, 0x31u);
  expect_fault(wrmsr(msr::kArchCapabilities, 0), kGp);
}

// ---- What the processor tells of itself ---------------------------------------------------------

TEST_F(System, CountersAndLeaves) {
  ASSERT_EQ(cpu.step({0x0F, 0x31}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 0x3456789Au);
  EXPECT_EQ(cpu.gpr[kRdx], 0x12u);
  cpu.tsc_aux = 0x1003;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xF9}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRcx], 0x1003u);
  ASSERT_EQ(cpu.step({0xF3, 0x0F, 0xC7, 0xFB}), Next::kNext);  // rdpid rbx
  EXPECT_EQ(cpu.gpr[kRbx], 0x1003u);
  cpu.gpr[kRax] = 0xFFFFFFFF00000007;
  cpu.gpr[kRcx] = 0xFFFFFFFF00000001;
  ASSERT_EQ(cpu.step({0x0F, 0xA2}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 7u);
  EXPECT_EQ(cpu.gpr[kRbx], 1u);
  EXPECT_EQ(cpu.gpr[kRcx], 0xCCCCCCCCu);
  EXPECT_EQ(cpu.gpr[kRdx], 0xDDDDDDDDu);
  expect_fault(cpu.step({0x0F, 0x33}), kGp);  // rdpmc: there are no counters
}

TEST_F(System, Hypercalls) {
  cpu.gpr[kRax] = 5, cpu.gpr[kRbx] = 4, cpu.gpr[kRcx] = 3, cpu.gpr[kRdx] = 2, cpu.gpr[kRsi] = 1;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xC1}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 54321u);
  cpu.gpr[kRax] = 6;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xD9}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 64321u);
  enter_user(cpu);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xC1}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], ~0ull);
}

TEST_F(System, SegmentBaseInstructions) {
  cpu.gpr[kRbx] = 0xFFFF888012345678;
  ASSERT_EQ(cpu.step({0xF3, 0x48, 0x0F, 0xAE, 0xD3}), Next::kNext);  // wrfsbase rbx
  EXPECT_EQ(cpu.reg(Segment::kFs).base, 0xFFFF888012345678u);
  ASSERT_EQ(cpu.step({0xF3, 0x0F, 0xAE, 0xDB}), Next::kNext);  // wrgsbase ebx
  EXPECT_EQ(cpu.reg(Segment::kGs).base, 0x12345678u);
  ASSERT_EQ(cpu.step({0xF3, 0x0F, 0xAE, 0xC1}), Next::kNext);  // rdfsbase ecx
  EXPECT_EQ(cpu.gpr[kRcx], 0x12345678u);
  cpu.gpr[kRbx] = 0x00FF000000000000;
  expect_fault(cpu.step({0xF3, 0x48, 0x0F, 0xAE, 0xD3}), kGp);
  cpu.cr4 &= ~cr4::kFsgsbase;
  expect_fault(cpu.step({0xF3, 0x48, 0x0F, 0xAE, 0xC3}), kUd);
}

// ---- Segments and tables ------------------------------------------------------------------------

TEST_F(System, MovToAndFromSegments) {
  cpu.gpr[kRbx] = 0x12340000 | selector::kKernelData;
  ASSERT_EQ(cpu.step({0x8E, 0xD3}), Next::kNext);  // mov ss, ebx
  EXPECT_EQ(cpu.interrupt_shadow, 2);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  cpu.gpr[kRbx] = 0;
  cpu.interrupt_shadow = 0;
  ASSERT_EQ(cpu.step({0x8E, 0xDB}), Next::kNext);  // mov ds, ebx
  EXPECT_EQ(cpu.interrupt_shadow, 0);
  EXPECT_FALSE(cpu.reg(Segment::kDs).usable);
  cpu.gpr[kRbx] = ~0ull;
  ASSERT_EQ(cpu.step({0x8C, 0xCB}), Next::kNext);  // mov ebx, cs
  EXPECT_EQ(cpu.gpr[kRbx], selector::kKernelCode);
  cpu.gpr[kRbx] = ~0ull;
  ASSERT_EQ(cpu.step({0x66, 0x8C, 0xCB}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRbx], 0xFFFFFFFFFFFF0000 | selector::kKernelCode);
  cpu.poke<std::uint32_t>(kOperand, ~0u);
  ASSERT_EQ(cpu.step({0x48, 0x8C, 0x08}), Next::kNext);  // mov [rax], cs: two bytes
  EXPECT_EQ(cpu.peek<std::uint32_t>(kOperand), 0xFFFF0000u | selector::kKernelCode);
  expect_fault(cpu.step({0x8E, 0xCB}), kUd);  // mov cs, ebx
}

TEST_F(System, LoadFarPointer) {
  cpu.poke<std::uint64_t>(kOperand, 0x1122334455667788);
  cpu.poke<std::uint16_t>(kOperand + 8, selector::kKernelData);
  ASSERT_EQ(cpu.step({0x48, 0x0F, 0xB2, 0x18}), Next::kNext);  // lss rbx, [rax]
  EXPECT_EQ(cpu.gpr[kRbx], 0x1122334455667788u);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  cpu.poke<std::uint16_t>(kOperand + 4, 0x1000);
  cpu.gpr[kRbx] = 7;
  expect_fault(cpu.step({0x0F, 0xB4, 0x18}), kGp, 0x1000);  // lfs ebx, [rax]
  EXPECT_EQ(cpu.gpr[kRbx], 7u);
}

TEST_F(System, TableRegisters) {
  cpu.poke<std::uint16_t>(kOperand, 0x7F);
  cpu.poke<std::uint64_t>(kOperand + 2, 0xFFFFFFFF82000000);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x10}), Next::kNext);
  EXPECT_EQ(cpu.gdt.base, 0xFFFFFFFF82000000u);
  EXPECT_EQ(cpu.gdt.limit, 0x7F);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x18}), Next::kNext);
  EXPECT_EQ(cpu.idt.base, 0xFFFFFFFF82000000u);
  cpu.poke<std::uint64_t>(kOperand, 0);
  cpu.poke<std::uint64_t>(kOperand + 2, 0);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x00}), Next::kNext);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kOperand), 0x7F);
  EXPECT_EQ(cpu.peek<std::uint64_t>(kOperand + 2), 0xFFFFFFFF82000000u);
  cpu.poke<std::uint64_t>(kOperand + 2, 0x0000800000000000);
  expect_fault(cpu.step({0x0F, 0x01, 0x10}), kGp);
}

TEST_F(System, TaskRegister) {
  cpu.task = {};
  cpu.gpr[kRbx] = selector::kTss;
  ASSERT_EQ(cpu.step({0x0F, 0x00, 0xDB}), Next::kNext);
  EXPECT_EQ(cpu.task.base, place::kTss);
  EXPECT_EQ(cpu.task.limit, 0x67u);
  EXPECT_EQ(cpu.task.attributes, 0x8B);
  EXPECT_EQ(cpu.peek<std::uint64_t>(place::kGdt + selector::kTss),
            system_descriptor(SystemType::kBusyTss, place::kTss, 0x67));
  expect_fault(cpu.step({0x0F, 0x00, 0xDB}), kGp, selector::kTss);  // busy now
  ASSERT_EQ(cpu.step({0x0F, 0x00, 0xC9}), Next::kNext);             // str ecx
  EXPECT_EQ(cpu.gpr[kRcx], selector::kTss);
  for (const std::uint16_t bad :
       {std::uint16_t{0}, selector::kKernelData, std::uint16_t{0x44}, std::uint16_t{0x1000}}) {
    cpu.gpr[kRbx] = bad;
    expect_fault(cpu.step({0x0F, 0x00, 0xDB}), kGp, bad & 0xFFFC);
  }
}

TEST_F(System, TssWhoseSecondHalfIsBeyondTheTable) {
  cpu.poke(place::kGdt + selector::kTss, system_descriptor(SystemType::kTss, place::kTss, 0x67));
  cpu.gdt.limit = selector::kTss + 14;
  cpu.gpr[kRbx] = selector::kTss;
  expect_fault(cpu.step({0x0F, 0x00, 0xDB}), kGp, selector::kTss);
  cpu.gdt.limit = selector::kTss + 15;
  EXPECT_EQ(cpu.step({0x0F, 0x00, 0xDB}), Next::kNext);
}

TEST_F(System, TssAboveFourGigabytesAndAbsent) {
  const auto ltr = [&](std::uint64_t low, std::uint64_t high) {
    cpu.poke(place::kGdt + selector::kTss, low);
    cpu.poke(place::kGdt + selector::kTss + 8, high);
    cpu.gpr[kRbx] = selector::kTss;
    return cpu.step({0x0F, 0x00, 0xDB});
  };
  constexpr std::uint64_t kLow = system_descriptor(SystemType::kTss, 0x12345000, 0x67);
  ASSERT_EQ(ltr(kLow, 0xFFFFFE00), Next::kNext);
  EXPECT_EQ(cpu.task.base, 0xFFFFFE0012345000u);
  expect_fault(ltr(kLow, 0x00010000), kGp, selector::kTss);
  expect_fault(ltr(kLow, 0x1F0000000000), kGp, selector::kTss);
  expect_fault(ltr(kLow & ~kNotPresent, 0), vector::kSegmentNotPresent, selector::kTss);
  expect_fault(ltr(system_descriptor(SystemType::kTss16, 0, 0x67), 0), kGp, selector::kTss);
}

TEST_F(System, LocalDescriptorTable) {
  cpu.poke(place::kGdt + 0xE0, system_descriptor(SystemType::kLdt, place::kLdt, 0xFF));
  cpu.poke(place::kGdt + 0xE8, std::uint64_t{0});
  cpu.gpr[kRbx] = 0xE0;
  ASSERT_EQ(cpu.step({0x0F, 0x00, 0xD3}), Next::kNext);
  EXPECT_TRUE(cpu.ldt.usable);
  EXPECT_EQ(cpu.ldt.base, place::kLdt);
  cpu.gpr[kRbx] = 0;
  ASSERT_EQ(cpu.step({0x0F, 0x00, 0xD3}), Next::kNext);
  EXPECT_FALSE(cpu.ldt.usable);
  cpu.gpr[kRbx] = selector::kTss;
  expect_fault(cpu.step({0x0F, 0x00, 0xD3}), kGp, selector::kTss);
}

TEST_F(System, QuestionsAboutDescriptors) {
  struct {
    std::uint16_t selector;
    bool lar, lsl, verr, verw;
  } const kCases[] = {
      {0, false, false, false, false},
      {0x1000, false, false, false, false},
      {selector::kKernelData, true, true, true, true},
      {selector::kReadOnlyData, true, true, true, false},
      {selector::kKernelCode, true, true, true, false},
      {selector::kKernelCode | 3, false, false, false, false},
      {selector::kConformingCode | 3, true, true, true, false},
      {selector::kTss, true, true, false, false},
  };
  const auto zf = [&](std::initializer_list<std::uint8_t> code) {
    EXPECT_EQ(cpu.step(code), Next::kNext);
    return cpu.status.zf();
  };
  for (const auto& each : kCases) {
    SCOPED_TRACE(each.selector);
    cpu.gpr[kRax] = each.selector;
    cpu.gpr[kRbx] = 0x77;
    EXPECT_EQ(zf({0x0F, 0x02, 0xD8}), each.lar);
    EXPECT_EQ(cpu.gpr[kRbx] != 0x77, each.lar);
    EXPECT_EQ(zf({0x0F, 0x03, 0xD8}), each.lsl);
    EXPECT_EQ(zf({0x0F, 0x00, 0xE0}), each.verr);
    EXPECT_EQ(zf({0x0F, 0x00, 0xE8}), each.verw);
  }
  cpu.gpr[kRax] = selector::kKernelData;
  zf({0x0F, 0x02, 0xD8});
  EXPECT_EQ(cpu.gpr[kRbx], 0x00CF9300u);
  zf({0x0F, 0x03, 0xD8});
  EXPECT_EQ(cpu.gpr[kRbx], 0xFFFFFFFFu);
}

TEST(SystemProtected, AdjustRequestedPrivilege) {
  TestCpu cpu;
  enter_protected_mode(cpu);
  cpu.gpr[kRax] = 0x12340010, cpu.gpr[kRbx] = 3;
  ASSERT_EQ(cpu.step({0x63, 0xD8}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 0x12340013u);
  EXPECT_TRUE(cpu.status.zf());
  ASSERT_EQ(cpu.step({0x63, 0xD8}), Next::kNext);
  EXPECT_FALSE(cpu.status.zf());
}

TEST(SystemProtected, TableOfTwentyFourBits) {
  TestCpu cpu;
  enter_protected_mode(cpu);
  cpu.gpr[kRax] = kOperand;
  cpu.poke<std::uint16_t>(kOperand, 0x7F);
  cpu.poke<std::uint32_t>(kOperand + 2, 0x12345678);
  ASSERT_EQ(cpu.step({0x66, 0x0F, 0x01, 0x10}), Next::kNext);
  EXPECT_EQ(cpu.gdt.base, 0x345678u);
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0x10}), Next::kNext);
  EXPECT_EQ(cpu.gdt.base, 0x12345678u);
}

// ---- The table ----------------------------------------------------------------------------------

TEST(SystemTable, NoOperationTwice) {
  std::set<Op> seen;
  for (const SemanticEntry& entry : system_semantics()) {
    EXPECT_TRUE(seen.insert(entry.op).second) << static_cast<int>(entry.op);
    EXPECT_NE(entry.function, nullptr);
  }
}

}  // namespace
}  // namespace sm::soft
