// Hostile tables and registers: whatever stands in them, an instruction or event is all or nothing
// and the CPU stays in a state that exists.
#include <gtest/gtest.h>

#include <random>

#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/event/far_transfer.h"
#include "vmm/cpu/soft/event/fast_call.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/returns.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/event/test_cpu.h"

namespace sm::soft {
namespace {

// Everything that must not change when nothing has happened.
struct Visible {
  std::array<std::uint64_t, 18> gpr;
  std::uint64_t rip, rflags, cr0, cr3, cr4, efer;
  std::uint8_t cpl;
  CodeMode mode;
  std::array<std::uint16_t, 6> selectors;
  bool operator==(const Visible&) const = default;
};
Visible visible(const TestCpu& cpu) {
  Visible out{cpu.gpr, cpu.rip,  cpu.rflags(), cpu.cr0,  cpu.cr3,
              cpu.cr4, cpu.efer, cpu.cpl,      cpu.mode, {}};
  for (std::size_t i = 0; i < 6; ++i) out.selectors[i] = cpu.segment[i].selector;
  return out;
}

class Hostile {
 public:
  explicit Hostile(std::uint32_t seed) : random_(seed) {}

  void prepare(TestCpu& cpu) {
    pick(3) == 0 ? enter_protected_mode(cpu) : enter_long_mode(cpu);
    for (unsigned i = 0; i < 8; ++i) corrupt(cpu, place::kGdt, selector::kLast + 8);
    for (unsigned i = 0; i < 64; ++i) corrupt(cpu, place::kIdt, 0x1000);
    for (unsigned i = 0; i < 3; ++i) corrupt(cpu, place::kTss, 0x68);
    if (pick(2) == 0) enter_user(cpu);
    if (pick(4) == 0) cpu.cr0 &= ~(cr0::kPe | cr0::kPg), cpu.efer = 0, cpu.cpl = 0;
    cpu.mode = code_mode_of(cpu);
    if (pick(4) == 0) cpu.absent.insert(pick(16));
    if (pick(4) == 0) cpu.read_only.insert(pick(16));
    if (pick(8) == 0) cpu.device.insert(pick(16));
    for (std::uint64_t at = 0x6F80; at < 0x8080; at += 8) cpu.poke(at, word());
    if (pick(3) == 0) cpu.gpr[kRsp] = word();
    cpu.gpr[kRax] = 0x5000;
    cpu.poke(0x5000, word());
    cpu.poke(0x5008, word());
    cpu.gpr[kRbx] = word();
    cpu.gpr[kRcx] = word();
  }

  Next act(TestCpu& cpu) {
    constexpr std::uint8_t kSizes[] = {2, 4, 8};
    const std::uint32_t size = kSizes[pick(cpu.mode == CodeMode::k64 ? 3 : 2)];
    const auto selector = static_cast<std::uint16_t>(word());
    switch (pick(8)) {
      case 0:
        return interrupt_return(cpu, size);
      case 1:
        return far_return(cpu, size, static_cast<std::uint16_t>(pick(0x20)));
      case 2:
        return far_call(cpu, {word(), selector}, size, cpu.rip);
      case 3:
        return far_jump(cpu, {word(), selector});
      case 4:
        return software_interrupt(cpu, static_cast<std::uint8_t>(pick(256)), cpu.rip);
      case 5:
        return system_return(cpu, size);
      case 6:
        return load_segment(cpu, static_cast<Segment>(pick(2) * 2), selector) ? Next::kNext
                                                                              : Next::kAborted;
      default:
        return instruction(cpu);
    }
  }

  Next event(TestCpu& cpu) {
    switch (pick(3)) {
      case 0:
        return deliver_interrupt(cpu, static_cast<std::uint8_t>(pick(256)));
      case 1:
        return deliver_nmi(cpu);
      default:
        raise(cpu, static_cast<std::uint8_t>(pick(20)), 0);
        return deliver_fault(cpu);
    }
  }

