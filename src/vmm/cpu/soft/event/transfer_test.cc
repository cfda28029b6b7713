// IRET, far transfers, SYSCALL and SYSENTER.
#include <gtest/gtest.h>

#include <functional>

#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/event/far_transfer.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/returns.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/event/test_cpu.h"

namespace sm::soft {
namespace {

struct LongFrame {
  std::uint64_t rip, cs, rflags, rsp, ss;
};
constexpr LongFrame kToUser = {place::kUserCode, selector::kUserCode, 0x2 | eflags::kIf,
                               place::kUserStack, selector::kUserData};

class LongReturn : public ::testing::Test {
 protected:
  LongReturn() { enter_long_mode(cpu); }
  Next iretq(const LongFrame& frame) {
    cpu.gpr[kRsp] = place::kKernelStack - sizeof frame;
    cpu.poke(cpu.gpr[kRsp], frame);
    return cpu.step({0x48, 0xCF});
  }
  void expect_fault(std::uint8_t vector, std::uint32_t error_code) {
    EXPECT_EQ(cpu.fault.vector, vector);
    EXPECT_EQ(cpu.fault.error_code, error_code);
    EXPECT_EQ(cpu.rip, place::kKernelCode);
    EXPECT_EQ(cpu.cpl, 0);
    EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - sizeof(LongFrame));
    EXPECT_TRUE(cpu.calls.empty());
  }
  TestCpu cpu;
};

TEST_F(LongReturn, ToUser) {
  ASSERT_EQ(iretq(kToUser), Next::kJump);
  EXPECT_EQ(cpu.rip, place::kUserCode);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.gpr[kRsp], place::kUserStack);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kUserData);
  EXPECT_EQ(cpu.rflags(), kToUser.rflags);
  EXPECT_FALSE(cpu.reg(Segment::kDs).usable) << "the kernel's data segment";
  EXPECT_TRUE(cpu.called("cpl 3"));
  EXPECT_NE(cpu.attention.load() & kAttentionInterrupt, 0u);
}

TEST_F(LongReturn, UndoesDelivery) {
  enter_user(cpu);
  cpu.set_rflags(0x2 | eflags::kIf | eflags::kCf | eflags::kDf);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  ASSERT_EQ(cpu.step({0x48, 0xCF}), Next::kJump);
  EXPECT_EQ(cpu.rip, place::kUserCode);
  EXPECT_EQ(cpu.gpr[kRsp], place::kUserStack);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.rflags(), 0x2 | eflags::kIf | eflags::kCf | eflags::kDf);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kUserData);
  EXPECT_TRUE(cpu.reg(Segment::kDs).usable);
}

