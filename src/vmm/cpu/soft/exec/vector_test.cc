// MMX and SSE: what the comparison of single instructions with the real CPU in a program cannot
// show (control registers, modes, what is left after a fault), and a sample of results against the
// host's own instructions, here by intrinsics.
#include <gtest/gtest.h>
#include <immintrin.h>

#include <array>
#include <bit>
#include <random>

#include "vmm/cpu/soft/exec/integer_test_cpu.h"
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"

namespace sm::soft {
namespace {

using Bytes = std::array<std::uint8_t, 16>;
using Singles = std::array<float, 4>;

class Vector : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kBuffer = 0x18000;
  static constexpr std::uint64_t kAbsentPage = 0x1A;

  Vector() {
    enter_long_mode(cpu);
    cpu.cr0 &= ~(kCr0Em | kCr0Ts);
    cpu.cr4 |= kCr4Osfxsr | kCr4Osxmmexcpt;
    cpu.absent.insert(kAbsentPage);
    cpu.set(kRbx, kBuffer);
  }

  void expect_fault(Next next, std::uint8_t vector) {
    EXPECT_EQ(next, Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, vector);
  }
  template <class T>
  void set(unsigned reg, const T& value) {
    cpu.fx.xmm[reg] = std::bit_cast<Bytes>(value);
  }
  template <class T>
  T get(unsigned reg) const {
    return std::bit_cast<T>(cpu.fx.xmm[reg]);
  }
  std::uint64_t mmx_bits(unsigned reg) const {
    return low_u64(mmx(cpu, static_cast<std::uint8_t>(reg)));
  }

  IntegerCpu cpu;
};

// ---- Whether they may run -----------------------------------------------------------------------

TEST_F(Vector, EmulationIsUndefined) {
  cpu.cr0 |= kCr0Em | kCr0Ts;
  expect_fault(cpu.run({0x0F, 0x58, 0xC1}), vector::kUndefined);  // addps xmm0, xmm1
  expect_fault(cpu.run({0x0F, 0xFC, 0xC1}), vector::kUndefined);  // paddb mm0, mm1
}

TEST_F(Vector, TaskSwitchedIsNoMath) {
  cpu.cr0 |= kCr0Ts;
  expect_fault(cpu.run({0x0F, 0x58, 0xC1}), vector::kNoMath);
  expect_fault(cpu.run({0x0F, 0xFC, 0xC1}), vector::kNoMath);
  expect_fault(cpu.run({0x0F, 0xAE, 0x03}), vector::kNoMath);  // fxsave [rbx]
}

TEST_F(Vector, SseNeedsTheSystemsConsent) {
  cpu.cr4 &= ~kCr4Osfxsr;
  cpu.cr0 |= kCr0Ts;
  expect_fault(cpu.run({0x0F, 0x58, 0xC1}), vector::kUndefined);
  cpu.cr0 &= ~kCr0Ts;
  EXPECT_EQ(cpu.run({0x0F, 0xFC, 0xC1}), Next::kNext);  // MMX does not
}

TEST_F(Vector, MmxWaitsForX87Exceptions) {
  cpu.fx.control = 0x37E;
  cpu.fx.status = 0x8081;
  expect_fault(cpu.run({0x0F, 0xFC, 0xC1}), vector::kMath);
  expect_fault(cpu.run({0x0F, 0x77}), vector::kMath);         // emms
  expect_fault(cpu.run({0x0F, 0x2A, 0xC1}), vector::kMath);   // cvtpi2ps xmm0, mm1
  EXPECT_EQ(cpu.run({0x0F, 0x2A, 0x03}), Next::kNext);        // from memory: no MMX
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0xFC, 0xC1}), Next::kNext);  // paddb xmm0, xmm1
}

// ---- Memory -------------------------------------------------------------------------------------

