// What the comparison with the real CPU in 64-bit mode cannot show: 16-bit and 32-bit modes,
// decimal arithmetic, flags at privilege levels, division errors.
#include <gtest/gtest.h>

#include <map>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/integer_test_cpu.h"

namespace sm::soft {
namespace {

using Code = std::initializer_list<std::uint8_t>;

TEST(SemanticTable, NoOperationStandsTwice) {
  std::map<Op, int> seen;
  for (const auto group :
       {move_semantics(), alu_semantics(), multiply_semantics(), shift_semantics(), bit_semantics(),
        atomic_semantics(), decimal_semantics(), stack_semantics(), control_semantics(),
        flag_semantics(), random_semantics(), string_semantics(), port_semantics(),
        system_semantics(), vector_semantics(), x87_semantics()}) {
    for (const SemanticEntry& entry : group) {
      EXPECT_EQ(++seen[entry.op], 1) << static_cast<int>(entry.op);
      EXPECT_NE(entry.function, nullptr);
    }
  }
  for (std::uint16_t op = 0; op < static_cast<std::uint16_t>(Op::kCount); ++op) {
    EXPECT_NE(semantic_of(static_cast<Op>(op)), nullptr);
  }
}

class Modes : public ::testing::Test {
 protected:
  void real() {
    cpu.rip = 0x1000;
    cpu.set(kRsp, 0xFFFF'FFFF'0000'8000);
  }
  void protected16() {
    enter_16bit_protected_mode(cpu);
    cpu.set(kRsp, 0x8000);
  }
  void protected32() { enter_protected_mode(cpu); }
  void long_mode() { enter_long_mode(cpu); }

  void expect_fault(Next next, std::uint8_t vector, std::uint32_t error_code = 0) {
    EXPECT_EQ(next, Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, vector);
    EXPECT_EQ(cpu.fault.error_code, error_code);
  }
  IntegerCpu cpu;
};

// ---- Stack --------------------------------------------------------------------------------------

TEST_F(Modes, SixteenBitStackWrapsAndKeepsTheUpperPart) {
  real();
  cpu.set(kRsp, 0xFFFF'FFFF'0000'0000);
  cpu.set(kRax, 0x1234);
  EXPECT_EQ(cpu.run({0x50}), Next::kNext);  // push ax
  EXPECT_EQ(cpu.gpr[kRsp], 0xFFFF'FFFF'0000'FFFE);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0xFFFE), 0x1234);
  EXPECT_EQ(cpu.run({0x5B}), Next::kNext);  // pop bx
  EXPECT_EQ(cpu.gpr[kRbx] & 0xFFFF, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0xFFFF'FFFF'0000'0000);
}

TEST_F(Modes, WideOperandOnANarrowStack) {
  protected16();
  EXPECT_EQ(cpu.run({0x66, 0x68, 4, 3, 2, 1}), Next::kNext);  // push dword
  EXPECT_EQ(cpu.gpr[kRsp], 0x7FFCu);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0x7FFC), 0x01020304u);
}

TEST_F(Modes, PushaStoresTheOldPointerAndPopaSkipsIt) {
  protected32();
  const std::uint64_t top = cpu.gpr[kRsp];
  for (std::uint8_t reg = 0; reg < 8; ++reg) {
    if (reg != kRsp) cpu.gpr[reg] = 0x100u + reg;
  }
  EXPECT_EQ(cpu.run({0x60}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRsp], top - 32);
  EXPECT_EQ(cpu.peek<std::uint32_t>(top - 4), 0x100u + kRax);
  EXPECT_EQ(cpu.peek<std::uint32_t>(top - 20), static_cast<std::uint32_t>(top));
  EXPECT_EQ(cpu.peek<std::uint32_t>(top - 32), 0x100u + kRdi);
  for (std::uint8_t reg = 0; reg < 8; ++reg) {
    if (reg != kRsp) cpu.gpr[reg] = 0;
  }
  EXPECT_EQ(cpu.run({0x61}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRsp], top);
  EXPECT_EQ(cpu.gpr[kRax], 0x100u + kRax);
  EXPECT_EQ(cpu.gpr[kRsi], 0x100u + kRsi);
}

TEST_F(Modes, PushaWritesAllOrNothing) {
  protected32();
  cpu.set(kRsp, 0x9010);
  cpu.absent.insert(8);
  cpu.poke<std::uint32_t>(0x900C, 0xDEAD);
  EXPECT_EQ(cpu.run({0x60}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0x900C), 0xDEADu);
  EXPECT_EQ(cpu.gpr[kRsp], 0x9010u);
}

TEST_F(Modes, PopAddressesWithTheMovedPointer) {
  protected32();
  cpu.set(kRsp, 0x8000);
  cpu.poke<std::uint32_t>(0x8000, 0xABCD);
  EXPECT_EQ(cpu.run({0x8F, 0x44, 0x24, 0x10}), Next::kNext);  // pop dword [esp+16]
  EXPECT_EQ(cpu.peek<std::uint32_t>(0x8014), 0xABCDu);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8004u);
  cpu.read_only.insert(8);
  expect_fault(cpu.run({0x8F, 0x44, 0x24, 0x10}), vector::kPage, 3);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8004u);
}

TEST_F(Modes, EnterAndLeaveOnASixteenBitStack) {
  protected16();
  cpu.set(kRbp, 0x9000);
  cpu.poke<std::uint16_t>(0x8FFE, 0x1111);
  EXPECT_EQ(cpu.run({0xC8, 0x20, 0x00, 0x02}), Next::kNext);  // enter 32, 2
  EXPECT_EQ(cpu.gpr[kRbp], 0x7FFEu);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7FFEu - 4 - 0x20);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x7FFE), 0x9000);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x7FFC), 0x1111);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x7FFA), 0x7FFE);
  EXPECT_EQ(cpu.run({0xC9}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRbp], 0x9000u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8000u);
}