TEST_F(LongReturn, SameRingTakesRspAndAllowsANullSs) {
  ASSERT_EQ(iretq({0xFFFFFFFF81000000, selector::kKernelCode, 2, 0x7123, 0}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0xFFFFFFFF81000000u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7123u);
  EXPECT_FALSE(cpu.reg(Segment::kSs).usable);
  EXPECT_TRUE(cpu.reg(Segment::kDs).usable);
}

TEST_F(LongReturn, ToCompatibilityMode) {
  ASSERT_EQ(iretq({0x1'0000'1234, selector::kUserCode32, 2, 0x1'0000'C000, selector::kUserData}),
            Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0xC000u);
}

// A handler of an instruction breakpoint returns with RF set, or it would never get past it.
TEST_F(LongReturn, LoadsRfWhileABreakpointIsArmed) {
  cpu.dr7 |= 1;
  LongFrame frame = kToUser;
  frame.rflags |= eflags::kRf;
  ASSERT_EQ(iretq(frame), Next::kJump);
  EXPECT_NE(cpu.other_flags & eflags::kRf, 0u);
  EXPECT_NE(cpu.attention.load() & kAttentionSingle, 0u);
}

TEST_F(LongReturn, UnmasksNmis) {
  cpu.nmi_masked = true;
  ASSERT_EQ(iretq(kToUser), Next::kJump);
  EXPECT_FALSE(cpu.nmi_masked);
}

TEST_F(LongReturn, RefusedTargets) {
  struct {
    std::uint64_t LongFrame::*field;
    std::uint64_t value;
    std::uint8_t vector;
    std::uint32_t error_code;
  } const kCases[] = {
      {&LongFrame::cs, 0, vector::kProtection, 0},
      {&LongFrame::cs, 3, vector::kProtection, 0},
      {&LongFrame::cs, 0x1003, vector::kProtection, 0x1000},
      {&LongFrame::cs, selector::kUserData, vector::kProtection, selector::kUserData & ~3u},
      {&LongFrame::cs, selector::kKernelCode | 3, vector::kProtection, selector::kKernelCode},
      {&LongFrame::cs, selector::kUserCode & ~3u, vector::kProtection, selector::kUserCode & ~3u},
      {&LongFrame::cs, selector::kTss | 3, vector::kProtection, selector::kTss},
      {&LongFrame::ss, 0, vector::kProtection, 0},
      {&LongFrame::ss, 3, vector::kProtection, 0},
      {&LongFrame::ss, selector::kKernelData | 3, vector::kProtection, selector::kKernelData},
      {&LongFrame::ss, selector::kUserData & ~3u, vector::kProtection, selector::kUserData & ~3u},
      {&LongFrame::rip, 0x0000800000000000, vector::kProtection, 0},
  };
  for (const auto& each : kCases) {
    LongFrame frame = kToUser;
    frame.*each.field = each.value;
    EXPECT_EQ(iretq(frame), Next::kAborted) << std::hex << each.value;
    SCOPED_TRACE(each.value);
    expect_fault(each.vector, each.error_code);
  }
}

TEST_F(LongReturn, AbsentSegments) {
  cpu.poke(place::kGdt + 0xE0, with_dpl(kCode64, 3) & ~kNotPresent);
  cpu.poke(place::kGdt + 0xE8, with_dpl(kData, 3) & ~kNotPresent);
  LongFrame frame = kToUser;
  frame.cs = 0xE3;
  EXPECT_EQ(iretq(frame), Next::kAborted);
  expect_fault(vector::kSegmentNotPresent, 0xE0);
  frame = kToUser;
  frame.ss = 0xEB;
  EXPECT_EQ(iretq(frame), Next::kAborted);
  expect_fault(vector::kStack, 0xE8);
}

TEST_F(LongReturn, CodeWithLAndDIsReserved) {
  cpu.poke(place::kGdt + 0xE0, with_dpl(kCode64, 3) | 1ull << 54);
  LongFrame frame = kToUser;
  frame.cs = 0xE3;
  EXPECT_EQ(iretq(frame), Next::kAborted);
  expect_fault(vector::kProtection, 0xE0);
}

TEST_F(LongReturn, NestedTaskIsRefused) {
  cpu.set_rflags(eflags::kNt);
  EXPECT_EQ(iretq(kToUser), Next::kAborted);
  expect_fault(vector::kProtection, 0);
}

TEST_F(LongReturn, UserCannotRaiseItself) {
  enter_user(cpu);
  cpu.gpr[kRsp] = place::kUserStack;
  cpu.poke(place::kUserStack,
           LongFrame{0x1234, selector::kKernelCode, 2, place::kUserStack, selector::kUserData});
  EXPECT_EQ(cpu.step({0x48, 0xCF}), Next::kAborted);
  EXPECT_EQ(cpu.fault.error_code, selector::kKernelCode);
  // Nor its IOPL or IF.
  cpu.poke(place::kUserStack,
           LongFrame{0x1234, selector::kUserCode, 0xFFFFFFFF & ~std::uint64_t{eflags::kTf},
                     place::kUserStack, selector::kUserData});
  EXPECT_EQ(cpu.step({0x48, 0xCF}), Next::kJump);
  EXPECT_EQ(cpu.rflags(),
            2 | eflags::kStatus | eflags::kDf | eflags::kNt | eflags::kAc | eflags::kId);
}

TEST_F(LongReturn, FrameOnAnAbsentPage) {
  cpu.absent.insert(7);
  EXPECT_EQ(iretq(kToUser), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.rip, place::kKernelCode);
}

// ---- Protected mode

class ShortReturn : public ::testing::Test {
 protected:
  ShortReturn() { enter_protected_mode(cpu); }
  void push(std::initializer_list<std::uint32_t> values) {
    std::uint64_t at = cpu.gpr[kRsp] = 0x7000;
    for (const std::uint32_t value : values) {
      cpu.poke(at, value);
      at += 4;
    }
  }
  TestCpu cpu;
};

TEST_F(ShortReturn, SameRingPopsThree) {
  push({0x1234, selector::kKernelCode, 2 | eflags::kIf});
  ASSERT_EQ(cpu.step({0xCF}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x700Cu);
}

TEST_F(ShortReturn, OuterRingPopsFive) {
  push({0x1234, selector::kUserCode, 2 | eflags::kIf, 0xC000, selector::kUserData});
  ASSERT_EQ(cpu.step({0xCF}), Next::kJump);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.gpr[kRsp], 0xC000u);
  EXPECT_FALSE(cpu.reg(Segment::kDs).usable);
}

TEST_F(ShortReturn, SixteenBitOperand) {
  cpu.gpr[kRsp] = 0x7000;
  cpu.poke<std::uint16_t>(0x7000, 0x1234);
  cpu.poke<std::uint16_t>(0x7002, selector::kKernelCode);
  cpu.poke<std::uint16_t>(0x7004, 2);
  cpu.other_flags = eflags::kAc;
  ASSERT_EQ(cpu.step({0x66, 0xCF}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7006u);
  EXPECT_EQ(cpu.rflags(), 2 | eflags::kAc) << "the upper half of EFLAGS stays";
}

TEST_F(ShortReturn, LimitOfTheTarget) {
  push({0x20000, selector::kCode16, 2});
  EXPECT_EQ(cpu.step({0xCF}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_EQ(cpu.fault.error_code, 0u);
}

TEST_F(ShortReturn, NoVirtual8086AndNoTasks) {
  push({0x1234, selector::kKernelCode, 2 | eflags::kVm, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(cpu.step({0xCF}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  cpu.other_flags = eflags::kNt;
  push({0x1234, selector::kKernelCode, 2});
  EXPECT_EQ(cpu.step({0xCF}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

// ---- Far JMP, CALL, RET

TEST_F(ShortReturn, FarCallAndReturn) {
  ASSERT_EQ(cpu.step({0x9A, 0x78, 0x56, 0x34, 0x00, 0x70, 0x00}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x345678u);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kKernelCode32);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 8);
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp]), place::kKernelCode + 7);
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp] + 4), selector::kKernelCode);
  ASSERT_EQ(far_return(cpu, 4, 16), Next::kJump);
  EXPECT_EQ(cpu.rip, place::kKernelCode + 7);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack + 16);
}

TEST_F(ShortReturn, FarReturnToAnOuterRing) {
  push({0x1234, selector::kUserCode, 0xAAAA, 0xBBBB, 0xC000, selector::kUserData});
  ASSERT_EQ(cpu.step({0xCA, 0x08, 0x00}), Next::kJump);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0xC008u);
  EXPECT_FALSE(cpu.reg(Segment::kDs).usable);
}

TEST_F(ShortReturn, CallGateCopiesParameters) {
  cpu.poke(place::kGdt + selector::kCallGate,
           gate_descriptor(SystemType::kCallGate, selector::kKernelCode, 0x123456, 3, 2));
  enter_user(cpu);
  cpu.poke<std::uint32_t>(place::kUserStack, 0x1111);
  cpu.poke<std::uint32_t>(place::kUserStack + 4, 0x2222);
  ASSERT_EQ(far_call(cpu, {0, selector::kCallGate | 3}, 4, 0x777), Next::kJump);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.rip, 0x123456u);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 24);
  const std::uint32_t kFrame[] = {0x777,  selector::kUserCode, 0x1111,
                                  0x2222, place::kUserStack,   selector::kUserData};
  for (unsigned i = 0; i < 6; ++i) {
    EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp] + i * 4), kFrame[i]) << i;
  }
  ASSERT_EQ(far_return(cpu, 4, 8), Next::kJump);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.gpr[kRsp], place::kUserStack + 8);
}