TEST_F(Vector, SixteenBytesMustBeAligned) {
  cpu.set(kRbx, kBuffer + 8);
  expect_fault(cpu.run({0x0F, 0x28, 0x03}), vector::kProtection);  // movaps xmm0, [rbx]
  EXPECT_TRUE(cpu.fault.has_error_code);
  expect_fault(cpu.run({0x0F, 0x29, 0x03}), vector::kProtection);        // movaps [rbx], xmm0
  expect_fault(cpu.run({0x66, 0x0F, 0xFE, 0x03}), vector::kProtection);  // paddd xmm0, [rbx]
  expect_fault(cpu.run({0x0F, 0x58, 0x03}), vector::kProtection);        // addps xmm0, [rbx]
  EXPECT_EQ(cpu.run({0x0F, 0x10, 0x03}), Next::kNext);                   // movups
  EXPECT_EQ(cpu.run({0xF2, 0x0F, 0xF0, 0x03}), Next::kNext);             // lddqu
  EXPECT_EQ(cpu.run({0xF3, 0x0F, 0x58, 0x03}), Next::kNext);             // addss
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0x3A, 0x63, 0x03, 0}), Next::kNext);    // pcmpistri
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0x38, 0x30, 0x03}), Next::kNext);       // pmovzxbw, 8 bytes
}

TEST_F(Vector, FaultsLeaveEverything) {
  set(0, Singles{1, 2, 3, 4});
  cpu.set(kRbx, kAbsentPage << 12);
  expect_fault(cpu.run({0x0F, 0x58, 0x03}), vector::kPage);
  EXPECT_EQ(get<Singles>(0), (Singles{1, 2, 3, 4}));
  cpu.fx.status = 3u << 11;
  expect_fault(cpu.run({0x0F, 0xFC, 0x03}), vector::kPage);  // paddb mm0, [rbx]
  EXPECT_EQ(cpu.fx.status, 3u << 11);
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
}

TEST_F(Vector, MaskedStoreTouchesChosenBytesOnly) {
  const std::uint64_t end = kAbsentPage << 12;
  for (std::uint64_t i = 0; i < 8; ++i) {
    cpu.poke<std::uint8_t>(end - 8 + i, 0xEE);
  }
  cpu.set(kRdi, end - 8);  // the upper half would be in the absent page
  set(1, Bytes{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  set(2, Bytes{0x80, 0, 0xFF, 0x7F, 0x80});
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0xF7, 0xCA}), Next::kNext);  // maskmovdqu xmm1, xmm2
  EXPECT_EQ(cpu.peek<std::uint64_t>(end - 8), 0xEEEEEE05EE03EE01u);

  Bytes mask{0x80};
  mask[9] = 0x80;
  set(2, mask);
  set(1, Bytes{0x11});
  expect_fault(cpu.run({0x66, 0x0F, 0xF7, 0xCA}), vector::kPage);
  EXPECT_EQ(cpu.peek<std::uint64_t>(end - 8), 0xEEEEEE05EE03EE01u);
}

// ---- MMX and x87 --------------------------------------------------------------------------------

TEST_F(Vector, MmxRegistersArePhysicalOnes) {
  x87_write_top(cpu.fx, 5);
  for (std::uint8_t i = 0; i < 8; ++i) {
    cpu.fx.st[i][0] = static_cast<std::uint8_t>(0x10 + ((5 + i) & 7));  // physical number
  }
  EXPECT_EQ(mmx_bits(3), 0x13u);
  cpu.set(kRax, 0x1122334455667788);
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0x6E, 0xD8}), Next::kNext);  // movq mm3, rax
  EXPECT_EQ(x87_top(cpu.fx), 0u);
  EXPECT_EQ(cpu.fx.abridged_tag, 0xFF);
  EXPECT_EQ(mmx_bits(3), 0x1122334455667788u);
  EXPECT_EQ(cpu.fx.st[3][8], 0xFF);
  EXPECT_EQ(cpu.fx.st[3][9], 0xFF);
  EXPECT_EQ(mmx_bits(4), 0x14u);
  EXPECT_EQ(cpu.run({0x0F, 0x77}), Next::kNext);  // emms
  EXPECT_EQ(cpu.fx.abridged_tag, 0);
  EXPECT_EQ(mmx_bits(3), 0x1122334455667788u);
}

// ---- MXCSR --------------------------------------------------------------------------------------

constexpr std::initializer_list<std::uint8_t> kDivps = {0x0F, 0x5E, 0xC1};  // divps xmm0, xmm1

TEST_F(Vector, FlagsStick) {
  set(0, Singles{1, 1, 1, 1});
  set(1, Singles{1, 1, 3, 1});
  cpu.fx.mxcsr = 0x1F80;
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1FA0u);
  set(1, Singles{1, 1, 0, 1});
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1FA4u);
}

