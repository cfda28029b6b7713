// String operations where they stop in the middle: at looks for interrupts, faults and devices.
#include <gtest/gtest.h>

#include <numeric>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/integer_test_cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kFrom = 0x10000, kTo = 0x20000;

// With translations in the TLB (runs) and without (element by element, pieces).
class Strings : public ::testing::TestWithParam<bool> {
 protected:
  Strings() {
    enter_long_mode(cpu);
    std::iota(cpu.ram.begin() + kFrom, cpu.ram.begin() + kTo, std::uint8_t{1});
    place(kFrom, kTo, 0);
  }
  // After pages have been made what they shall be.
  void start() {
    if (GetParam()) cpu.fill_tlb();
  }
  void place(std::uint64_t from, std::uint64_t to, std::uint64_t count) {
    cpu.set(kRsi, from);
    cpu.set(kRdi, to);
    cpu.set(kRcx, count);
  }
  void expect_place(std::uint64_t from, std::uint64_t to, std::uint64_t count) {
    EXPECT_EQ(cpu.gpr[kRsi], from);
    EXPECT_EQ(cpu.gpr[kRdi], to);
    EXPECT_EQ(cpu.gpr[kRcx], count);
  }
  void expect_copied(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    EXPECT_TRUE(std::equal(cpu.ram.begin() + static_cast<std::ptrdiff_t>(from),
                           cpu.ram.begin() + static_cast<std::ptrdiff_t>(from + bytes),
                           cpu.ram.begin() + static_cast<std::ptrdiff_t>(to)));
  }
  IntegerCpu cpu;
};

TEST_P(Strings, MoveLooksForInterruptsEvery16KiB) {
  start();
  place(kFrom + 5, kTo + 100, 40000);
  const std::uint64_t rip = cpu.rip;
  EXPECT_EQ(cpu.run({0xF3, 0xA4}), Next::kRepeat);
  EXPECT_EQ(cpu.rip, rip);
  expect_place(kFrom + 5 + 16384, kTo + 100 + 16384, 40000 - 16384);
  EXPECT_EQ(cpu.run_to_end({0xF3, 0xA4}), Next::kNext);
  EXPECT_EQ(cpu.looks, 1u);
  expect_place(kFrom + 40005, kTo + 40100, 0);
  expect_copied(kFrom + 5, kTo + 100, 40000);
  EXPECT_EQ(cpu.ram[kTo + 99], 0);
  EXPECT_EQ(cpu.ram[kTo + 40100], 0);
}