TEST_F(ShortReturn, JumpThroughAGateCannotChangeTheRing) {
  cpu.poke(place::kGdt + selector::kCallGate,
           gate_descriptor(SystemType::kCallGate, selector::kKernelCode, 0x123456, 3));
  EXPECT_EQ(far_jump(cpu, {0, selector::kCallGate}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x123456u);
  enter_user(cpu);
  EXPECT_EQ(far_jump(cpu, {0, selector::kCallGate | 3}), Next::kAborted);
  EXPECT_EQ(cpu.fault.error_code, selector::kKernelCode);
}

TEST_F(ShortReturn, NoTaskSwitches) {
  EXPECT_EQ(far_jump(cpu, {0, selector::kTss}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_EQ(cpu.fault.error_code, selector::kTss);
}

class LongTransfer : public LongReturn {};

TEST_F(LongTransfer, CallGateTakesRsp0) {
  cpu.poke(place::kGdt + selector::kCallGate,
           gate_descriptor(SystemType::kCallGate, selector::kKernelCode, 0x81234560, 3));
  cpu.poke(place::kGdt + selector::kCallGate + 8, std::uint64_t{0xFFFFFFFF});
  enter_user(cpu);
  ASSERT_EQ(far_call(cpu, {0, selector::kCallGate | 3}, 4, 0x777), Next::kJump);
  EXPECT_EQ(cpu.rip, 0xFFFFFFFF81234560u);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, 0);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 32);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), 0x777u);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp] + 8), selector::kUserCode);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp] + 16), place::kUserStack);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp] + 24), selector::kUserData);
}

