#include "vmm/cpu/soft/event/deliver.h"

#include <gtest/gtest.h>

#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/test_cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kUserFlags = 0x2 | eflags::kIf | eflags::kZf;

// What a 64-bit handler finds on its stack, an error code aside.
struct LongFrame {
  std::uint64_t rip, cs, rflags, rsp, ss;
};

Next fault(TestCpu& cpu, std::uint8_t vector) {
  raise(cpu, vector);
  return deliver_fault(cpu);
}
Next fault(TestCpu& cpu, std::uint8_t vector, std::uint32_t error_code) {
  raise(cpu, vector, error_code);
  return deliver_fault(cpu);
}

class LongMode : public ::testing::Test {
 protected:
  LongMode() { enter_long_mode(cpu); }
  TestCpu cpu;
};

TEST_F(LongMode, UserFaultGoesToRsp0WithTheWholeFrame) {
  enter_user(cpu);
  cpu.set_rflags(kUserFlags | eflags::kDf);
  ASSERT_EQ(fault(cpu, vector::kUndefined), Next::kJump);

  EXPECT_EQ(cpu.rip, handler_of(vector::kUndefined));
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_TRUE(cpu.called("cpl 0"));
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kKernelCode);
  EXPECT_EQ(cpu.mode, CodeMode::k64);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, 0);
  EXPECT_FALSE(cpu.reg(Segment::kSs).usable);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - sizeof(LongFrame));
  const auto frame = cpu.peek<LongFrame>(cpu.gpr[kRsp]);
  EXPECT_EQ(frame.rip, place::kUserCode);
  EXPECT_EQ(frame.cs, selector::kUserCode);
  EXPECT_EQ(frame.rflags, kUserFlags | eflags::kDf | eflags::kRf);
  EXPECT_EQ(frame.rsp, place::kUserStack);
  EXPECT_EQ(frame.ss, selector::kUserData);
  EXPECT_EQ(cpu.rflags(), (kUserFlags | eflags::kDf) & ~std::uint64_t{eflags::kIf});
}

TEST_F(LongMode, ErrorCodeStandsBelowTheFrame) {
  enter_user(cpu);
  ASSERT_EQ(fault(cpu, vector::kProtection, 0x1234), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - sizeof(LongFrame) - 8);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), 0x1234u);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp] + 8).rip, place::kUserCode);
}

TEST_F(LongMode, PageFaultSetsCr2) {
  cpu.fault = {.vector = vector::kPage, .has_error_code = true, .address = 0xDEAD000};
  ASSERT_EQ(deliver_fault(cpu), Next::kJump);
  EXPECT_EQ(cpu.cr2, 0xDEAD000u);
}

TEST_F(LongMode, SameRingAlignsTheStackAndKeepsSs) {
  cpu.gpr[kRsp] = place::kKernelStack - 3;
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 16 - sizeof(LongFrame));
  const auto frame = cpu.peek<LongFrame>(cpu.gpr[kRsp]);
  EXPECT_EQ(frame.rsp, place::kKernelStack - 3);
  EXPECT_EQ(frame.ss, selector::kKernelData);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  EXPECT_TRUE(cpu.calls.empty());
}

TEST_F(LongMode, IstIsTakenFromAnyRing) {
  set_gate(cpu, 2,
           gate_descriptor(SystemType::kInterruptGate, selector::kKernelCode, handler_of(2), 0, 1));
  ASSERT_EQ(deliver_nmi(cpu), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kInterruptStack - sizeof(LongFrame));
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  EXPECT_TRUE(cpu.nmi_masked);

  enter_user(cpu);
  ASSERT_EQ(deliver_nmi(cpu), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kInterruptStack - sizeof(LongFrame));
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, 0);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp]).ss, selector::kUserData);
}

TEST_F(LongMode, TrapGateLeavesIf) {
  set_gate(cpu, 0x40,
           gate_descriptor(SystemType::kTrapGate, selector::kKernelCode, handler_of(0x40)));
  cpu.set_rflags(kUserFlags | eflags::kTf | eflags::kNt);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rflags(), kUserFlags);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp]).rflags, kUserFlags | eflags::kTf | eflags::kNt);
}