TEST_F(Vector, TheHostsFlagsAreNotTheGuests) {
  write_mxcsr(0x1FBF);
  set(0, Singles{2, 2, 2, 2});
  set(1, Singles{1, 1, 1, 1});
  cpu.fx.mxcsr = 0x1F80;
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1F80u);
}

TEST_F(Vector, FlagsTheGuestClearsStayClear) {
  set(0, Singles{1, 1, 1, 1});
  set(1, Singles{3, 3, 3, 3});
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1FA0u);
  cpu.poke<std::uint32_t>(kBuffer, 0x1F80);
  EXPECT_EQ(cpu.run({0x0F, 0xAE, 0x13}), Next::kNext);  // ldmxcsr [rbx]
  set(1, Singles{1, 1, 1, 1});
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1F80u);
}

TEST_F(Vector, RoundsAsTheGuestSaysAndTheHostAsBefore) {
  constexpr std::uint32_t kUp = 2u << 13, kDown = 1u << 13;
  for (const std::uint32_t rounding : {kUp, kDown}) {
    set(0, Singles{1, 1, 1, 1});
    set(1, Singles{3, 3, 3, 3});
    cpu.fx.mxcsr = 0x1F80 | rounding;
    EXPECT_EQ(cpu.run(kDivps), Next::kNext);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(get<Singles>(0)[0]),
              rounding == kUp ? 0x3EAAAAABu : 0x3EAAAAAAu);
    EXPECT_EQ(cpu.fx.mxcsr, 0x1FA0 | rounding);
    EXPECT_EQ(read_mxcsr() & ~mxcsr::kFlags, mxcsr::kDefault);
  }
}

TEST_F(Vector, ReservedBitsOfMxcsrAreRefused) {
  cpu.fx.mxcsr = 0x1F80;
  cpu.poke<std::uint32_t>(kBuffer, 0x11F80);
  expect_fault(cpu.run({0x0F, 0xAE, 0x13}), vector::kProtection);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1F80u);
  EXPECT_EQ(cpu.run({0x0F, 0xAE, 0x5B, 0x20}), Next::kNext);  // stmxcsr [rbx+32]
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer + 0x20), 0x1F80u);
}

TEST_F(Vector, UnmaskedExceptionStopsBeforeTheResult) {
  // One lane divides by zero, another is inexact: found before the computation, so only that.
  set(0, Singles{1, 1, 1, 1});
  set(1, Singles{3, 0, 1, 1});
  cpu.fx.mxcsr = 0x1F80 & ~(mxcsr::kZeroDivide << 7);
  expect_fault(cpu.run(kDivps), vector::kSimd);
  EXPECT_FALSE(cpu.fault.has_error_code);
  EXPECT_EQ(get<Singles>(0), (Singles{1, 1, 1, 1}));
  EXPECT_EQ(cpu.fx.mxcsr & mxcsr::kFlags, mxcsr::kZeroDivide);

  cpu.fx.mxcsr = 0x1F80 & ~(mxcsr::kPrecision << 7);
  expect_fault(cpu.run(kDivps), vector::kSimd);
  EXPECT_EQ(cpu.fx.mxcsr & mxcsr::kFlags, mxcsr::kZeroDivide | mxcsr::kPrecision);
  EXPECT_EQ(get<Singles>(0), (Singles{1, 1, 1, 1}));

  cpu.cr4 &= ~kCr4Osxmmexcpt;
  expect_fault(cpu.run(kDivps), vector::kUndefined);
}

TEST_F(Vector, UnmaskedExceptionThatDoesNotHappenChangesNothing) {
  set(0, Singles{1, 1, 1, 1});
  set(1, Singles{2, 2, 2, 2});
  cpu.fx.mxcsr = 0;  // all unmasked
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(get<Singles>(0)[3], 0.5f);
  EXPECT_EQ(cpu.fx.mxcsr, 0u);
}

TEST_F(Vector, OldFlagsOfUnmaskedExceptionsDoNotFault) {
  set(0, Singles{1, 1, 1, 1});
  set(1, Singles{2, 2, 2, 2});
  cpu.fx.mxcsr = mxcsr::kZeroDivide;
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, mxcsr::kZeroDivide);
}