TEST_F(LongTransfer, CallGateChecks) {
  const auto gate = [&](std::uint64_t low, std::uint64_t high = 0) {
    cpu.poke(place::kGdt + selector::kCallGate, low);
    cpu.poke(place::kGdt + selector::kCallGate + 8, high);
    return far_call(cpu, {0, selector::kCallGate | 3}, 8, 0x777);
  };
  constexpr auto kGood = gate_descriptor(SystemType::kCallGate, selector::kKernelCode, 0x1234, 3);
  enter_user(cpu);
  EXPECT_EQ(gate(with_dpl(kGood, 2)), Next::kAborted);
  EXPECT_EQ(cpu.fault.error_code, selector::kCallGate);
  enter_long_mode(cpu);  // ring 0 that asks with the rights of ring 3
  EXPECT_EQ(gate(with_dpl(kGood, 2)), Next::kAborted);
  EXPECT_EQ(cpu.fault.error_code, selector::kCallGate);
  enter_user(cpu);
  EXPECT_EQ(gate(kGood & ~kNotPresent), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kSegmentNotPresent);
  EXPECT_EQ(gate(kGood, 1ull << 40), Next::kAborted) << "type in the second half";
  EXPECT_EQ(cpu.fault.error_code, selector::kCallGate);
  EXPECT_EQ(gate(gate_descriptor(SystemType::kCallGate, selector::kKernelCode32, 0, 3)),
            Next::kAborted);
  EXPECT_EQ(cpu.fault.error_code, selector::kKernelCode32);
  EXPECT_EQ(gate(kGood, 0x8000), Next::kAborted) << "not canonical";
  EXPECT_EQ(cpu.fault.error_code, 0u);
  EXPECT_EQ(gate(kGood), Next::kJump);
}

TEST_F(LongTransfer, JumpThroughMemoryToCompatibilityMode) {
  cpu.poke<std::uint64_t>(0x5000, 0x70'1234'5678);  // m16:32
  cpu.poke<std::uint16_t>(0x5004, selector::kKernelCode32);
  cpu.gpr[kRax] = 0x5000;
  ASSERT_EQ(cpu.step({0xFF, 0x28}), Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.rip, 0x12345678u);
}