TEST_F(LongMode, HandlerMayStandInTheUpperHalf) {
  set_gate(cpu, 0x40,
           gate_descriptor(SystemType::kInterruptGate, selector::kKernelCode, 0xFFFFFFFF81234560),
           0xFFFFFFFF);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, 0xFFFFFFFF81234560u);
}

TEST_F(LongMode, DeliveryEndsShadowAndHalt) {
  cpu.interrupt_shadow = 1;
  cpu.halted = true;
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.interrupt_shadow, 0);
  EXPECT_FALSE(cpu.halted);
}

TEST_F(LongMode, DebugTrapSetsDr6AndEndsGeneralDetect) {
  cpu.dr7 = 0x400 | 1u << 13;
  cpu.dr6 = kDr6Fixed | 0x5;
  ASSERT_EQ(deliver_debug(cpu, kDebugSingleStep), Next::kJump);
  EXPECT_EQ(cpu.dr6, kDr6Fixed | kDebugSingleStep);
  EXPECT_EQ(cpu.dr7, 0x400u);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp]).rflags & eflags::kRf, 0u);
}

// ---- Software interrupts

TEST_F(LongMode, Int3ReturnsBehindItself) {
  enter_user(cpu);
  ASSERT_EQ(cpu.step({0xCC}), Next::kJump);
  const auto frame = cpu.peek<LongFrame>(cpu.gpr[kRsp]);
  EXPECT_EQ(cpu.rip, handler_of(3));
  EXPECT_EQ(frame.rip, place::kUserCode + 1);
  EXPECT_EQ(frame.rflags & eflags::kRf, 0u);
}

TEST_F(LongMode, IntNeedsTheGatesDpl) {
  enter_user(cpu);
  ASSERT_EQ(cpu.step({0xCD, 0x80}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  EXPECT_EQ(cpu.fault.error_code, 0x80u * 8 + 2);
  EXPECT_EQ(cpu.rip, place::kUserCode);
}

TEST_F(LongMode, Int1IsNotHeldBackByTheGate) {
  enter_user(cpu);
  const std::uint64_t dr6 = cpu.dr6;
  ASSERT_EQ(cpu.step({0xF1}), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(1));
  EXPECT_EQ(cpu.dr6, dr6);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp]).rip, place::kUserCode + 1);
}

TEST_F(LongMode, FaultOfASoftwareInterruptIsAnOrdinaryOne) {
  set_gate(
      cpu, 0x80,
      gate_descriptor(SystemType::kInterruptGate, selector::kNotPresentCode, handler_of(0x80), 3));
  ASSERT_EQ(cpu.step_and_deliver({0xCD, 0x80}), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kSegmentNotPresent));
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), selector::kNotPresentCode);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp] + 8).rip, place::kKernelCode);
}

// ---- What a gate can be wrong about: an external interrupt to vector 0x40, so EXT is 1

struct WrongGate {
  const char* name;
  std::uint64_t gate;
  std::uint8_t vector;
  std::uint32_t error_code;
};
void PrintTo(const WrongGate& gate, std::ostream* out) { *out << gate.name; }

class WrongGates : public ::testing::TestWithParam<WrongGate> {};

TEST_P(WrongGates, RaiseTheirFault) {
  TestCpu cpu;
  enter_long_mode(cpu);
  set_gate(cpu, 0x40, GetParam().gate);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(GetParam().vector));
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), GetParam().error_code);
}

constexpr std::uint64_t interrupt_gate(std::uint16_t selector) {
  return gate_descriptor(SystemType::kInterruptGate, selector, handler_of(0x40));
}
constexpr std::uint32_t kGateError = 0x40 * 8 + 2 + 1;