TEST_F(Vector, UnmaskedUnderflowIsRaisedByExactResults) {
  const auto tiny = std::bit_cast<float>(0x00800000u);
  set(0, Singles{tiny, 1, 1, 1});
  set(1, Singles{2, 1, 1, 1});
  cpu.fx.mxcsr = 0x1F80;
  EXPECT_EQ(cpu.run(kDivps), Next::kNext);
  EXPECT_EQ(cpu.fx.mxcsr, 0x1F80u);  // masked: exact, no flag
  set(0, Singles{tiny, 1, 1, 1});
  cpu.fx.mxcsr = 0x9F80 & ~(mxcsr::kUnderflow << 7);  // flush-to-zero has no effect
  expect_fault(cpu.run(kDivps), vector::kSimd);
  EXPECT_EQ(cpu.fx.mxcsr & mxcsr::kFlags, mxcsr::kUnderflow);
}

// ---- FXSAVE, FXRSTOR ----------------------------------------------------------------------------

TEST_F(Vector, FxsaveWritesWhatTheModeHas) {
  for (std::uint64_t i = 0; i < 512; ++i) {
    cpu.poke<std::uint8_t>(kBuffer + i, 0xEE);
  }
  cpu.fx.instruction_pointer = 0x1122334455667788;
  set(15, Bytes{0x42});
  EXPECT_EQ(cpu.run({0x0F, 0xAE, 0x03}), Next::kNext);
  EXPECT_EQ(cpu.peek<std::uint64_t>(kBuffer + 8), 0x55667788u);
  EXPECT_EQ(cpu.peek<std::uint8_t>(kBuffer + 400), 0x42);
  EXPECT_EQ(cpu.peek<std::uint8_t>(kBuffer + 416), 0xEE);
  EXPECT_EQ(cpu.peek<std::uint32_t>(kBuffer + 28), 0xFFFFu);
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xAE, 0x03}), Next::kNext);  // fxsave64
  EXPECT_EQ(cpu.peek<std::uint64_t>(kBuffer + 8), 0x1122334455667788u);

  enter_protected_mode(cpu);
  cpu.cr4 |= kCr4Osfxsr;
  cpu.set(kRbx, kBuffer + 0x200);
  cpu.poke<std::uint8_t>(kBuffer + 0x200 + 288, 0xEE);
  EXPECT_EQ(cpu.run({0x0F, 0xAE, 0x03}), Next::kNext);
  EXPECT_EQ(cpu.peek<std::uint8_t>(kBuffer + 0x200 + 288), 0xEE);  // XMM8
}

TEST_F(Vector, FxrstorChecksBeforeItChanges) {
  set(3, Bytes{3});
  cpu.fx.control = 0x27F;
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xAE, 0x03}), Next::kNext);
  cpu.fx = FxState{};
  cpu.poke<std::uint32_t>(kBuffer + 24, 0xFFFF1F80);
  expect_fault(cpu.run({0x48, 0x0F, 0xAE, 0x0B}), vector::kProtection);
  EXPECT_EQ(cpu.fx.control, 0x37F);
  cpu.poke<std::uint32_t>(kBuffer + 24, 0x1F80);
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xAE, 0x0B}), Next::kNext);
  EXPECT_EQ(cpu.fx.control, 0x27F);
  EXPECT_EQ(get<Bytes>(3)[0], 3);
  cpu.set(kRbx, kBuffer + 8);
  expect_fault(cpu.run({0x48, 0x0F, 0xAE, 0x0B}), vector::kProtection);
}

TEST_F(Vector, NoRestoredStateCanTrapTheHost) {
  cpu.poke<std::uint16_t>(kBuffer, 0xE000);      // everything unmasked, bits that do not exist
  cpu.poke<std::uint16_t>(kBuffer + 2, 0x7F3F);  // all exceptions, no summary
  cpu.poke<std::uint32_t>(kBuffer + 24, 0x003F);
  EXPECT_EQ(cpu.run({0x48, 0x0F, 0xAE, 0x0B}), Next::kNext);
  EXPECT_EQ(cpu.fx.control, 0x0040);
  EXPECT_EQ(cpu.fx.status, 0xFFBF);
  expect_fault(cpu.run({0xD8, 0xC1}), vector::kMath);  // fadd st(0), st(1)
}

