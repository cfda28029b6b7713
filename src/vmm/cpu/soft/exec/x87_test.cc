// x87: exceptions that are not masked and when they arrive, the environment in memory, and the
// quick handlers against the general way. (Results are compared with the real CPU by cpu_fuzz.)
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/exec/integer_test_cpu.h"
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"
#include "vmm/cpu/soft/exec/x87_fast.h"
#include "vmm/cpu/soft/exec/x87_general.h"

namespace sm::soft {
namespace {

using Text = std::initializer_list<std::uint8_t>;
using Register = std::array<std::uint8_t, 16>;

constexpr Text kFld1 = {0xD9, 0xE8}, kFldz = {0xD9, 0xEE}, kFwait = {0x9B}, kFninit = {0xDB, 0xE3},
               kFnclex = {0xDB, 0xE2}, kFnstswAx = {0xDF, 0xE0}, kFdivp = {0xDE, 0xF9};

class X87 : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kBuffer = 0x18000;

  X87() {
    enter_long_mode(cpu);
    cpu.cr0 &= ~(kCr0Em | kCr0Ts);
    cpu.set(kRbx, kBuffer);
  }
  ~X87() override { expect_clean_host(); }
  X87(const X87&) = delete;
  X87& operator=(const X87&) = delete;
  X87(X87&&) = delete;
  X87& operator=(X87&&) = delete;

  // What the ABI wants of the host's x87 between two functions.
  static void expect_clean_host() {
    std::array<std::uint32_t, 7> environment{};
    asm volatile("fnstenv %0\n\tfldenv %0" : "+m"(environment));
    EXPECT_EQ(environment[0] & 0xFFFF, 0x37Fu);
    EXPECT_EQ(environment[2] & 0xFFFF, 0xFFFFu);
    EXPECT_EQ(read_mxcsr() & ~mxcsr::kFlags, mxcsr::kDefault);
  }

  void run(Text text) { ASSERT_EQ(cpu.run(text), Next::kNext); }
  void expect_fault(Text text, std::uint8_t vector) {
    EXPECT_EQ(cpu.run(text), Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, vector);
    EXPECT_FALSE(cpu.fault.has_error_code);
  }
  void set_control(std::uint16_t control) {
    cpu.poke(kBuffer + 0x100, control);
    run({0xD9, 0xAB, 0x00, 0x01, 0x00, 0x00});  // fldcw [rbx+0x100]
  }
  double st(unsigned i) const {
    long double value = 0;
    std::memcpy(&value, cpu.fx.st[i].data(), 10);
    return static_cast<double>(value);
  }
  unsigned flags() const { return cpu.fx.status & 0x7Fu; }
  bool pending() const { return (cpu.fx.status & 0x8080) == 0x8080; }