INSTANTIATE_TEST_SUITE_P(
    Long, WrongGates,
    ::testing::Values(
        WrongGate{"zero", 0, vector::kProtection, kGateError},
        WrongGate{"16 bit", gate_descriptor(SystemType::kInterruptGate16, selector::kKernelCode, 0),
                  vector::kProtection, kGateError},
        WrongGate{"call gate", gate_descriptor(SystemType::kCallGate, selector::kKernelCode, 0),
                  vector::kProtection, kGateError},
        WrongGate{"task gate", gate_descriptor(SystemType::kTaskGate, selector::kTss, 0),
                  vector::kProtection, kGateError},
        WrongGate{"not present", interrupt_gate(selector::kKernelCode) & ~kNotPresent,
                  vector::kSegmentNotPresent, kGateError},
        WrongGate{"null selector", interrupt_gate(0), vector::kProtection, 1},
        WrongGate{"data", interrupt_gate(selector::kKernelData), vector::kProtection,
                  selector::kKernelData | 1},
        WrongGate{"32-bit code", interrupt_gate(selector::kKernelCode32), vector::kProtection,
                  selector::kKernelCode32 | 1},
        WrongGate{"outer code", interrupt_gate(selector::kUserCode), vector::kProtection,
                  (selector::kUserCode & ~3u) | 1},
        WrongGate{"absent code", interrupt_gate(selector::kNotPresentCode),
                  vector::kSegmentNotPresent, selector::kNotPresentCode | 1},
        WrongGate{"beyond the GDT", interrupt_gate(0x1000), vector::kProtection, 0x1001},
        WrongGate{"LDT without one", interrupt_gate(0x0C), vector::kProtection, 0x0D}));

TEST_F(LongMode, NonCanonicalHandler) {
  set_gate(cpu, 0x40, interrupt_gate(selector::kKernelCode), 0x00010000);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kProtection));
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), 1u);
}

TEST_F(LongMode, VectorBeyondTheTable) {
  cpu.idt.limit = 0x3FF;
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kProtection));
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), kGateError);
}

TEST_F(LongMode, ConformingHandlerRunsInTheUsersRing) {
  set_gate(
      cpu, 0x40,
      gate_descriptor(SystemType::kInterruptGate, selector::kConformingCode, handler_of(0x40), 3));
  enter_user(cpu);
  ASSERT_EQ(cpu.step({0xCD, 0x40}), Next::kJump);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, selector::kConformingCode | 3);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kUserData);
  EXPECT_EQ(cpu.gpr[kRsp], place::kUserStack - sizeof(LongFrame));
}

TEST_F(LongMode, AccessedBitOfTheHandlersSegmentIsSet) {
  cpu.poke(place::kGdt + selector::kKernelCode, kCode64 & ~kAccessedBit);
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.peek<std::uint64_t>(place::kGdt + selector::kKernelCode), kCode64);
}

// ---- Stacks that cannot be used

TEST_F(LongMode, TssTooShort) {
  enter_user(cpu);
  cpu.task.limit = 10;
  set_gate(cpu, vector::kInvalidTss,
           gate_descriptor(SystemType::kInterruptGate, selector::kConformingCode,
                           handler_of(vector::kInvalidTss)));
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kInvalidTss));
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), selector::kTss | 1);
}

TEST_F(LongMode, StackThatBeginsBehindTheLowerHalf) {
  enter_user(cpu);
  cpu.poke(place::kTss + 4, std::uint64_t{0x0000800000000000});
  ASSERT_EQ(software_interrupt(cpu, 3, cpu.rip), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kStack);
  EXPECT_EQ(cpu.fault.error_code, 0u);
}

TEST_F(LongMode, NonCanonicalStackIsADoubleFaultAfterAContributoryOne) {
  enter_user(cpu);
  cpu.poke(place::kTss + 4, std::uint64_t{0x8000000000000000});
  set_gate(cpu, vector::kDoubleFault,
           gate_descriptor(SystemType::kInterruptGate, selector::kKernelCode,
                           handler_of(vector::kDoubleFault), 0, 1));
  ASSERT_EQ(fault(cpu, vector::kProtection, 0), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kDoubleFault));
  EXPECT_EQ(cpu.gpr[kRsp], place::kInterruptStack - sizeof(LongFrame) - 8);
  EXPECT_EQ(cpu.peek<std::uint64_t>(cpu.gpr[kRsp]), 0u);
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp] + 8).rip, place::kUserCode);
}