// ---- Results ------------------------------------------------------------------------------------

class VectorResult : public Vector {
 protected:
  Vec random() {
    static constexpr std::array<std::uint32_t, 10> kSpecial{
        0,          0x80000000, 0x3F800000, 0x7F800000, 0x7FC00000,
        0x7F800001, 1,          0x00800000, 0x7F7FFFFF, 0x80000001};
    std::array<std::uint32_t, 4> words;
    for (auto& word : words) {
      const auto value = static_cast<std::uint32_t>(generator_());
      word = value % 3 == 0 ? kSpecial[value / 3 % kSpecial.size()]
                            : static_cast<std::uint32_t>(generator_());
    }
    return std::bit_cast<Vec>(words);
  }

  // `text` works on xmm0 and xmm1, or [rbx]; `expected` does the same with the host's.
  template <class Expected>
  void compare(std::initializer_list<std::uint8_t> text, Expected&& expected) {
    for (int i = 0; i < 300; ++i) {
      const std::uint32_t mode = static_cast<std::uint32_t>(generator_()) & 0xE040u;
      Vec a = random();
      const Vec b = random();
      set(0, a);
      set(1, b);
      cpu.poke(kBuffer, std::bit_cast<Bytes>(b));
      cpu.fx.mxcsr = 0x1F80 | mode;
      ASSERT_EQ(cpu.run(text), Next::kNext);
      write_mxcsr(0x1F80 | mode);
      a = expected(a, b);
      const std::uint32_t host = read_mxcsr();
      write_mxcsr(0x1F80);
      ASSERT_EQ(get<Bytes>(0), std::bit_cast<Bytes>(a));
      ASSERT_EQ(cpu.fx.mxcsr, host);
    }
  }

 private:
  std::mt19937 generator_{1};
};

// Not inlined: between the two writes of MXCSR.
#define HOST(target_name, expression)                                    \
  [](Vec a, Vec b) __attribute__((noinline, target(target_name)))->Vec { \
    asm volatile("" : "+x"(a), "+x"(b) : : "memory");                    \
    Vec result = expression;                                             \
    asm volatile("" : "+x"(result) : : "memory");                        \
    return result;                                                       \
  }

TEST_F(VectorResult, Integers) {
  compare({0x66, 0x0F, 0xDC, 0xC1}, HOST("sse2", _mm_adds_epu8(a, b)));
  compare({0x66, 0x0F, 0xF5, 0x03}, HOST("sse2", _mm_madd_epi16(a, b)));
  compare({0x66, 0x0F, 0x38, 0x00, 0xC1}, HOST("ssse3", _mm_shuffle_epi8(a, b)));
  compare({0x66, 0x0F, 0x38, 0x37, 0x03}, HOST("sse4.2", _mm_cmpgt_epi64(a, b)));
  compare({0x66, 0x0F, 0x73, 0xF0, 0x11}, HOST("sse2", _mm_slli_epi64(a, 17)));
  compare({0x66, 0x0F, 0x73, 0xD8, 0x05}, HOST("sse2", _mm_srli_si128(a, 5)));
  compare({0x66, 0x0F, 0x70, 0xC1, 0x1B}, HOST("sse2", _mm_shuffle_epi32(b, 0x1B)));
  compare({0x66, 0x0F, 0x3A, 0x0F, 0x03, 0x07}, HOST("ssse3", _mm_alignr_epi8(a, b, 7)));
  compare({0x66, 0x0F, 0x3A, 0x42, 0xC1, 0x05}, HOST("sse4.1", _mm_mpsadbw_epu8(a, b, 5)));
}