  IntegerCpu cpu;
};

// ---- Whether they may run -----------------------------------------------------------------------

TEST_F(X87, EmulationAndTaskSwitchAreNoMath) {
  for (const std::uint64_t bit : {kCr0Em, kCr0Ts}) {
    cpu.cr0 |= bit;
    expect_fault(kFld1, vector::kNoMath);
    expect_fault(kFninit, vector::kNoMath);
    expect_fault(kFnstswAx, vector::kNoMath);
    cpu.cr0 &= ~bit;
  }
}

TEST_F(X87, WaitMindsTaskSwitchWhenMonitored) {
  constexpr std::uint64_t kMp = 2;
  cpu.cr0 = (cpu.cr0 | kCr0Ts) & ~kMp;
  run(kFwait);
  cpu.cr0 |= kMp;
  expect_fault(kFwait, vector::kNoMath);
}

// ---- Exceptions ---------------------------------------------------------------------------------

TEST_F(X87, ResultsAreNumbers) {
  cpu.poke(kBuffer, 2.5);
  cpu.poke<std::int16_t>(kBuffer + 8, -3);
  run({0xDD, 0x03});        // fld qword [rbx]
  run({0xDE, 0x4B, 0x08});  // fimul word [rbx+8]
  run({0xD9, 0xC0});        // fld st(0)
  run({0xD9, 0xE1});        // fabs
  run({0xDC, 0xC1});        // fadd st(1), st(0)
  run({0xD9, 0xC9});        // fxch
  EXPECT_EQ(st(0), 0.0);
  EXPECT_EQ(st(1), 7.5);
  run({0xDB, 0xF1});  // fcomi st(0), st(1)
  EXPECT_TRUE(cpu.status.cf());
  run({0xDE, 0xE1});        // fsubrp st(1), st(0): 0 - 7.5
  run({0xDF, 0x7B, 0x10});  // fistp qword [rbx+16]
  EXPECT_EQ(cpu.peek<std::int64_t>(kBuffer + 16), -8);
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
  EXPECT_EQ(flags(), x87::kPrecision);
}

TEST_F(X87, MaskedStackFaultsSayWhichInC1) {
  run({0xD8, 0xC1});  // fadd st(0), st(1) of empty registers
  EXPECT_EQ(flags(), x87::kInvalid | x87::kStackFault);
  EXPECT_EQ(cpu.fx.status & x87::kC1, 0);
  EXPECT_FALSE(pending());
  run(kFninit);
  for (int i = 0; i < 8; ++i) {
    run(kFld1);
  }
  EXPECT_EQ(flags(), 0u);
  run(kFld1);
  EXPECT_EQ(flags(), x87::kInvalid | x87::kStackFault);
  EXPECT_NE(cpu.fx.status & x87::kC1, 0);
  EXPECT_EQ(x87_top(cpu.fx), 7u);  // pushed all the same: the default NaN
  EXPECT_EQ(cpu.fx.st[0][9], 0xFF);
}

TEST_F(X87, UnmaskedStackFaultKeepsTheRegisters) {
  set_control(0x37E);
  run({0xD8, 0xC1});
  EXPECT_EQ(x87_top(cpu.fx), 0u);
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
  EXPECT_TRUE(pending());
}

TEST_F(X87, UnmaskedExceptionWaitsForTheNextInstruction) {
  run(kFld1);
  run(kFldz);
  set_control(0x37F & ~x87::kZeroDivide);
  run(kFdivp);  // 1 / 0 executes,
  EXPECT_TRUE(pending());
  EXPECT_EQ(flags(), x87::kZeroDivide);
  EXPECT_EQ(cpu.fx.abridged_tag, 0xC0);  // but neither divides nor pops
  EXPECT_EQ(st(1), 1.0);
  const std::uint64_t rip = cpu.rip;
  expect_fault(kFld1, vector::kMath);
  expect_fault(kFwait, vector::kMath);
  expect_fault({0xD9, 0x2B}, vector::kMath);  // fldcw
  expect_fault({0x0F, 0x77}, vector::kMath);  // emms
  EXPECT_EQ(cpu.rip, rip);
  run(kFnstswAx);
  EXPECT_EQ(cpu.gpr[kRax] & 0xFFFF, cpu.fx.status);
  run(kFnclex);
  EXPECT_FALSE(pending());
  run(kFwait);
}

TEST_F(X87, UnmaskingAnOldExceptionMakesItPending) {
  run(kFld1);
  run(kFldz);
  run(kFdivp);
  EXPECT_FALSE(pending());
  set_control(0x37B);
  EXPECT_TRUE(pending());
  expect_fault(kFwait, vector::kMath);
}

TEST_F(X87, UnmaskedOverflowOfAStoreKeepsMemoryAndStack) {
  cpu.poke(kBuffer, 1e300);
  cpu.poke<std::uint32_t>(kBuffer + 8, 0x12345678);
  run({0xDD, 0x03});
  set_control(0x37F & ~x87::kOverflow);
  run({0xD9, 0x5B, 0x08});  // fstp dword [rbx+8]
  EXPECT_TRUE(pending());
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer + 8), 0x12345678u);
  EXPECT_EQ(st(0), 1e300);
}

TEST_F(X87, UnmaskedInexactStoreIsDone) {
  cpu.poke(kBuffer, 0.1);
  run({0xDD, 0x03});
  set_control(0x37F & ~x87::kPrecision);
  run({0xD9, 0x5B, 0x08});
  EXPECT_TRUE(pending());
  EXPECT_EQ(cpu.peek<float>(kBuffer + 8), 0.1f);
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
}

TEST_F(X87, StoreThatFaultsHasNotPopped) {
  cpu.absent.insert(0x1A);
  cpu.set(kRbx, 0x1A000);
  run(kFld1);
  EXPECT_EQ(cpu.run({0xDD, 0x1B}), Next::kAborted);  // fstp qword [rbx]
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(cpu.run({0xDF, 0x33}), Next::kAborted);  // fbstp [rbx], the general way
  EXPECT_EQ(cpu.fault.vector, vector::kPage);
  EXPECT_EQ(st(0), 1.0);
  EXPECT_EQ(cpu.fx.abridged_tag, 0x80);
}