 private:
  std::uint32_t pick(std::uint32_t count) { return static_cast<std::uint32_t>(random_()) % count; }
  // Selectors of the table, small numbers, addresses, anything.
  std::uint64_t word() {
    switch (pick(5)) {
      case 0:
        return pick(selector::kLast + 8);
      case 1:
        return pick(0x10) * 0x1000;
      case 2:
        return random_();
      case 3:
        return 0xFFFFFFFF00000000 | random_();
      default:
        return (random_() & 0xFF8) | pick(4);
    }
  }
  void corrupt(TestCpu& cpu, std::uint64_t table, std::uint32_t size) {
    const std::uint64_t at = table + pick(size);
    cpu.poke(at, static_cast<std::uint8_t>(cpu.peek<std::uint8_t>(at) ^ 1u << pick(8)));
  }
  Next instruction(TestCpu& cpu) {
    switch (pick(8)) {
      case 0:
        return cpu.step({0x0F, 0x00, 0xDB});  // ltr bx
      case 1:
        return cpu.step({0x0F, 0x00, 0xD3});  // lldt bx
      case 2:
        return cpu.step({0x0F, 0x02, 0xC3});  // lar eax, ebx
      case 3:
        return cpu.step({0x0F, 0x22, 0xC3});  // mov cr0, rbx
      case 4:
        return cpu.step({0x0F, 0x22, 0xE3});  // mov cr4, rbx
      case 5:
        return cpu.step({0x0F, 0x30});  // wrmsr
      case 6:
        return cpu.step({0x0F, 0xB2, 0x18});  // lss ebx, [rax]
      default:
        return cpu.step({0x0F, 0x01, 0x10});  // lgdt [rax]
    }
  }

  std::mt19937_64 random_;
};

// Of the state after an event or a successful instruction.
void expect_consistent(const TestCpu& cpu, const Visible& before) {
  EXPECT_EQ(cpu.mode, code_mode_of(cpu));
  EXPECT_LE(cpu.cpl, 3);
  // Protected mode begins with the selectors of real mode.
  if (protected_mode(cpu) && (before.cr0 & cr0::kPe) != 0) {
    EXPECT_EQ(cpu.segment[1].selector & 3, cpu.cpl);
  }
  if (cpu.mode == CodeMode::k64) {
    EXPECT_TRUE(is_canonical_address(cpu.rip)) << std::hex << cpu.rip;
  }
}

TEST(Hostile, AnInstructionIsAllOrNothing) {
  constexpr std::uint32_t kRounds = 8000;
  std::uint32_t refused = 0;
  for (std::uint32_t seed = 0; seed < kRounds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    TestCpu cpu;
    Hostile hostile(seed);
    hostile.prepare(cpu);
    const Visible before = visible(cpu);
    if (hostile.act(cpu) == Next::kAborted) {
      ++refused;
      EXPECT_EQ(visible(cpu), before);
    } else {
      expect_consistent(cpu, before);
    }
  }
  EXPECT_GT(refused, kRounds / 4);
  EXPECT_LT(refused, kRounds * 3 / 4 + kRounds / 8) << "hardly anything happened";
}

TEST(Hostile, AnEventIsDeliveredOrShutsDown) {
  constexpr std::uint32_t kRounds = 8000;
  std::uint32_t shutdowns = 0;
  for (std::uint32_t seed = 0; seed < kRounds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    TestCpu cpu;
    Hostile hostile(seed);
    hostile.prepare(cpu);
    const Visible before = visible(cpu);
    const Next next = hostile.event(cpu);
    EXPECT_FALSE(cpu.io.active());
    EXPECT_EQ(next == Next::kAborted, cpu.shutdown);
    if (next == Next::kAborted) {
      ++shutdowns;
      EXPECT_EQ(visible(cpu), before);
    } else {
      expect_consistent(cpu, before);
    }
  }
  EXPECT_GT(shutdowns, kRounds / 100);
  EXPECT_LT(shutdowns, kRounds / 2);
}

}  // namespace
}  // namespace sm::soft