// The guest's guard page: a page fault on the kernel stack cannot be delivered on that stack.
TEST_F(LongMode, StackOverflowIsADoubleFaultOnItsIst) {
  set_gate(cpu, vector::kDoubleFault,
           gate_descriptor(SystemType::kInterruptGate, selector::kKernelCode,
                           handler_of(vector::kDoubleFault), 0, 1));
  cpu.absent.insert(6);
  cpu.gpr[kRsp] = 0x7010;  // a frame would cross into page 6
  cpu.fault = {.vector = vector::kPage, .has_error_code = true, .error_code = 2, .address = 0x6FF8};
  ASSERT_EQ(deliver_fault(cpu), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kDoubleFault));
  EXPECT_EQ(cpu.cr2, 0x6FE0u);  // of the second fault: the frame's lowest byte
  EXPECT_EQ(cpu.peek<LongFrame>(cpu.gpr[kRsp] + 8).rsp, 0x7010u);
  EXPECT_EQ(cpu.peek<std::uint64_t>(0x7000), 0u) << "a part of the first frame was written";
}

TEST_F(LongMode, TripleFaultIsAShutdown) {
  cpu.absent.insert(6);
  cpu.absent.insert(7);
  cpu.gpr[kRsp] = 0x7010;
  const std::uint64_t flags = cpu.rflags();
  ASSERT_EQ(fault(cpu, vector::kProtection, 0), Next::kAborted);
  EXPECT_TRUE(cpu.shutdown);
  EXPECT_EQ(cpu.rip, place::kKernelCode);
  EXPECT_EQ(cpu.rflags(), flags);
  EXPECT_EQ(cpu.gpr[kRsp], 0x7010u);
}

TEST_F(LongMode, EmptyIdtIsAShutdown) {
  cpu.idt.limit = 0;
  EXPECT_EQ(cpu.step_and_deliver({0xCC}), Next::kAborted);
  EXPECT_TRUE(cpu.shutdown);
}

TEST_F(LongMode, TablesInADeviceAreAShutdown) {
  cpu.device.insert(place::kIdt / 4096);
  EXPECT_EQ(fault(cpu, vector::kUndefined), Next::kAborted);
  EXPECT_TRUE(cpu.shutdown);
  EXPECT_FALSE(cpu.io.active());
}

// Which second fault makes a double one. The second comes from the first one's gate.
struct Pair {
  std::uint8_t first;
  bool second_is_page_fault;
  std::uint8_t delivered;
};
void PrintTo(const Pair& pair, std::ostream* out) {
  *out << int{pair.first} << (pair.second_is_page_fault ? " then #PF" : " then #NP");
}
class FaultPairs : public ::testing::TestWithParam<Pair> {};

TEST_P(FaultPairs, Escalate) {
  TestCpu cpu;
  enter_long_mode(cpu);
  const Pair& pair = GetParam();
  constexpr std::uint64_t kFarTable = 0x3F000;  // an LDT on a page that is not there
  cpu.ldt = segment_register({.low = system_descriptor(SystemType::kLdt, kFarTable, 0xFF)}, 0x48);
  cpu.absent.insert(kFarTable / 4096);
  const std::uint16_t selector = pair.second_is_page_fault ? 0x0C : selector::kNotPresentCode;
  set_gate(cpu, pair.first,
           gate_descriptor(SystemType::kInterruptGate, selector, handler_of(pair.first)));
  ASSERT_EQ(fault(cpu, pair.first, 0), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(pair.delivered));
}

INSTANTIATE_TEST_SUITE_P(Long, FaultPairs,
                         ::testing::Values(Pair{vector::kUndefined, false,
                                                vector::kSegmentNotPresent},
                                           Pair{vector::kUndefined, true, vector::kPage},
                                           Pair{vector::kAlignment, true, vector::kPage},
                                           Pair{vector::kDebug, false, vector::kSegmentNotPresent},
                                           Pair{vector::kDivide, false, vector::kDoubleFault},
                                           Pair{vector::kProtection, false, vector::kDoubleFault},
                                           Pair{vector::kStack, false, vector::kDoubleFault},
                                           Pair{vector::kInvalidTss, false, vector::kDoubleFault},
                                           Pair{vector::kProtection, true, vector::kPage},
                                           Pair{vector::kPage, false, vector::kDoubleFault},
                                           Pair{vector::kPage, true, vector::kDoubleFault}));