TEST_F(X87, RecordsWhereTheExceptionWas) {
  cpu.poke<std::uint32_t>(kBuffer, 0x7FA00000);  // a signalling NaN
  const std::uint64_t first = cpu.rip;
  run({0xD9, 0x03});  // fld dword [rbx], masked
  EXPECT_EQ(cpu.fx.instruction_pointer, first);
  EXPECT_EQ(cpu.fx.data_pointer, 0u);
  set_control(0x37E);
  run(kFnclex);
  const std::uint64_t second = cpu.rip;
  const std::array<std::uint8_t, 3> text{0xD9, 0x43, 0x00};
  std::memcpy(cpu.ram.data() + second, text.data(), text.size());
  run({0xD9, 0x43, 0x00});  // fld dword [rbx+0]
  EXPECT_TRUE(pending());
  EXPECT_EQ(cpu.fx.instruction_pointer, second);
  EXPECT_EQ(cpu.fx.data_pointer, kBuffer);
  EXPECT_EQ(cpu.fx.opcode, 0x143);
  run(kFnstswAx);  // a control instruction leaves them
  EXPECT_EQ(cpu.fx.instruction_pointer, second);
}

// ---- The environment ----------------------------------------------------------------------------

TEST_F(X87, EnvironmentOfThirtyTwoBits) {
  run(kFld1);
  run(kFldz);
  cpu.fx.instruction_pointer = 0x1122334455667788;
  cpu.fx.opcode = 0x123;
  run({0xD9, 0x33});  // fnstenv [rbx]
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer), 0xFFFF037Fu);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 4), 6 << 11);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 8), 0x1FFF);  // R7 valid, R6 zero
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer + 12), 0x55667788u);
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer + 16), 0x01230000u);
}

TEST_F(X87, StoringTheEnvironmentMasksEverything) {
  set_control(0x340);
  run({0xD9, 0x33});
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer), 0x340);
  EXPECT_EQ(cpu.fx.control, 0x37F);
}

TEST_F(X87, LoadingTheEnvironmentRenamesRegisters) {
  run(kFld1);
  run({0xD9, 0x33});
  cpu.poke<std::uint16_t>(kBuffer + 4, 5 << 11);
  run({0xD9, 0x23});  // fldenv [rbx]: TOP from 7 to 5
  EXPECT_EQ(x87_top(cpu.fx), 5u);
  EXPECT_EQ(st(2), 1.0);  // R7
  EXPECT_TRUE(x87_in_use(cpu.fx, 2));
  cpu.poke<std::uint16_t>(kBuffer, 0x37E);
  cpu.poke<std::uint16_t>(kBuffer + 4, 1);
  run({0xD9, 0x23});
  EXPECT_TRUE(pending());
}

TEST_F(X87, SaveAndRestoreOfBothSizes) {
  for (const bool narrow : {false, true}) {
    run(kFninit);
    run(kFld1);
    run({0xD9, 0xEB});  // fldpi
    const FxState before = cpu.fx;
    narrow ? run({0x66, 0xDD, 0x33}) : run({0xDD, 0x33});  // fnsave [rbx]
    EXPECT_EQ(cpu.fx.abridged_tag, 0);
    EXPECT_EQ(cpu.fx.control, 0x37F);
    EXPECT_EQ(x87_top(cpu.fx), 0u);
    run(kFldz);
    narrow ? run({0x66, 0xDD, 0x23}) : run({0xDD, 0x23});  // frstor [rbx]
    EXPECT_EQ(cpu.fx.st, before.st);
    EXPECT_EQ(cpu.fx.status, before.status);
    EXPECT_EQ(cpu.fx.abridged_tag, before.abridged_tag);
  }
}

TEST_F(X87, RealModeStoresLinearPointers) {
  cpu.cr0 &= ~std::uint64_t{1};
  cpu.fx.instruction_pointer = 0xABCDE;
  cpu.fx.data_pointer = 0x12345;
  cpu.fx.opcode = 0x321;
  run({0x66, 0xD9, 0x33});
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 6), 0xBCDE);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 8), 0xA321);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 10), 0x2345);
  EXPECT_EQ(cpu.peek<std::uint16_t>(kBuffer + 12), 0x1000);
  cpu.fx.instruction_pointer = cpu.fx.data_pointer = 0;
  run({0x66, 0xD9, 0x23});
  EXPECT_EQ(cpu.fx.instruction_pointer, 0xABCDEu);
  EXPECT_EQ(cpu.fx.data_pointer, 0x12345u);
  EXPECT_EQ(cpu.fx.opcode, 0x321);
}