TEST_F(LongTransfer, JumpThroughMemoryOfSixtyFourBits) {
  cpu.poke<std::uint64_t>(0x5000, 0xFFFFFFFF81000000);
  cpu.poke<std::uint16_t>(0x5008, selector::kKernelCode);
  cpu.gpr[kRax] = 0x5000;
  ASSERT_EQ(cpu.step({0x48, 0xFF, 0x28}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0xFFFFFFFF81000000u);
  cpu.rip = place::kKernelCode;
  cpu.poke<std::uint64_t>(0x5000, 0x00FF000000000000);
  EXPECT_EQ(cpu.step({0x48, 0xFF, 0x28}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

TEST_F(LongTransfer, ReturnToTheKernelsOwnCode) {  // lretq, as the kernel reloads CS
  cpu.gpr[kRsp] = 0x7000;
  cpu.poke<std::uint64_t>(0x7000, 0xFFFFFFFF81000000);
  cpu.poke<std::uint64_t>(0x7008, selector::kKernelCode);
  ASSERT_EQ(cpu.step({0x48, 0xCB}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0xFFFFFFFF81000000u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7010u);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
}

TEST_F(LongTransfer, DirectTargets) {
  struct {
    std::uint16_t selector;
    std::uint8_t vector;
    std::uint32_t error_code;
  } const kCases[] = {
      {0, vector::kProtection, 0},
      {selector::kKernelData, vector::kProtection, selector::kKernelData},
      {selector::kKernelCode | 3, vector::kProtection, selector::kKernelCode},
      {selector::kUserCode, vector::kProtection, selector::kUserCode & ~3u},
      {selector::kNotPresentCode, vector::kSegmentNotPresent, selector::kNotPresentCode},
      {0xFFF8, vector::kProtection, 0xFFF8},
  };
  for (const auto& each : kCases) {
    EXPECT_EQ(far_jump(cpu, {0, each.selector}), Next::kAborted) << each.selector;
    EXPECT_EQ(cpu.fault.vector, each.vector) << each.selector;
    EXPECT_EQ(cpu.fault.error_code, each.error_code) << each.selector;
  }
  enter_user(cpu);
  EXPECT_EQ(far_jump(cpu, {0x1234, selector::kConformingCode}), Next::kJump);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kConformingCode | 3);
}

TEST_F(LongTransfer, FailedCallChangesNothing) {
  cpu.absent.insert(7);
  EXPECT_EQ(far_call(cpu, {0x1234, selector::kKernelCode}, 8, 0x777), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.rip, place::kKernelCode);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack);
}

TEST(RealTransfer, JumpCallAndReturn) {
  TestCpu cpu;
  cpu.rip = 0x7C00;
  cpu.gpr[kRsp] = 0x7000;
  ASSERT_EQ(cpu.step({0xEA, 0x34, 0x12, 0x00, 0x10}), Next::kJump);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x10000u);
  EXPECT_EQ(cpu.rip, 0x1234u);
  ASSERT_EQ(cpu.step({0x9A, 0x78, 0x56, 0x00, 0x20}), Next::kJump);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x20000u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x6FFCu);
  ASSERT_EQ(cpu.step({0xCB}), Next::kJump);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x10000u);
  EXPECT_EQ(cpu.rip, 0x1239u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7000u);
}

TEST(RealTransfer, OffsetBeyondTheSegment) {
  TestCpu cpu;
  EXPECT_EQ(cpu.step({0x66, 0xEA, 0, 0, 1, 0, 0x00, 0x10}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

// ---- SYSCALL, SYSRET

class FastCall : public LongReturn {};

TEST_F(FastCall, RoundTrip) {
  enter_user(cpu);
  cpu.set_rflags(0x2 | eflags::kIf | eflags::kDf | eflags::kAc | eflags::kCf);
  const std::uint64_t flags = cpu.rflags();
  ASSERT_EQ(cpu.step({0x0F, 0x05}), Next::kJump);
  EXPECT_EQ(cpu.rip, cpu.lstar);
  EXPECT_EQ(cpu.gpr[kRcx], place::kUserCode + 2);
  EXPECT_EQ(cpu.gpr[kR11], flags);
  EXPECT_EQ(cpu.rflags(), 2 | eflags::kCf);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.gpr[kRsp], place::kUserStack);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kKernelCode);
  EXPECT_EQ(cpu.reg(Segment::kCs).attributes, 0xA09B);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  EXPECT_EQ(cpu.reg(Segment::kSs).attributes, 0xC093);
  EXPECT_TRUE(cpu.called("cpl 0"));
  EXPECT_TRUE(cpu.called("ac 0"));

  cpu.calls.clear();
  ASSERT_EQ(cpu.step({0x48, 0x0F, 0x07}), Next::kJump);
  EXPECT_EQ(cpu.rip, place::kUserCode + 2);
  EXPECT_EQ(cpu.rflags(), flags);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kUserCode);
  EXPECT_EQ(cpu.reg(Segment::kCs).attributes, 0xA0FB);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kUserData);
  EXPECT_EQ(cpu.reg(Segment::kSs).attributes, 0xC0F3);
  EXPECT_TRUE(cpu.called("cpl 3"));
  EXPECT_TRUE(cpu.called("ac 1"));
}