// ---- Protected mode

struct ShortFrame {
  std::uint32_t eip, cs, eflags, esp, ss;
};

class ProtectedMode : public ::testing::Test {
 protected:
  ProtectedMode() { enter_protected_mode(cpu); }
  TestCpu cpu;
};

TEST_F(ProtectedMode, InnerRingTakesItsStackFromTheTss) {
  enter_user(cpu);
  cpu.gpr[kRsp] = 0xFFFFFFFF0000C000;  // the upper half is not there outside 64-bit mode
  ASSERT_EQ(fault(cpu, vector::kProtection, 0x18), Next::kJump);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.mode, CodeMode::k32);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - sizeof(ShortFrame) - 4);
  EXPECT_EQ(cpu.reg(Segment::kSs).selector, selector::kKernelData);
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp]), 0x18u);
  const auto frame = cpu.peek<ShortFrame>(cpu.gpr[kRsp] + 4);
  EXPECT_EQ(frame.eip, place::kUserCode);
  EXPECT_EQ(frame.cs, selector::kUserCode);
  EXPECT_EQ(frame.esp, place::kUserStack);
  EXPECT_EQ(frame.ss, selector::kUserData);
}

TEST_F(ProtectedMode, SameRingPushesThreeValues) {
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 12);
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp]), place::kKernelCode);
}

TEST_F(ProtectedMode, SixteenBitGate) {
  set_gate(cpu, 0x40,
           gate_descriptor(SystemType::kInterruptGate16, selector::kKernelCode, 0x12345678));
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], place::kKernelStack - 6);
  EXPECT_EQ(cpu.rip, 0x5678u);
}

TEST_F(ProtectedMode, TaskGateIsRefused) {
  set_gate(cpu, 0x40, gate_descriptor(SystemType::kTaskGate, selector::kTss, 0));
  ASSERT_EQ(deliver_interrupt(cpu, 0x40), Next::kJump);
  EXPECT_EQ(cpu.rip, handler_of(vector::kProtection));
  EXPECT_EQ(cpu.peek<std::uint32_t>(cpu.gpr[kRsp]), kGateError);
}

struct WrongStack {
  std::uint16_t selector;
  std::uint8_t vector;
  std::uint32_t error_code;
};
TEST_F(ProtectedMode, WrongInnerStackSegments) {
  const WrongStack kWrong[] = {
      {0, vector::kInvalidTss, 0},
      {selector::kUserData, vector::kInvalidTss, selector::kUserData & ~3u},
      {selector::kKernelCode, vector::kInvalidTss, selector::kKernelCode},
      {selector::kRing1Data, vector::kInvalidTss, selector::kRing1Data & ~3u},
      {selector::kReadOnlyData, vector::kInvalidTss, selector::kReadOnlyData},
      {selector::kNotPresentData, vector::kStack, selector::kNotPresentData},
      {0x1000, vector::kInvalidTss, 0x1000},
  };
  for (const WrongStack& wrong : kWrong) {
    enter_user(cpu);
    cpu.poke(place::kTss + 8, wrong.selector);
    EXPECT_EQ(software_interrupt(cpu, 3, cpu.rip), Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, wrong.vector) << wrong.selector;
    EXPECT_EQ(cpu.fault.error_code, wrong.error_code) << wrong.selector;
    EXPECT_EQ(cpu.cpl, 3);
  }
}

TEST_F(ProtectedMode, StackLimitIsKept) {
  cpu.reg(Segment::kSs).limit = 0x7FFF;
  cpu.gpr[kRsp] = 0x8004;
  ASSERT_EQ(software_interrupt(cpu, 3, cpu.rip), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kStack);
  EXPECT_EQ(cpu.fault.error_code, 0u);
}

// An expand-down stack of 64 KiB holds the offsets above its limit.
TEST_F(ProtectedMode, ExpandDownStack) {
  SegmentRegister& ss = cpu.reg(Segment::kSs);
  ss.attributes = 0x97;
  ss.limit = 0x7FFC;
  cpu.gpr[kRsp] = 0x8008;
  ASSERT_EQ(software_interrupt(cpu, 3, cpu.rip), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kStack);
  cpu.gpr[kRsp] = 0x8010;
  EXPECT_EQ(software_interrupt(cpu, 3, cpu.rip), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8004u);
}