// ---- The quick handlers -------------------------------------------------------------------------

class X87Fast : public X87 {
 protected:
  void fill() {
    cpu.fx = {};
    cpu.fx.control = static_cast<std::uint16_t>(0x7F | (random_() & 0xF00));
    cpu.fx.status = static_cast<std::uint16_t>(random_() & 0x7F7F);
    cpu.fx.abridged_tag = static_cast<std::uint8_t>(random_() % 3 == 0 ? random_() : 0xFF);
    if (random_() % 3 == 0) cpu.fx.abridged_tag = 0;
    for (Register& st : cpu.fx.st) {
      fill_register(st);
    }
    Register bytes{};
    fill_register(bytes);
    std::memcpy(cpu.ram.data() + kBuffer, bytes.data(), 10);
    if (random_() % 2 == 0) cpu.poke(kBuffer, random_() % 2 == 0 ? 1.5 : 1e-310);
    cpu.status = StatusFlags::from_eflags(random_());
  }

  void fill_register(Register& st) {
    std::uint64_t significand = std::uint64_t{random_()} << 32 | random_() | 1ull << 63;
    auto exponent = static_cast<std::uint16_t>(16383 - 40 + random_() % 80);
    switch (random_() % 8) {
      case 0:
        exponent = 0x7FFF;
        break;
      case 1:
        exponent = 0, significand >>= 2;
        break;
      case 2:
        significand = 0;
        break;
      case 3:
        significand = 1ull << 63;
        break;
      default:
        break;
    }
    exponent = static_cast<std::uint16_t>(exponent | (random_() & 0x8000));
    std::memcpy(st.data(), &significand, sizeof significand);
    std::memcpy(st.data() + 8, &exponent, sizeof exponent);
  }

  std::mt19937 random_{7};
};

TEST_F(X87Fast, AgreeWithTheGeneralWay) {
  std::array<Semantic, static_cast<std::size_t>(Op::kCount)> fast{};
  for (const SemanticEntry& entry : x87_fast_semantics()) {
    fast[static_cast<std::size_t>(entry.op)] = entry.function;
  }
  int compared = 0;
  for (unsigned escape = 0xD8; escape <= 0xDF; ++escape) {
    for (unsigned modrm = 0; modrm < 256; ++modrm) {
      if (modrm < 0xC0 && (modrm & 0xC7) != 3) continue;  // [rbx] is enough of memory
      std::array<std::uint8_t, 15> text{static_cast<std::uint8_t>(escape),
                                        static_cast<std::uint8_t>(modrm)};
      Insn insn;
      if (decode(text, CodeMode::k64, insn) != DecodeResult::kOk) continue;
      const Semantic function = fast[static_cast<std::size_t>(insn.op)];
      if (function == nullptr) continue;
      for (int i = 0; i < 60; ++i, ++compared) {
        fill();
        const FxState before = cpu.fx;
        const StatusFlags flags_before = cpu.status;
        const auto memory_before = cpu.peek<Register>(kBuffer);
        ASSERT_EQ(function(cpu, insn), Next::kNext);
        const FxState after = cpu.fx;
        const StatusFlags flags_after = cpu.status;
        const auto memory_after = cpu.peek<Register>(kBuffer);
        cpu.fx = before;
        cpu.status = flags_before;
        cpu.poke(kBuffer, memory_before);
        ASSERT_EQ(x87_general(cpu, insn), Next::kNext);
        ASSERT_EQ(std::memcmp(&cpu.fx, &after, sizeof after), 0)
            << std::hex << escape << " " << modrm << " status " << before.status << " -> "
            << after.status << " general " << cpu.fx.status;
        ASSERT_EQ(cpu.status.ax & 0xD501, flags_after.ax & 0xD501);
        ASSERT_EQ(cpu.peek<Register>(kBuffer), memory_after);
      }
    }
  }
  EXPECT_GT(compared, 10000);
}

}  // namespace
}  // namespace sm::soft