TEST_F(FastCall, RfIsNotSaved) {
  enter_user(cpu);
  cpu.dr7 |= 1;
  cpu.set_rflags(2 | eflags::kRf);
  ASSERT_EQ(cpu.step({0x0F, 0x05}), Next::kJump);
  EXPECT_EQ(cpu.gpr[kR11], 2u);
  EXPECT_EQ(cpu.rflags(), 2u);
}

TEST_F(FastCall, ReturnTo32BitCode) {
  cpu.gpr[kRcx] = 0xFFFFFFFF12345678;
  cpu.gpr[kR11] = 2;
  ASSERT_EQ(cpu.step({0x0F, 0x07}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x12345678u);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kUserCode32);
}

TEST_F(FastCall, SysretRefuses) {
  cpu.gpr[kRcx] = 0x0000800000000000;
  EXPECT_EQ(cpu.step({0x48, 0x0F, 0x07}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_EQ(cpu.cpl, 0);
  enter_user(cpu);
  EXPECT_EQ(cpu.step({0x48, 0x0F, 0x07}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

TEST_F(FastCall, UndefinedWithoutSceAndOutside64BitMode) {
  cpu.efer &= ~efer::kSce;
  EXPECT_EQ(cpu.step({0x0F, 0x05}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kUndefined);
  cpu.efer |= efer::kSce;
  set_code_segment(cpu, segment_register({.low = kCode32}, selector::kKernelCode32), 0);
  EXPECT_EQ(cpu.step({0x0F, 0x05}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kUndefined);
}

TEST_F(FastCall, SysenterAndSysexit) {
  cpu.sysenter_cs = 0x10;
  cpu.sysenter_esp = 0xFFFF888000001000;
  cpu.sysenter_eip = 0xFFFFFFFF81000000;
  enter_user(cpu);
  cpu.set_rflags(2 | eflags::kIf);
  ASSERT_EQ(cpu.step({0x0F, 0x34}), Next::kJump);
  EXPECT_EQ(cpu.rip, cpu.sysenter_eip);
  EXPECT_EQ(cpu.gpr[kRsp], cpu.sysenter_esp);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.rflags(), 2u);
  cpu.gpr[kRcx] = 0x1'0000'C000;
  cpu.gpr[kRdx] = 0x1'0000'1234;
  ASSERT_EQ(cpu.step({0x0F, 0x35}), Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, 0x23);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, 0x2B);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.gpr[kRsp], 0xC000u);
}

TEST_F(FastCall, SysexitTo64BitCode) {
  cpu.sysenter_cs = 0x10;
  cpu.gpr[kRcx] = place::kUserStack;
  cpu.gpr[kRdx] = 0x00007FFFFFFFF000;
  ASSERT_EQ(cpu.step({0x48, 0x0F, 0x35}), Next::kJump);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, 0x33);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, 0x3B);
}

TEST_F(FastCall, SysenterNeedsItsSelector) {
  cpu.sysenter_cs = 3;
  EXPECT_EQ(cpu.step({0x0F, 0x34}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_EQ(cpu.step({0x0F, 0x35}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

TEST_F(FastCall, Swapgs) {
  cpu.reg(Segment::kGs).base = 1;
  cpu.kernel_gs_base = 2;
  ASSERT_EQ(cpu.step({0x0F, 0x01, 0xF8}), Next::kNext);
  EXPECT_EQ(cpu.reg(Segment::kGs).base, 2u);
  EXPECT_EQ(cpu.kernel_gs_base, 1u);
}

}  // namespace
}  // namespace sm::soft