TEST_F(ProtectedMode, FrameWrapsWithASixteenBitStack) {
  cpu.reg(Segment::kSs) = segment_register({.low = kData16}, selector::kData16);
  cpu.gpr[kRsp] = 0x12340004;
  ASSERT_EQ(software_interrupt(cpu, 3, 0x55667788), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], 0x1234FFF8u);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0xFFF8), 0x55667788u);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0xFFFC), selector::kKernelCode);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0), 2u);
}

TEST_F(ProtectedMode, WrappedFrameIsAllOrNothing) {
  cpu.reg(Segment::kSs) = segment_register({.low = kData16}, selector::kData16);
  cpu.gpr[kRsp] = 4;
  cpu.read_only.insert(0xF);
  cpu.poke<std::uint32_t>(0, 0x77777777);
  ASSERT_EQ(software_interrupt(cpu, 3, 0x1234), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.peek<std::uint32_t>(0), 0x77777777u);
  cpu.gpr[kRsp] = 5;  // a value would stand on both ends of the segment
  ASSERT_EQ(software_interrupt(cpu, 3, 0x1234), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kStack);
}

// ---- Real mode

class RealMode : public ::testing::Test {
 protected:
  RealMode() {
    cpu.reg(Segment::kCs).selector = 0x100;
    cpu.reg(Segment::kCs).base = 0x1000;
    cpu.rip = 0x20;
    cpu.gpr[kRsp] = 0x9000;
    for (unsigned vector = 0; vector < 256; ++vector) cpu.poke(vector * 4, 0x02000010u + vector);
  }
  TestCpu cpu;
};

TEST_F(RealMode, VectorTable) {
  cpu.set_rflags(kUserFlags | eflags::kTf | eflags::kAc);
  ASSERT_EQ(cpu.step({0xCD, 0x21}), Next::kJump);
  EXPECT_EQ(cpu.reg(Segment::kCs).selector, 0x200);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x2000u);
  EXPECT_EQ(cpu.rip, 0x31u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8FFAu);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x8FFA), 0x22u);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x8FFC), 0x100u);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x8FFE), kUserFlags | eflags::kTf);
  EXPECT_EQ(cpu.rflags(), kUserFlags & ~std::uint64_t{eflags::kIf});
}

TEST_F(RealMode, FaultsPushNoErrorCode) {
  ASSERT_EQ(fault(cpu, vector::kProtection, 0x77), Next::kJump);
  EXPECT_EQ(cpu.gpr[kRsp], 0x8FFAu);
  EXPECT_EQ(cpu.peek<std::uint16_t>(0x8FFA), 0x20u);
}

TEST_F(RealMode, ShortVectorTableEndsInAShutdown) {
  cpu.idt.limit = 0;
  EXPECT_EQ(cpu.step_and_deliver({0xCC}), Next::kAborted);
  EXPECT_TRUE(cpu.shutdown);
}

TEST_F(RealMode, IntoOnlyOnOverflow) {
  cpu.set_rflags(2);
  EXPECT_EQ(cpu.step({0xCE}), Next::kNext);
  cpu.set_rflags(2 | eflags::kOf);
  EXPECT_EQ(cpu.step({0xCE}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x14u);
}

TEST_F(RealMode, InterruptReturn) {
  cpu.poke<std::uint16_t>(0x9000, 0x1234);
  cpu.poke<std::uint16_t>(0x9002, 0x300);
  cpu.poke<std::uint16_t>(0x9004, static_cast<std::uint16_t>(kUserFlags | 0x3000));
  ASSERT_EQ(cpu.step({0xCF}), Next::kJump);
  EXPECT_EQ(cpu.rip, 0x1234u);
  EXPECT_EQ(cpu.reg(Segment::kCs).base, 0x3000u);
  EXPECT_EQ(cpu.gpr[kRsp], 0x9006u);
  EXPECT_EQ(cpu.rflags(), kUserFlags | 0x3000);
  EXPECT_NE(cpu.attention.load() & kAttentionInterrupt, 0u);
}

}  // namespace
}  // namespace sm::soft