TEST_F(Modes, PopOfTheStackSegmentCastsAShadow) {
  protected32();
  cpu.poke<std::uint32_t>(place::kKernelStack, selector::kKernelData);
  EXPECT_EQ(cpu.run({0x17}), Next::kNext);  // pop ss
  EXPECT_EQ(cpu.interrupt_shadow, 2);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack + 4);
  cpu.poke<std::uint32_t>(place::kKernelStack + 4, selector::kNotPresentData);
  expect_fault(cpu.run({0x1F}), vector::kSegmentNotPresent, selector::kNotPresentData);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack + 4);
}

// ---- Flags --------------------------------------------------------------------------------------

TEST_F(Modes, PopfObeysPrivilege) {
  protected32();
  constexpr std::uint32_t kAll = 0x00247FD7;
  cpu.poke<std::uint32_t>(place::kKernelStack, kAll);
  EXPECT_EQ(cpu.run({0x9D}), Next::kNext);
  EXPECT_TRUE(cpu.flag(eflags::kIf));
  EXPECT_EQ(cpu.rflags() & eflags::kIopl, eflags::kIopl);
  EXPECT_TRUE(cpu.called("ac 1"));
  EXPECT_NE(cpu.attention.load() & kAttentionInterrupt, 0u);
  EXPECT_NE(cpu.attention.load() & kAttentionSingle, 0u);

  cpu.set_rflags(eflags::kIf);
  enter_user(cpu);
  cpu.poke<std::uint32_t>(place::kUserStack, kAll & ~eflags::kIf);
  EXPECT_EQ(cpu.run({0x9D}), Next::kNext);
  EXPECT_TRUE(cpu.flag(eflags::kIf));
  EXPECT_EQ(cpu.rflags() & eflags::kIopl, 0u);
  EXPECT_TRUE(cpu.flag(eflags::kDf));
}

