// The state of a vCPU: what is set is what the guest has, and what the guest has is what is read.
#include <array>
#include <cstring>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

class StateTest : public EngineTest {};

TEST_P(StateTest, RegistersGoInAndOut) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_registers(), {.adjust = [](CpuState& state) {
                           for (std::size_t i = 0; i < 16; ++i) {
                             if (i != 4) state.gpr[i] = i * 0x0101'0101'0101'0101;
                           }
                         }});
  for (std::uint64_t round = 1; round <= 3; ++round) {
    run_to_done(machine);
    ASSERT_TRUE(machine.cpu().finish_pending_exit());
    const auto state = machine.cpu().state();
    ASSERT_TRUE(state) << state.error().text();
    for (std::size_t i = 0; i < 16; ++i) {
      if (i != 4) {
        EXPECT_EQ(state->gpr[i], i * 0x0101'0101'0101'0101 + round) << i;
      }
    }
    ASSERT_TRUE(machine.cpu().set_state(*state));
  }
}

TEST_P(StateTest, FpuAndDebugRegistersAreInTheState) {
  if (!available(Needs::kNative)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_fpu(), {.adjust = [](CpuState& state) {
                           state.gpr[0] = 0x1122'3344'5566'7788;
                           state.gpr[1] = 0x1234;
                           state.gpr[3] = 0x99AA'BBCC'DDEE'FF00;
                         }});
  run_to_done(machine);
  ASSERT_TRUE(machine.cpu().finish_pending_exit());
  const auto state = machine.cpu().state();
  ASSERT_TRUE(state) << state.error().text();
  constexpr std::size_t kSt = 32, kXmm = 160;
  const auto at = [&](std::size_t offset) {
    std::uint64_t value = 0;
    std::memcpy(&value, state->xsave.data() + offset, sizeof(value));
    return value;
  };
  EXPECT_EQ(at(kSt), 0xC90F'DAA2'2168'C235u);       // pi's significand
  EXPECT_EQ(at(kSt + 16), 0x8000'0000'0000'0000u);  // one's
  EXPECT_EQ(at(kXmm), 0x1122'3344'5566'7788u);
  EXPECT_EQ(at(kXmm + 15 * 16), 0x99AA'BBCC'DDEE'FF00u);
  EXPECT_EQ(state->dr[0], 0x1234u);
}

TEST_P(StateTest, StateSetTwiceIsTheSame) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_spin());
  auto first = machine.cpu().state();
  ASSERT_TRUE(first) << first.error().text();
  const Status set = machine.cpu().set_state(*first);
  ASSERT_TRUE(set) << set.error().text();
  auto second = machine.cpu().state();
  ASSERT_TRUE(second) << second.error().text();
  for (CpuState* state : {&*first, &*second}) {
    // The time-stamp counter goes on; KVM keeps its own idea of the adjustment.
    std::erase_if(state->msrs,
                  [](const MsrValue& msr) { return msr.index == 0x10 || msr.index == 0x3B; });
  }
  EXPECT_EQ(*first, *second);
}

TEST_P(StateTest, GuestSeesTheModelsCpuid) {
  if (!available(Needs::kNative)) GTEST_SKIP() << why_not();
  Machine machine = make(
      guest_cpuid(), {.model = CpuModel::kX86_64V2, .adjust = [](CpuState& s) { s.gpr[5] = 3; }});
  const std::array<std::uint32_t, 6> leaves = {0x1, 0, 0x8000'0002, 0, 0x4000'0000, 0};
  ASSERT_TRUE(machine.memory->write_object(GuestPhysAddr(0x30000), leaves));
  run_to_done(machine);
  const auto answers =
      machine.memory->read_object<std::array<std::uint32_t, 12>>(GuestPhysAddr(0x31000));
  ASSERT_TRUE(answers);
  constexpr std::uint32_t kSse42 = 1u << 20, kXsave = 1u << 26, kHypervisor = 1u << 31;
  EXPECT_EQ((*answers)[2] & (kSse42 | kXsave | kHypervisor), kSse42 | kHypervisor);
  EXPECT_EQ(std::memcmp(&(*answers)[4], "supermachine x86", 16), 0);
  EXPECT_EQ(std::memcmp(&(*answers)[9], "KVMKVMKVM\0\0\0", 12), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, StateTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
