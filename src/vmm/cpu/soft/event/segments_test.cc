#include "vmm/cpu/soft/event/segments.h"

#include <gtest/gtest.h>

#include "vmm/cpu/soft/event/debug.h"
#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/test_cpu.h"

namespace sm::soft {
namespace {

TEST(Descriptor, FieldsAreWhereTheManualPutsThem) {
  const Descriptor descriptor{.low = 0x12CF9A3456789ABC, .high = 0xFFFF8000};
  EXPECT_EQ(descriptor.base(), 0xFFFF800012345678u);
  EXPECT_EQ(descriptor.limit(), 0xF9ABCFFFu);
  EXPECT_EQ(descriptor.attributes().raw, 0xC09A);
  const Descriptor gate{.low = 0x12348E0300105678, .high = 0xFFFFFFFF};
  EXPECT_EQ(gate.gate_offset(), 0xFFFFFFFF12345678u);
  EXPECT_EQ(gate.gate_selector(), 0x10);
  EXPECT_EQ(gate.gate_stack(), 3);
}

TEST(Descriptor, CanonicalAddresses) {
  EXPECT_TRUE(is_canonical_address(0x00007FFFFFFFFFFF));
  EXPECT_TRUE(is_canonical_address(0xFFFF800000000000));
  EXPECT_FALSE(is_canonical_address(0x0000800000000000));
  EXPECT_FALSE(is_canonical_address(0xFFFF7FFFFFFFFFFF));
}

class Segments : public ::testing::Test {
 protected:
  Segments() { enter_long_mode(cpu); }
  void expect_refused(Segment which, std::uint16_t selector, std::uint8_t vector,
                      std::uint32_t error_code) {
    const SegmentRegister before = cpu.reg(which);
    EXPECT_FALSE(load_segment(cpu, which, selector)) << selector;
    EXPECT_EQ(cpu.fault.vector, vector) << selector;
    EXPECT_TRUE(cpu.fault.has_error_code);
    EXPECT_EQ(cpu.fault.error_code, error_code) << selector;
    EXPECT_EQ(cpu.reg(which).selector, before.selector);
  }
  TestCpu cpu;
};

TEST_F(Segments, DataSegmentIsLoadedWhole) {
  cpu.poke(place::kGdt + 0xE0, 0x12CFF23456789ABC & ~kAccessedBit);
  ASSERT_TRUE(load_segment(cpu, Segment::kFs, 0xE3));
  const SegmentRegister& fs = cpu.reg(Segment::kFs);
  EXPECT_EQ(fs.base, 0x12345678u);
  EXPECT_EQ(fs.limit, 0xF9ABCFFFu);
  EXPECT_EQ(fs.selector, 0xE3);
  EXPECT_EQ(fs.attributes, 0xC0F3);
  EXPECT_TRUE(fs.usable);
  EXPECT_EQ(cpu.peek<std::uint64_t>(place::kGdt + 0xE0), 0x12CFF33456789ABC);
}

TEST_F(Segments, AccessedBitIsOnlyWrittenWhenItIsClear) {
  cpu.read_only.insert(place::kGdt / 4096);
  EXPECT_TRUE(load_segment(cpu, Segment::kDs, selector::kKernelData));
  cpu.poke(place::kGdt + 0xE0, kData & ~kAccessedBit);
  EXPECT_FALSE(load_segment(cpu, Segment::kDs, 0xE0));
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.fault.address, place::kGdt + 0xE5);
}

TEST_F(Segments, NullIsAllowedForDataAndClearsTheBase) {
  cpu.reg(Segment::kGs).base = 0x1234;
  for (std::uint16_t selector = 0; selector < 4; ++selector) {
    ASSERT_TRUE(load_segment(cpu, Segment::kGs, selector));
    EXPECT_FALSE(cpu.reg(Segment::kGs).usable);
    EXPECT_EQ(cpu.reg(Segment::kGs).base, 0u);
  }
}

TEST_F(Segments, RefusedForData) {
  expect_refused(Segment::kDs, 0x1000, vector::kProtection, 0x1000);
  expect_refused(Segment::kDs, selector::kTss, vector::kProtection, selector::kTss);
  expect_refused(Segment::kDs, selector::kKernelData | 3, vector::kProtection,
                 selector::kKernelData);
  expect_refused(Segment::kDs, selector::kNotPresentData, vector::kSegmentNotPresent,
                 selector::kNotPresentData);
  cpu.poke(place::kGdt + 0xE0, kCode64 & ~(1ull << 41));  // code that cannot be read
  expect_refused(Segment::kDs, 0xE0, vector::kProtection, 0xE0);
  enter_user(cpu);
  expect_refused(Segment::kEs, selector::kKernelData, vector::kProtection, selector::kKernelData);
  expect_refused(Segment::kEs, selector::kKernelCode | 3, vector::kProtection,
                 selector::kKernelCode);
  EXPECT_TRUE(load_segment(cpu, Segment::kEs, selector::kConformingCode | 3));
}

TEST_F(Segments, StackSegment) {
  EXPECT_TRUE(load_segment(cpu, Segment::kSs, selector::kKernelData));
  EXPECT_TRUE(load_segment(cpu, Segment::kSs, 0));  // 64-bit code below ring 3
  expect_refused(Segment::kSs, 1, vector::kProtection, 0);
  expect_refused(Segment::kSs, selector::kKernelData | 3, vector::kProtection,
                 selector::kKernelData);
  expect_refused(Segment::kSs, selector::kUserData, vector::kProtection, selector::kUserData & ~3u);
  expect_refused(Segment::kSs, selector::kReadOnlyData, vector::kProtection,
                 selector::kReadOnlyData);
  expect_refused(Segment::kSs, selector::kKernelCode, vector::kProtection, selector::kKernelCode);
  expect_refused(Segment::kSs, selector::kNotPresentData, vector::kStack,
                 selector::kNotPresentData);
  enter_user(cpu);
  expect_refused(Segment::kSs, 3, vector::kProtection, 0);
}

TEST_F(Segments, LocalTable) {
  cpu.ldt = segment_register({.low = system_descriptor(SystemType::kLdt, place::kLdt, 0xF)}, 0x48);
  cpu.poke(place::kLdt + 8, kData);
  EXPECT_TRUE(load_segment(cpu, Segment::kDs, 0x0C));
  expect_refused(Segment::kDs, 0x14, vector::kProtection, 0x14);
  cpu.ldt.usable = false;
  expect_refused(Segment::kDs, 0x0C, vector::kProtection, 0x0C);
}

TEST_F(Segments, DescriptorInADeviceIsAskedForOnce) {
  cpu.device.insert(place::kGdt / 4096);
  EXPECT_FALSE(load_segment(cpu, Segment::kDs, selector::kKernelData));
  ASSERT_TRUE(cpu.io.waiting());
  EXPECT_EQ(cpu.io.current().address, place::kGdt + selector::kKernelData);
  std::memcpy(cpu.io.current().data.data(), &kData, 8);
  cpu.io.complete();
  cpu.io.rewind();
  EXPECT_TRUE(load_segment(cpu, Segment::kDs, selector::kKernelData));
  EXPECT_EQ(cpu.reg(Segment::kDs).limit, 0xFFFFFFFF);
}

TEST_F(Segments, RealModeOnlyChangesTheBase) {
  cpu.cr0 &= ~cr0::kPe;
  cpu.reg(Segment::kDs).limit = 0xFFFFFFFF;
  ASSERT_TRUE(load_segment(cpu, Segment::kDs, 0x1234));
  EXPECT_EQ(cpu.reg(Segment::kDs).base, 0x12340u);
  EXPECT_EQ(cpu.reg(Segment::kDs).limit, 0xFFFFFFFF);
  cpu.reg(Segment::kFs) = null_register(0);
  ASSERT_TRUE(load_segment(cpu, Segment::kFs, 0x10));
  EXPECT_TRUE(cpu.reg(Segment::kFs).usable);
  EXPECT_EQ(cpu.reg(Segment::kFs).limit, 0xFFFFu);
}

TEST_F(Segments, CodeModeFollowsCsAndLma) {
  struct {
    std::uint64_t descriptor, efer;
    CodeMode mode;
  } const kCases[] = {
      {kCode64, efer::kLma, CodeMode::k64}, {kCode32, efer::kLma, CodeMode::k32},
      {kCode16, efer::kLma, CodeMode::k16}, {kCode64, 0, CodeMode::k16},
      {kCode32, 0, CodeMode::k32},
  };
  for (const auto& each : kCases) {
    cpu.efer = each.efer;
    set_code_segment(cpu, segment_register({.low = each.descriptor}, 0x10), 0);
    EXPECT_EQ(cpu.mode, each.mode);
  }
}

TEST_F(Segments, OuterRingLosesInnerSegments) {
  cpu.reg(Segment::kGs) = null_register(0);
  cpu.reg(Segment::kGs).base = 0x7000;  // of an MSR
  cpu.reg(Segment::kEs) = segment_register({.low = with_dpl(kData, 3)}, selector::kUserData);
  cpu.reg(Segment::kFs) = segment_register({.low = kCode64 | kConforming}, 0x50);
  cpu.cpl = 3;
  drop_inner_segments(cpu);
  EXPECT_FALSE(cpu.reg(Segment::kDs).usable);
  EXPECT_EQ(cpu.reg(Segment::kDs).selector, 0);
  EXPECT_TRUE(cpu.reg(Segment::kEs).usable);
  EXPECT_TRUE(cpu.reg(Segment::kFs).usable);
  EXPECT_EQ(cpu.reg(Segment::kGs).base, 0x7000u);
}

// ---- Flags

TEST(Flags, WhoMayChangeWhat) {
  TestCpu cpu;
  enter_long_mode(cpu);
  constexpr std::uint32_t kAlways = eflags::kStatus | eflags::kTf | eflags::kDf | eflags::kNt;
  EXPECT_EQ(writable_flags(cpu, 2), kAlways | eflags::kIf | eflags::kIopl);
  cpu.cpl = 3;
  EXPECT_EQ(writable_flags(cpu, 8), kAlways | eflags::kAc | eflags::kId);
  cpu.other_flags = eflags::kIopl;
  EXPECT_EQ(writable_flags(cpu, 8), kAlways | eflags::kAc | eflags::kId | eflags::kIf);
}

TEST(Flags, ChangesAreTold) {
  TestCpu cpu;
  load_rflags(cpu, eflags::kAc);
  EXPECT_TRUE(cpu.called("ac 1"));
  load_rflags(cpu, eflags::kIf | eflags::kRf | 1u << 15);
  EXPECT_TRUE(cpu.called("ac 0"));
  EXPECT_EQ(cpu.rflags(), 2 | eflags::kIf);  // no breakpoint is armed, so RF has no use
  EXPECT_EQ(cpu.attention.load(), kAttentionInterrupt);
  cpu.dr7 = 0x401;
  load_rflags(cpu, eflags::kRf);
  EXPECT_EQ(cpu.rflags(), 2 | eflags::kRf);
  EXPECT_NE(cpu.attention.load() & kAttentionSingle, 0u);
}

// ---- Ports

class Ports : public ::testing::Test {
 protected:
  Ports() {
    enter_long_mode(cpu);
    enter_user(cpu);
    cpu.task.limit = 0x68 + 0x80;  // ports 0..0x3FF
    for (std::uint64_t i = 0; i <= 0x80; ++i) cpu.poke(place::kTss + 0x68 + i, std::uint8_t{0xFF});
    // 0x3F8 to 0x3FB are allowed.
    cpu.poke(place::kTss + 0x68 + 0x3F8 / 8, std::uint8_t{0xF0});
  }
  bool allowed(std::uint16_t port, std::uint32_t size) {
    cpu.fault = {};
    const bool yes = check_io_permission(cpu, port, size);
    EXPECT_EQ(cpu.fault.vector, yes ? 0 : vector::kProtection);
    return yes;
  }
  TestCpu cpu;
};

TEST_F(Ports, BitmapDecidesAboveIopl) {
  EXPECT_TRUE(allowed(0x3F8, 1));
  EXPECT_TRUE(allowed(0x3FA, 2));
  EXPECT_TRUE(allowed(0x3F8, 4));
  EXPECT_FALSE(allowed(0x3FA, 4));
  EXPECT_FALSE(allowed(0x3F7, 2));
  EXPECT_FALSE(allowed(0x3FC, 1));
}

TEST_F(Ports, BeyondTheBitmap) {
  // The byte that the limit cuts off says yes, but there must be one behind it.
  cpu.poke(place::kTss + 0x68 + 0x80, std::uint16_t{0});
  EXPECT_TRUE(allowed(0x3FB, 1));
  EXPECT_FALSE(allowed(0x400, 1));
  EXPECT_FALSE(allowed(0xFFFF, 4));
  cpu.poke(place::kTss + 102, std::uint16_t{0xFFFF});
  EXPECT_FALSE(allowed(0x3F8, 1));
}

TEST_F(Ports, NoTaskNoPorts) {
  cpu.task.usable = false;
  EXPECT_FALSE(allowed(0x3F8, 1));
}

TEST_F(Ports, IoplIsEnough) {
  cpu.other_flags |= eflags::kIopl;
  EXPECT_TRUE(allowed(0x60, 1));
  cpu.other_flags = 0;
  cpu.cpl = 0;
  EXPECT_TRUE(allowed(0x60, 4));
  cpu.cr0 = 0;
  EXPECT_TRUE(allowed(0x60, 1));
}

// ---- Debug registers

class Debug : public ::testing::Test {
 protected:
  // Breakpoint `i` with R/W and LEN.
  void arm(unsigned i, std::uint64_t address, unsigned condition, unsigned length) {
    cpu.dr[i] = address;
    cpu.dr7 |= 1u << (i * 2) | (condition | length << 2) << (16 + i * 4);
  }
  TestCpu cpu;
};

TEST_F(Debug, ReservedBitsReadAsTheyMust) {
  EXPECT_TRUE(write_debug(cpu, 6, 0));
  EXPECT_EQ(cpu.dr6, 0xFFFF0FF0u);
  EXPECT_TRUE(write_debug(cpu, 6, 0xFFFFFFFF));
  EXPECT_EQ(cpu.dr6, 0xFFFFEFFFu);
  EXPECT_TRUE(write_debug(cpu, 7, 0xFFFF00FF));
  EXPECT_EQ(cpu.dr7, 0xFFFF04FFu);
  EXPECT_NE(cpu.attention.load() & kAttentionSingle, 0u);
  EXPECT_FALSE(write_debug(cpu, 7, 1ull << 32));
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

TEST_F(Debug, FourAndFiveAreAliasesUntilDeIsSet) {
  ASSERT_TRUE(write_debug(cpu, 4, 1));
  std::uint64_t value = 0;
  ASSERT_TRUE(read_debug(cpu, 6, value));
  EXPECT_EQ(value, kDr6Fixed | 1);
  cpu.cr4 = cr4::kDe;
  EXPECT_FALSE(read_debug(cpu, 5, value));
  EXPECT_EQ(cpu.fault.vector, vector::kUndefined);
}

TEST_F(Debug, GeneralDetect) {
  cpu.dr7 |= 1u << 13;
  std::uint64_t value = 0;
  EXPECT_FALSE(read_debug(cpu, 0, value));
  EXPECT_EQ(cpu.fault.vector, vector::kDebug);
  EXPECT_EQ(cpu.dr6, kDr6Fixed | kDebugAccess);
}

TEST_F(Debug, InstructionBreakpoints) {
  EXPECT_FALSE(breakpoints_armed(cpu));
  arm(0, 0x1000, 0, 0);
  arm(2, 0x1000, 0, 0);
  arm(3, 0x1000, 1, 0);
  EXPECT_TRUE(breakpoints_armed(cpu));
  EXPECT_EQ(instruction_breakpoints(cpu, 0x1000), 0b0101u);
  EXPECT_EQ(instruction_breakpoints(cpu, 0x1001), 0u);
  cpu.other_flags |= eflags::kRf;
  EXPECT_EQ(instruction_breakpoints(cpu, 0x1000), 0u);
}

TEST_F(Debug, DataBreakpoints) {
  arm(0, 0x1003, 1, 3);  // writes to 4 bytes at 0x1000
  arm(1, 0x1008, 3, 2);  // any access to 8 bytes
  EXPECT_EQ(data_breakpoints(cpu, 0xFFF, 2, true), 0b01u);
  EXPECT_EQ(data_breakpoints(cpu, 0xFFF, 1, true), 0u);
  EXPECT_EQ(data_breakpoints(cpu, 0x1000, 4, false), 0u);
  EXPECT_EQ(data_breakpoints(cpu, 0x1003, 8, true), 0b11u);
  EXPECT_EQ(data_breakpoints(cpu, 0x100F, 1, false), 0b10u);
  EXPECT_EQ(data_breakpoints(cpu, 0x1010, 16, false), 0u);
}

TEST_F(Debug, PortBreakpointsNeedDe) {
  arm(0, 0x3F8, 2, 3);
  EXPECT_EQ(port_breakpoints(cpu, 0x3F8, 1), 0u);
  cpu.cr4 = cr4::kDe;
  EXPECT_EQ(port_breakpoints(cpu, 0x3FB, 1), 1u);
  EXPECT_EQ(port_breakpoints(cpu, 0x3FC, 1), 0u);
}

}  // namespace
}  // namespace sm::soft