TEST_F(VectorResult, FloatsInEveryMode) {
  compare({0x0F, 0x58, 0xC1},
          HOST("sse2", _mm_castps_si128(_mm_castsi128_ps(a) + _mm_castsi128_ps(b))));
  compare({0x66, 0x0F, 0x59, 0x03},
          HOST("sse2", _mm_castpd_si128(_mm_castsi128_pd(a) * _mm_castsi128_pd(b))));
  compare({0x0F, 0x51, 0xC1}, HOST("sse2", _mm_castps_si128(_mm_sqrt_ps(_mm_castsi128_ps(b)))));
  compare({0x66, 0x0F, 0x5A, 0x03},
          HOST("sse2", _mm_castps_si128(_mm_cvtpd_ps(_mm_castsi128_pd(b)))));
  compare({0xF3, 0x0F, 0x5B, 0xC1}, HOST("sse2", _mm_cvttps_epi32(_mm_castsi128_ps(b))));
  compare({0x66, 0x0F, 0x3A, 0x08, 0xC1, 0x04},
          HOST("sse4.1", _mm_castps_si128(_mm_round_ps(_mm_castsi128_ps(b), 4))));
  compare({0x0F, 0xC2, 0xC1, 0x05},
          HOST("sse2", _mm_castps_si128(_mm_cmpnlt_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b)))));
  compare(
      {0x66, 0x0F, 0x3A, 0x40, 0xC1, 0xF1},
      HOST("sse4.1", _mm_castps_si128(_mm_dp_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0xF1))));
}

TEST_F(VectorResult, Cryptography) {
  if (__builtin_cpu_supports("aes") == 0 || __builtin_cpu_supports("pclmul") == 0) {
    GTEST_SKIP() << "the host has no AES";
  }
  compare({0x66, 0x0F, 0x38, 0xDC, 0xC1}, HOST("aes", _mm_aesenc_si128(a, b)));
  compare({0x66, 0x0F, 0x38, 0xDF, 0x03}, HOST("aes", _mm_aesdeclast_si128(a, b)));
  compare({0x66, 0x0F, 0x3A, 0xDF, 0xC1, 0x36}, HOST("aes", _mm_aeskeygenassist_si128(b, 0x36)));
  compare({0x66, 0x0F, 0x3A, 0x44, 0xC1, 0x11}, HOST("pclmul", _mm_clmulepi64_si128(a, b, 0x11)));
}

TEST_F(VectorResult, TextOperationsSetRegistersAndFlags) {
  set(0, std::array<char, 16>{"the quick brown"});
  set(1, std::array<char, 16>{"wq"});
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0x3A, 0x63, 0xC8, 0x00}), Next::kNext);  // pcmpistri xmm1, xmm0
  EXPECT_EQ(cpu.gpr[kRcx], 4u);  // the first of either letter
  EXPECT_TRUE(cpu.status.cf());
  EXPECT_TRUE(cpu.status.zf());
  EXPECT_TRUE(cpu.status.sf());
  cpu.set(kRax, 0xFFFFFFFF00000001);  // length 1: only the w counts
  cpu.set(kRdx, 16);
  EXPECT_EQ(cpu.run({0x66, 0x0F, 0x3A, 0x61, 0xC8, 0x00}), Next::kNext);  // pcmpestri
  EXPECT_EQ(cpu.gpr[kRcx], 13u);
  // With REX.W the whole register counts: a large negative length is 16.
  EXPECT_EQ(cpu.run({0x66, 0x48, 0x0F, 0x3A, 0x61, 0xC8, 0x00}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRcx], 4u);
}

TEST_F(VectorResult, ComparisonsSetFlags) {
  cpu.status = StatusFlags::from_eflags(eflags::kStatus);
  set(0, Singles{1});
  set(1, Singles{2});
  EXPECT_EQ(cpu.run({0x0F, 0x2F, 0xC1}), Next::kNext);  // comiss xmm0, xmm1
  EXPECT_EQ(cpu.status.eflags(), eflags::kCf);
  set(1, Singles{std::bit_cast<float>(0x7FC00000u)});
  EXPECT_EQ(cpu.run({0x0F, 0x2E, 0xC1}), Next::kNext);  // ucomiss
  EXPECT_EQ(cpu.status.eflags(), eflags::kCf | eflags::kPf | eflags::kZf);
  EXPECT_EQ(cpu.fx.mxcsr & mxcsr::kFlags, 0u);
  EXPECT_EQ(cpu.run({0x0F, 0x2F, 0xC1}), Next::kNext);  // comiss signals a quiet NaN
  EXPECT_EQ(cpu.fx.mxcsr & mxcsr::kFlags, mxcsr::kInvalid);
}

}  // namespace
}  // namespace sm::soft