TEST_F(Modes, PopfOfSixteenBitsKeepsTheRest) {
  protected32();
  cpu.set_rflags(eflags::kId | eflags::kAc);
  cpu.poke<std::uint16_t>(place::kKernelStack, 0xFFFF & ~eflags::kTf);
  EXPECT_EQ(cpu.run({0x66, 0x9D}), Next::kNext);
  EXPECT_TRUE(cpu.flag(eflags::kId));
  EXPECT_TRUE(cpu.flag(eflags::kAc));
  EXPECT_TRUE(cpu.flag(eflags::kNt));
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack + 2);
}

TEST_F(Modes, Virtual8086ModeGuardsTheFlags) {
  real();
  cpu.cr0 |= 1;
  cpu.cpl = 3;
  cpu.set_rflags(eflags::kVm);
  expect_fault(cpu.run({0x9C}), vector::kProtection);
  expect_fault(cpu.run({0x9D}), vector::kProtection);
  cpu.set_rflags(eflags::kVm | eflags::kIopl);
  EXPECT_EQ(cpu.run({0x9C}), Next::kNext);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x7FFE) & eflags::kIopl, eflags::kIopl);
}

// ---- Branches -----------------------------------------------------------------------------------

TEST_F(Modes, BranchesWrapAt64KiB) {
  real();
  cpu.rip = 0xFFF0;
  EXPECT_EQ(cpu.run({0xEB, 0x20}), Next::kJump);  // jmp +0x20
  EXPECT_EQ(cpu.rip, 0x12u);
}