TEST_P(Strings, MoveStopsAtAFaultAndGoesOn) {
  cpu.absent.insert((kTo >> 12) + 1);
  start();
  place(kFrom, kTo + 4096 - 20, 100);  // the third element crosses the page end
  EXPECT_EQ(cpu.run({0xF3, 0x48, 0xA5}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.fault.address, kTo + 4096);
  expect_place(kFrom + 16, kTo + 4096 - 4, 98);
  EXPECT_EQ(cpu.ram[kTo + 4096 - 4], 0);
  cpu.absent.clear();
  EXPECT_EQ(cpu.run_to_end({0xF3, 0x48, 0xA5}), Next::kNext);
  expect_copied(kFrom, kTo + 4096 - 20, 800);
}

TEST_P(Strings, MoveBackwards) {
  start();
  cpu.other_flags |= eflags::kDf;
  place(kFrom + 796, kTo + 796, 200);
  EXPECT_EQ(cpu.run_to_end({0xF3, 0xA5}), Next::kNext);
  expect_place(kFrom - 4, kTo - 4, 0);
  expect_copied(kFrom, kTo, 800);
}

// The destination may repeat what was just written. Byte by byte is the definition.
TEST_P(Strings, MoveOverlapsAsElementsDo) {
  start();
  for (const int distance : {1, 2, 3, 4, 5, 7, 8, 9, 100, -1, -3, -8}) {
    for (const std::uint32_t size : {1u, 2u, 4u, 8u}) {
      const std::uint64_t to = kFrom + 200 + static_cast<std::uint64_t>(std::int64_t{distance});
      std::vector<std::uint8_t> expected = cpu.ram;
      for (std::uint64_t i = 0; i < 320; i += size) {
        std::uint64_t element = 0;
        std::memcpy(&element, &expected[kFrom + 200 + i], size);
        std::memcpy(&expected[to + i], &element, size);
      }
      place(kFrom + 200, to, 320 / size);
      switch (size) {
        case 1:
          EXPECT_EQ(cpu.run_to_end({0xF3, 0xA4}), Next::kNext);
          break;
        case 2:
          EXPECT_EQ(cpu.run_to_end({0x66, 0xF3, 0xA5}), Next::kNext);
          break;
        case 4:
          EXPECT_EQ(cpu.run_to_end({0xF3, 0xA5}), Next::kNext);
          break;
        default:
          EXPECT_EQ(cpu.run_to_end({0xF3, 0x48, 0xA5}), Next::kNext);
          break;
      }
      EXPECT_EQ(cpu.ram, expected) << distance << " " << size;
    }
  }
}

// Each element of a device waits for its answer; elements before it stay done.
TEST_P(Strings, MoveFromADevice) {
  cpu.device.insert((kFrom >> 12) + 1);
  start();
  place(kFrom + 4096 - 8, kTo, 4);
  ASSERT_EQ(cpu.run({0xF3, 0xA5}), Next::kAborted);
  ASSERT_TRUE(cpu.io.waiting());
  expect_place(kFrom + 4096, kTo + 8, 2);
  EXPECT_EQ(cpu.io.current().size, 4);
  cpu.io.current().data = {0xAA, 0xBB, 0xCC, 0xDD};
  cpu.io.complete();
  EXPECT_EQ(cpu.run({0xF3, 0xA5}), Next::kRepeat);
  EXPECT_EQ(cpu.peek<std::uint32_t>(kTo + 8), 0xDDCCBBAA);
  expect_place(kFrom + 4096 + 4, kTo + 12, 1);
}

TEST_P(Strings, SingleStepDoesOneElement) {
  start();
  cpu.other_flags |= eflags::kTf;
  place(kFrom, kTo, 3);
  EXPECT_EQ(cpu.run({0xF3, 0xA4}), Next::kRepeat);
  expect_place(kFrom + 1, kTo + 1, 2);
}

TEST_P(Strings, StoreFillsAcrossPages) {
  cpu.read_only.insert((kTo >> 12) + 3);
  start();
  cpu.set(kRax, 0x1122334455667788);
  place(0, kTo + 4, 1024 * 3);
  EXPECT_EQ(cpu.run_to_end({0xF3, 0xAB}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.fault.address, kTo + 3 * 4096);
  expect_place(0, kTo + 3 * 4096, 1);
  for (std::uint64_t at = kTo + 4; at < kTo + 3 * 4096; at += 4) {
    ASSERT_EQ(cpu.peek<std::uint32_t>(at), 0x55667788u);
  }
  EXPECT_EQ(cpu.peek<std::uint32_t>(kTo), 0u);
}

TEST_P(Strings, CountOfZeroTouchesNothing) {
  cpu.absent.insert(kFrom >> 12);
  cpu.absent.insert(kTo >> 12);
  start();
  const std::uint64_t flags = cpu.rflags();
  static constexpr std::array<std::uint8_t, 5> kOpcodes{0xA4, 0xA6, 0xAA, 0xAC, 0xAE};
  for (const std::uint8_t opcode : kOpcodes) {
    EXPECT_EQ(cpu.run({0xF3, opcode}), Next::kNext);
    expect_place(kFrom, kTo, 0);
    EXPECT_EQ(cpu.rflags(), flags);
  }
}

TEST_P(Strings, ScanFindsAcrossChunks) {
  start();
  cpu.ram[kTo + 35000] = 0x7E;
  cpu.set(kRax, 0x7E);
  place(0, kTo, 50000);
  EXPECT_EQ(cpu.run_to_end({0xF2, 0xAE}), Next::kNext);
  expect_place(0, kTo + 35001, 50000 - 35001);
  EXPECT_TRUE(cpu.status.zf());
  EXPECT_EQ(cpu.looks, 2u);
}

TEST_P(Strings, CompareStopsAtTheDifference) {
  start();
  std::copy_n(cpu.ram.begin() + kFrom, 8000, cpu.ram.begin() + kTo);
  cpu.ram[kTo + 5001] ^= 1;
  place(kFrom, kTo, 4000);
  EXPECT_EQ(cpu.run_to_end({0x66, 0xF3, 0xA7}), Next::kNext);
  expect_place(kFrom + 5002, kTo + 5002, 4000 - 2501);
  EXPECT_FALSE(cpu.status.zf());
}

// Registers of 16 bits wrap; their upper parts stay.
TEST_P(Strings, AddressesWrapInRealMode) {
  IntegerCpu real;
  real.cr0 = 0x10;
  real.mode = CodeMode::k16;
  if (GetParam()) real.fill_tlb();
  for (std::uint64_t i = 0; i < 4; ++i) {
    real.ram[(0xFFFE + i) & 0xFFFF] = static_cast<std::uint8_t>(i + 1);
  }
  real.reg(Segment::kEs).base = 0x20000;
  real.set(kRsi, 0x7777'0000'FFFE);
  real.set(kRdi, 0x100);
  real.set(kRcx, 0xABCD'0004);
  EXPECT_EQ(real.run_to_end({0xF3, 0xA4}), Next::kNext);
  EXPECT_EQ(real.gpr[kRsi], 0x7777'0000'0002u);
  EXPECT_EQ(real.gpr[kRcx], 0xABCD'0000u);
  EXPECT_EQ(real.peek<std::uint32_t>(0x20100), 0x04030201u);
}

TEST_P(Strings, SegmentLimitStopsTheRun) {
  IntegerCpu small;
  enter_16bit_protected_mode(small);
  if (GetParam()) small.fill_tlb();
  small.reg(Segment::kEs).base = kTo;
  small.reg(Segment::kEs).limit = 99;
  small.set(kRdi, 0);
  small.set(kRcx, 200);
  small.set(kRax, 0x5A);
  EXPECT_EQ(small.run_to_end({0xF3, 0xAA}), Next::kAborted);
  EXPECT_EQ(small.fault.vector, vector::kProtection);
  EXPECT_EQ(small.gpr[kRdi], 100u);
  EXPECT_EQ(small.gpr[kRcx], 100u);
  EXPECT_EQ(small.ram[kTo + 99], 0x5A);
  EXPECT_EQ(small.ram[kTo + 100], 0);
}

INSTANTIATE_TEST_SUITE_P(Tlb, Strings, ::testing::Bool());

// ---- Ports --------------------------------------------------------------------------------------

class Ports : public ::testing::Test {
 protected:
  Ports() { enter_long_mode(cpu); }
  IntegerCpu cpu;
};

TEST_F(Ports, InWaitsForItsAnswer) {
  cpu.set(kRax, 0x1111111111111111);
  cpu.set(kRdx, 0x3F8);
  ASSERT_EQ(cpu.run({0xED}), Next::kAborted);  // in eax, dx
  ASSERT_TRUE(cpu.io.waiting());
  EXPECT_TRUE(cpu.io.current().is_port);
  EXPECT_EQ(cpu.io.current().address, 0x3F8u);
  EXPECT_EQ(cpu.io.current().size, 4);
  EXPECT_EQ(cpu.gpr[kRax], 0x1111111111111111u);
  cpu.io.current().data = {1, 2, 3, 4};
  cpu.io.complete();
  ASSERT_EQ(cpu.run({0xED}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRax], 0x04030201u);
}

TEST_F(Ports, OutWithAnImmediatePort) {
  cpu.set(kRax, 0xCAFE);
  ASSERT_EQ(cpu.run({0x66, 0xE7, 0xF4}), Next::kAborted);  // out 0xf4, ax
  EXPECT_EQ(cpu.io.current().address, 0xF4u);
  EXPECT_TRUE(cpu.io.current().is_write);
  EXPECT_EQ(cpu.io.current().data[0], 0xFE);
  EXPECT_EQ(cpu.io.current().data[1], 0xCA);
  cpu.io.complete();
  EXPECT_EQ(cpu.run({0x66, 0xE7, 0xF4}), Next::kNext);
}

TEST_F(Ports, StringsGoElementByElement) {
  cpu.set(kRdx, 0x60);
  cpu.set(kRdi, kTo);
  cpu.set(kRcx, 2);
  for (std::uint8_t i = 0; i < 2; ++i) {
    ASSERT_EQ(cpu.run({0xF3, 0x6C}), Next::kAborted);  // rep insb
    cpu.io.current().data[0] = static_cast<std::uint8_t>(0x80 + i);
    cpu.io.complete();
    ASSERT_EQ(cpu.run({0xF3, 0x6C}), i == 0 ? Next::kRepeat : Next::kNext);
  }
  EXPECT_EQ(cpu.peek<std::uint16_t>(kTo), 0x8180u);
  EXPECT_EQ(cpu.gpr[kRdi], kTo + 2);
  EXPECT_EQ(cpu.gpr[kRcx], 0u);
}

// The destination is looked at before the device is asked.
TEST_F(Ports, InsDoesNotReadForABadDestination) {
  cpu.read_only.insert(kTo >> 12);
  cpu.set(kRdi, kTo);
  EXPECT_EQ(cpu.run({0x6C}), Next::kAborted);
  EXPECT_FALSE(cpu.io.waiting());
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
}

TEST_F(Ports, ProgramsAreRefused) {
  enter_user(cpu);
  cpu.set(kRcx, 0);
  for (const auto& text : {std::initializer_list<std::uint8_t>{0xEC}, {0xEE}, {0xF3, 0x6C}}) {
    EXPECT_EQ(cpu.run(text), Next::kAborted);
    EXPECT_FALSE(cpu.io.waiting());
    EXPECT_EQ(cpu.fault.vector, vector::kProtection);
  }
}

}  // namespace
}  // namespace sm::soft
