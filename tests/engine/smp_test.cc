// Several vCPUs: start-up, locked operations, code that another vCPU writes.
#include <thread>
#include <vector>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

class SmpTest : public EngineTest {
 protected:
  // Runs every vCPU of the machine in a thread of its own until it writes to kDonePort.
  void run_all(Machine& machine) {
    std::vector<std::thread> threads;
    for (const auto& vcpu : machine.vcpus) {
      threads.emplace_back([&cpu = *vcpu] {
        Watchdog watchdog(cpu, std::chrono::seconds(60));
        const VcpuExit exit = cpu.run();
        const auto* pio = std::get_if<ExitPio>(&exit);
        EXPECT_TRUE(pio != nullptr && pio->port == kDonePort) << "exit " << exit.index();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  // A machine whose vCPUs all start at the guest's beginning, with their number in rbx and `rounds`
  // in rbp.
  Machine make_pair(std::span<const std::byte> code, std::uint64_t rounds) {
    Machine machine = make(code, {.vcpus = 2});
    for (std::uint32_t i = 0; i < 2; ++i) {
      CpuState state = start_state();
      state.gpr[3] = i;
      state.gpr[4] = kStackTop - i * 0x1000;
      state.gpr[5] = rounds;
      EXPECT_TRUE(machine.vcpus[i]->set_state(state));
    }
    return machine;
  }
  std::uint64_t word(Machine& machine, std::uint64_t at) {
    return machine.memory->read_object<std::uint64_t>(GuestPhysAddr(at)).value_or(~0ull);
  }
};

TEST_P(SmpTest, ApplicationProcessorStartsInRealMode) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_start_ap(), {.vcpus = 2});
  ASSERT_TRUE(machine.memory->write(GuestPhysAddr(0x8000), guest_ap_real_mode()));
  std::thread second([&] {
    Watchdog watchdog(*machine.vcpus[1], std::chrono::seconds(20));
    const VcpuExit exit = machine.vcpus[1]->run();
    const auto* pio = std::get_if<ExitPio>(&exit);
    ASSERT_NE(pio, nullptr);
    EXPECT_EQ(pio->port, 0x77);
    EXPECT_EQ(pio->data[0], std::byte{0x42});
  });
  run_to_done(machine);
  second.join();
}

TEST_P(SmpTest, LockedAdditionsAreNotLost) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  // Hosts may make locked operations over a cache line's end slow on purpose, in guests too.
  const std::uint64_t rounds = GetParam().name == "kvm" ? 10 : 3000;
  Machine machine = make_pair(guest_locked_add(), rounds);
  run_all(machine);
  EXPECT_EQ(word(machine, 0x30100), 2 * rounds);
  EXPECT_EQ(word(machine, kCode + 0xf00), 2 * rounds);
  // A KVM that emulates the instruction has no lock for what lies on two lines.
  if (!available(Needs::kNative)) return;
  EXPECT_EQ(word(machine, 0x3003c), 2 * rounds);
  EXPECT_EQ(word(machine, 0x31ffc), 2 * rounds);
}

TEST_P(SmpTest, CodeWrittenByAnotherProcessorIsSeen) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  constexpr std::uint64_t kRounds = 3000;
  Machine machine = make_pair(guest_cross_modify(), kRounds);
  run_all(machine);
  EXPECT_EQ(word(machine, 0x30040) & 0xFFFF'FFFF, kRounds);
  EXPECT_EQ(word(machine, 0x30080), 0u) << "wrong results of its own changes";
  EXPECT_EQ(word(machine, 0x300c0), 0u) << "wrong results of the other's changes";
}

INSTANTIATE_TEST_SUITE_P(Engines, SmpTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
