// Machine: vCPUs that stop one another.
#include "vmm/cpu/soft/machine.h"

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "vmm/cpu/soft/mmu/mmu_fixture.h"

namespace sm::soft {
namespace {

using namespace std::chrono_literals;

// A vCPU in code that never leaves the guest by itself, like one that waits for another.
class MachineTest : public MmuTest {
 protected:
  void spin(Cpu& cpu) {
    machine_.enter_guest(cpu);
    while (!over_.load()) {
      if ((cpu.attention.load() & kAttentionPause) != 0) machine_.give_way(cpu);
    }
    machine_.leave_guest(cpu);
  }
  void stop_others(Cpu& cpu, std::uint32_t times) {
    machine_.enter_guest(cpu);
    for (std::uint32_t i = 0; i < times; ++i) const Machine::StopOthers stopped(machine_, cpu);
    machine_.leave_guest(cpu);
  }
  std::atomic<bool> over_{false};
};

// One stop follows the other, so that many are asked for while the other vCPU is on its way back.
TEST_F(MachineTest, EveryStopIsSeenByAVcpuThatStaysInTheGuest) {
  Cpu& other = add_vcpu(1).cpu;
  std::thread spinning([&] { spin(other); });
  constexpr std::uint32_t kStops = 1000000;
  auto stops = std::async(std::launch::async, [&] { stop_others(cpu(), kStops); });
  const bool done = stops.wait_for(60s) == std::future_status::ready;
  over_.store(true);  // whoever waits for it goes on
  stops.get();
  spinning.join();
  EXPECT_TRUE(done);
}

TEST_F(MachineTest, TwoStopEachOther) {
  Cpu& other = add_vcpu(1).cpu;
  constexpr std::uint32_t kStops = 1000000;
  auto first = std::async(std::launch::async, [&] { stop_others(cpu(), kStops); });
  auto second = std::async(std::launch::async, [&] { stop_others(other, kStops); });
  EXPECT_EQ(first.wait_for(60s), std::future_status::ready);
  EXPECT_EQ(second.wait_for(60s), std::future_status::ready);
}

}  // namespace
}  // namespace sm::soft