TEST_F(Modes, OperandSizeTruncatesTheTarget) {
  protected32();
  cpu.rip = 0x12345;
  EXPECT_EQ(cpu.run({0x66, 0xE9, 0x00, 0x10}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x3349u);
  cpu.set(kRax, 0xFFFF'FFFF'0001'0000);
  EXPECT_EQ(cpu.run({0xFF, 0xE0}), Next::kJump);  // jmp eax
  EXPECT_EQ(cpu.rip, 0x10000u);
}

TEST_F(Modes, TargetsObeyTheCodeLimit) {
  protected16();
  cpu.reg(Segment::kCs).limit = 0x1FFF;
  cpu.set(kRax, 0x2000);
  expect_fault(cpu.run({0xFF, 0xD0}), vector::kProtection);  // call ax
  EXPECT_EQ(cpu.gpr[kRsp], 0x8000u);
  EXPECT_EQ(cpu.rip, 0x1000u);
  cpu.set(kRcx, 0);
  cpu.rip = 0x1FF0;
  expect_fault(cpu.run({0xE3, 0x7E}), vector::kProtection);  // jcxz
}

TEST_F(Modes, CountersFollowTheAddressSize) {
  protected32();
  cpu.set(kRcx, 0x1'0000);
  const std::uint64_t rip = cpu.rip;
  EXPECT_EQ(cpu.run({0x67, 0xE3, 0x10}), Next::kJump);  // jcxz: cx is 0
  EXPECT_EQ(cpu.rip, rip + 3 + 0x10);
  EXPECT_EQ(cpu.run({0xE3, 0x10}), Next::kNext);  // jecxz is not
  cpu.set(kRcx, 0x1'0001);
  EXPECT_EQ(cpu.run({0x67, 0xE2, 0x10}), Next::kNext);  // loop with cx: over
  EXPECT_EQ(cpu.gpr[kRcx], 0x1'0000u);
  EXPECT_EQ(cpu.run({0xE2, 0x10}), Next::kJump);  // loop with ecx
  EXPECT_EQ(cpu.gpr[kRcx], 0xFFFFu);
}

TEST_F(Modes, LongModeTargetsAreCanonical) {
  long_mode();
  const std::uint64_t rsp = cpu.gpr[kRsp];
  cpu.set(kRax, 0x0000'8000'0000'0000);
  for (const Code& text : {Code{0xFF, 0xE0}, Code{0xFF, 0xD0}}) {  // jmp, call
    expect_fault(cpu.run(text), vector::kProtection);
    EXPECT_EQ(cpu.gpr[kRsp], rsp);
  }
  cpu.poke(rsp, cpu.gpr[kRax]);
  expect_fault(cpu.run({0xC3}), vector::kProtection);
  EXPECT_EQ(cpu.gpr[kRsp], rsp);
  EXPECT_EQ(cpu.rip, place::kKernelCode);
}

TEST_F(Modes, RetReleasesArguments) {
  protected16();
  cpu.poke<std::uint16_t>(0x8000, 0x4321);
  EXPECT_EQ(cpu.run({0xC2, 0x06, 0x00}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x4321u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8008u);
}

TEST_F(Modes, IntoReturnsBehindItself) {
  protected32();
  EXPECT_EQ(cpu.run({0xCE}), Next::kNext);
  cpu.status = StatusFlags::from_eflags(eflags::kOf);
  const std::uint64_t rip = cpu.rip;
  EXPECT_EQ(cpu.run({0xCE}), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kOverflow));
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp]), rip + 1);
}

TEST_F(Modes, BoundIsSignedAndInclusive) {
  protected32();
  cpu.poke<std::int32_t>(0x5000, -5);
  cpu.poke<std::int32_t>(0x5004, 10);
  cpu.set(kRbx, 0x5000);
  for (const std::int32_t inside : {-5, 0, 10}) {
    cpu.set(kRax, static_cast<std::uint32_t>(inside));
    EXPECT_EQ(cpu.run({0x62, 0x03}), Next::kNext) << inside;
  }
  for (const std::int32_t outside : {-6, 11}) {
    cpu.set(kRax, static_cast<std::uint32_t>(outside));
    expect_fault(cpu.run({0x62, 0x03}), vector::kBound);
  }
}

TEST_F(Modes, ArplRaisesThePrivilegeLevel) {
  protected32();
  cpu.set(kRax, 0xFFFF'0011);
  cpu.set(kRcx, 0x0003);
  EXPECT_EQ(cpu.run({0x63, 0xC8}), Next::kNext);  // arpl ax, cx
  EXPECT_EQ(cpu.gpr[kRax], 0xFFFF'0013u);
  EXPECT_TRUE(cpu.status.zf());
  EXPECT_EQ(cpu.run({0x63, 0xC8}), Next::kNext);
  EXPECT_FALSE(cpu.status.zf());
  IntegerCpu real;
  EXPECT_EQ(real.run({0x63, 0xC8}), Next::kAborted);
  EXPECT_EQ(real.fault.vector, vector::kUndefined);
}

// ---- Decimal ------------------------------------------------------------------------------------

struct Decimal {
  const char* name;
  Code text;
  std::uint16_t ax;
  std::uint32_t flags;
  std::uint16_t ax_after;
  bool af_after, cf_after;
};

TEST_F(Modes, DecimalAdjustments) {
  protected32();
  constexpr std::uint32_t kAf = eflags::kAf, kCf = eflags::kCf;
  const Decimal cases[] = {
      {"daa 79+35", {0x27}, 0x00AE, 0, 0x0014, true, true},
      {"daa keeps digits", {0x27}, 0x0042, 0, 0x0042, false, false},
      {"daa after carry", {0x27}, 0x0010, kCf, 0x0070, false, true},
      {"daa after half carry", {0x27}, 0x0012, kAf, 0x0018, true, false},
      {"daa 99", {0x27}, 0x009A, 0, 0x0000, true, true},
      {"das 35-47", {0x2F}, 0x00EE, kCf | kAf, 0x0088, true, true},
      {"das borrows", {0x2F}, 0x0005, kAf, 0x00FF, true, true},
      {"das keeps digits", {0x2F}, 0x0042, 0, 0x0042, false, false},
      {"aaa carries", {0x37}, 0x010B, 0, 0x0201, true, true},
      {"aaa keeps a digit", {0x37}, 0x0135, 0, 0x0105, false, false},
      {"aaa wraps", {0x37}, 0x00FF, kAf, 0x0205, true, true},
      {"aas borrows", {0x3F}, 0x020F, 0, 0x0109, true, true},
      {"aas keeps a digit", {0x3F}, 0x0235, 0, 0x0205, false, false},
      {"aam", {0xD4, 0x0A}, 0x0063, 0, 0x0909, false, false},
      {"aam by 16", {0xD4, 0x10}, 0x12A7, 0, 0x0A07, false, false},
      {"aad", {0xD5, 0x0A}, 0x0907, 0, 0x0061, true, false},
  };
  for (const Decimal& test : cases) {
    cpu.set(kRax, test.ax);
    cpu.set_rflags(test.flags);
    EXPECT_EQ(cpu.run(test.text), Next::kNext) << test.name;
    EXPECT_EQ(cpu.gpr[kRax], test.ax_after) << test.name;
    EXPECT_EQ(cpu.flag(eflags::kAf), test.af_after) << test.name;
    EXPECT_EQ(cpu.flag(eflags::kCf), test.cf_after) << test.name;
  }
  expect_fault(cpu.run({0xD4, 0x00}), vector::kDivide);
  cpu.status = StatusFlags::from_eflags(eflags::kCf);
  EXPECT_EQ(cpu.run({0xD6}), Next::kNext);  // salc
  EXPECT_EQ(cpu.gpr[kRax] & 0xFF, 0xFFu);
}

// ---- Division -----------------------------------------------------------------------------------

struct Division {
  Code text;  // div or idiv by rcx
  std::uint64_t rdx, rax, rcx;
};

TEST_F(Modes, DivisionErrorsChangeNothing) {
  long_mode();
  constexpr std::uint64_t kMin64 = 1ull << 63;
  const Division cases[] = {
      {{0xF6, 0xF1}, 0, 0x1234, 0},                  // div cl by 0
      {{0xF6, 0xF1}, 0, 0x0200, 2},                  // 0x200 / 2 does not fit 8 bits
      {{0xF6, 0xF9}, 0, 0x0080, 1},                  // idiv cl: 128 / 1
      {{0xF6, 0xF9}, 0, 0xFF80, 0xFF},               // -128 / -1
      {{0x66, 0xF7, 0xF9}, 0xFFFF, 0x8000, 0xFFFF},  // -32768 / -1
      {{0xF7, 0xF9}, 0xFFFFFFFF, 0x80000000, 0xFFFFFFFF},
      {{0xF7, 0xF1}, 5, 0, 5},
      {{0x48, 0xF7, 0xF9}, ~0ull, kMin64, ~0ull},
      {{0x48, 0xF7, 0xF9}, kMin64, 0, 1},
      {{0x48, 0xF7, 0xF1}, 7, 0, 7},
      {{0x48, 0xF7, 0xF1}, 0, 0, 0},
  };
  for (const Division& test : cases) {
    cpu.set(kRax, test.rax);
    cpu.set(kRdx, test.rdx);
    cpu.set(kRcx, test.rcx);
    expect_fault(cpu.run(test.text), vector::kDivide);
    EXPECT_EQ(cpu.gpr[kRax], test.rax);
    EXPECT_EQ(cpu.gpr[kRdx], test.rdx);
  }
  cpu.set(kRax, kMin64);  // the largest quotient that fits
  cpu.set(kRdx, ~0ull);
  cpu.set(kRcx, 1);
  EXPECT_EQ(cpu.run({0x48, 0xF7, 0xF9}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], kMin64);
  EXPECT_EQ(cpu.gpr[kRdx], 0u);
}

TEST_F(Modes, RandomNumbersDiffer) {
  long_mode();
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xC7, 0xF0}), Next::kNext);  // rdrand rax
  EXPECT_TRUE(cpu.status.cf());
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xC7, 0xFB}), Next::kNext);  // rdseed rbx
  EXPECT_TRUE(cpu.status.cf());
  EXPECT_NE(cpu.gpr[kRax], cpu.gpr[kRbx]);
}

}  // namespace
}  // namespace sm::soft
