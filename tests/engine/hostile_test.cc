// Kernels that mean harm to whoever runs them. Whatever they do, run() gives the exits of a guest
// and answers a kick. What the real processor does with them is its makers' affair, so that KVM is
// left out.
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

constexpr std::uint64_t kMemory = 2u << 20;
constexpr std::uint64_t kPml4 = 0x3000, kPdpt = 0x4000, kDirectory = 0x5000, kTask = 0x32000;
constexpr std::uint64_t kDevice = 0xD000'0000, kLocalApic = 0xFEE0'0000, kIoApic = 0xFEC0'0000,
                        kNothing = 0x8000'0000;
const std::vector<std::uint64_t> kBadPlaces = {
    kDevice,     kLocalApic,     kIoApic,          kNothing,   kMemory,  kMemory - 4,
    kMemory - 1, 0xFF'FFFF'F000, 0x7FFF'FFFF'F000, 1ull << 63, ~0ull - 7};

enum class End : std::uint8_t { kDone, kShutdown, kHalted, kKicked, kManyExits };

class HostileTest : public EngineTest {
 protected:
  void SetUp() override {
    if (GetParam().name == "kvm") GTEST_SKIP() << "tests of the software CPU";
  }

  // Until the guest ends, somehow, or `limit` is over: then a kick must end it.
  static End run(EngineVcpu& cpu, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    constexpr int kManyExits = 100'000;
    Watchdog watchdog(cpu, limit);
    for (int i = 0; i < kManyExits; ++i) {
      const VcpuExit exit = cpu.run();
      if (const auto* pio = std::get_if<ExitPio>(&exit)) {
        if (pio->port == kDonePort) return End::kDone;
        if (!pio->is_write) std::memset(pio->data.data(), 0x5A, pio->data.size());
      } else if (const auto* mmio = std::get_if<ExitMmio>(&exit)) {
        if (!mmio->is_write) std::memset(mmio->data.data(), 0x5A, mmio->data.size());
      } else if (const auto* fault = std::get_if<ExitFault>(&exit)) {
        ADD_FAILURE() << "the engine gave up: " << fault->why;
        return End::kShutdown;
      } else if (std::holds_alternative<ExitShutdown>(exit)) {
        return End::kShutdown;
      } else if (std::holds_alternative<ExitHalt>(exit)) {
        return End::kHalted;
      } else if (watchdog.fired()) {
        return End::kKicked;
      }
    }
    return End::kManyExits;
  }
  // All vCPUs of a machine, each for ever, until a kick.
  static void run_all_until_kicked(Machine& machine, std::chrono::milliseconds limit) {
    std::vector<std::thread> threads;
    for (const auto& vcpu : machine.vcpus) {
      threads.emplace_back([&cpu = *vcpu, limit] { EXPECT_EQ(run(cpu, limit), End::kKicked); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::uint64_t word(Machine& machine, std::uint64_t at) {
    return machine.memory->read_object<std::uint64_t>(GuestPhysAddr(at)).value_or(0);
  }
  template <class T>
  void put(Machine& machine, std::uint64_t at, const T& value) {
    ASSERT_TRUE(machine.memory->write_object(GuestPhysAddr(at), value));
  }
  // A machine whose vCPUs all run: the first `first`, the others `other`, with their number in rbx.
  Machine make_many(std::span<const std::byte> first, std::span<const std::byte> other,
                    std::uint32_t vcpus) {
    constexpr std::uint64_t kOtherCode = 0x18000;
    Machine machine = make(first, {.vcpus = vcpus});
    EXPECT_TRUE(machine.memory->write(GuestPhysAddr(kOtherCode), other));
    for (std::uint32_t i = 0; i < vcpus; ++i) {
      CpuState state = start_state();
      if (i != 0) state.rip = kOtherCode;
      state.gpr[3] = i;
      state.gpr[4] = kStackTop - i * 0x1000;
      state.gpr[5] = 20000;
      EXPECT_TRUE(machine.vcpus[i]->set_state(state));
    }
    return machine;
  }
};

TEST_P(HostileTest, WildPageTables) {
  constexpr std::array<std::uint64_t, 4> kLevels = {kPml4, kPdpt, kDirectory, 0x33000};
  std::vector<std::uint64_t> entries = {
      0, ~0ull, kPml4 | 3, kPml4 | 0x83, 1 | 1ull << 51, 0x80 | 3, 1ull << 63 | 3};
  for (const std::uint64_t place : kBadPlaces) {
    entries.push_back(place | 3);
    entries.push_back(place | 0x83);
  }
  for (std::size_t level = 0; level < kLevels.size(); ++level) {
    for (const std::uint64_t entry : entries) {
      for (std::uint64_t how = 0; how < 3; ++how) {
        // The second GiB's or, on the highest level, the second 512 GiB's first page.
        const std::uint64_t address = level == 0 ? 1ull << 39 : level == 1 ? 1ull << 30 : 2u << 20;
        Machine machine = make(guest_touch(), {.adjust = [&](CpuState& state) {
                                 state.gpr[1] = address + 8;
                                 state.gpr[3] = how;
                               }});
        if (level == 3) put(machine, kDirectory + 8, kLevels[3] | 3);
        put(machine, kLevels[level] + (level == 3 ? 0 : 8), entry);
        const End end = run(machine.cpu());
        EXPECT_TRUE(end == End::kDone || end == End::kShutdown || end == End::kManyExits)
            << "level " << level << " entry " << std::hex << entry << " how " << how << " end "
            << static_cast<int>(end);
      }
    }
  }
}

// The tables of everything, the processor's own code among them, are not where memory is.
TEST_P(HostileTest, WildRootTable) {
  for (const std::uint64_t place : kBadPlaces) {
    if (place >> 40 != 0) continue;  // not accepted in CR3
    Machine machine =
        make(guest_spin(), {.adjust = [&](CpuState& s) { s.cr3 = place & ~0xFFFull; }});
    const End end = run(machine.cpu(), std::chrono::milliseconds(200));
    EXPECT_TRUE(end == End::kShutdown || end == End::kKicked) << std::hex << place;
  }
}

TEST_P(HostileTest, EveryModelSpecificRegister) {
  constexpr std::uint64_t kCount = 0x2000;
  for (const std::uint64_t base :
       {0x0ull, 0x2000ull, 0x4000'0000ull, 0x4B56'4000ull, 0x8000'0000ull, 0xC000'0000ull,
        0xC001'0000ull, 0xFFFF'E000ull}) {
    // A register may well end the guest; then a new one begins behind it.
    for (std::uint64_t index = base; index < base + kCount;) {
      Machine machine = make(guest_msr_storm(), {.adjust = [&](CpuState& state) {
                               state.gpr[3] = index;
                               state.gpr[5] = base + kCount - index;
                               state.gpr[12] = index * 77 + 1;
                             }});
      const End end = run(machine.cpu(), std::chrono::seconds(3));
      if (end == End::kDone) break;
      const std::uint64_t stopped = word(machine, kData) & 0xFFFF'FFFF;
      index = std::max(stopped, index) + 1;
    }
  }
}

TEST_P(HostileTest, CodeWhereNoMemoryIs) {
  for (const std::uint64_t place : kBadPlaces) {
    Machine machine = make(guest_jump(), {.adjust = [&](CpuState& s) { s.gpr[1] = place; }});
    // Prefixes up to the end of memory: the instruction goes on where nothing answers.
    ASSERT_TRUE(machine.memory->write(GuestPhysAddr(kMemory - 16),
                                      std::vector<std::byte>(16, std::byte{0x66})));
    EXPECT_EQ(run(machine.cpu()), End::kDone) << std::hex << place;
  }
}

TEST_P(HostileTest, EndlessExceptionsAnswerAKick) {
  Machine machine = make(
      guest_endless_faults(), {.adjust = [](CpuState& state) {
        state.tr = {.base = kTask, .limit = 0x67, .selector = 0x20, .type = 0xB, .present = true};
      }});
  put(machine, kTask + 36, std::uint64_t{kStackTop});
  EXPECT_EQ(run(machine.cpu(), std::chrono::milliseconds(50)), End::kKicked);
}

TEST_P(HostileTest, TablesWhereNoMemoryIs) {
  for (const std::uint64_t idt : kBadPlaces) {
    for (const std::uint64_t gdt : {std::uint64_t{0x1000}, kDevice, kLocalApic, kMemory - 12}) {
      for (const std::uint64_t stack :
           {kStackTop, kDevice + 0x100, kLocalApic + 0x100, kMemory + 8}) {
        for (const std::uint64_t with_task : {0u, 1u}) {
          Machine machine = make(guest_tables(), {.adjust = [&](CpuState& state) {
                                   state.gpr[1] = stack;
                                   state.gpr[3] = with_task;
                                 }});
          struct [[gnu::packed]] Table {
            std::uint16_t limit;
            std::uint64_t base;
          };
          put(machine, kData, Table{0xFFF, idt});
          put(machine, kData + 16, Table{0xFF, gdt});
          // A task segment on the device, for those who have a table that says so.
          put(machine, 0x1020, std::array<std::uint64_t, 2>{0xD000'8900'0000'0067, 0});
          const End end = run(machine.cpu());
          EXPECT_TRUE(end == End::kShutdown || end == End::kManyExits)
              << std::hex << idt << " " << gdt << " " << stack << " " << static_cast<int>(end);
        }
      }
    }
  }
}

TEST_P(HostileTest, AStackOnADevice) {
  for (const std::uint64_t stack : {kDevice + 0x1000, kLocalApic + 0x1000, kIoApic + 0x80,
                                    kNothing + 0x1000, kDevice + 0x1003, kMemory + 4}) {
    Machine machine = make(guest_stack_on(), {.adjust = [&](CpuState& state) {
                             state.gpr[1] = stack;
                             state.cr4 |= 0x600;
                           }});
    const End end = run(machine.cpu());
    EXPECT_TRUE(end == End::kDone || end == End::kShutdown || end == End::kManyExits)
        << std::hex << stack << " " << static_cast<int>(end);
  }
}

TEST_P(HostileTest, StringsOverAnything) {
  for (std::uint64_t which = 0; which < 7; ++which) {
    for (const std::uint64_t from : kBadPlaces) {
      for (const std::uint64_t count : {std::uint64_t{3}, std::uint64_t{5000}, ~std::uint64_t{0}}) {
        Machine machine = make(guest_strings(), {.adjust = [&](CpuState& state) {
                                 state.gpr[1] = count;
                                 state.gpr[2] = 0x10;
                                 state.gpr[6] = from;
                                 state.gpr[8] = which;
                                 state.gpr[9] = which % 2 == 0 ? from - 0x1001 : kMemory - 0x1003;
                               }});
        const End end = run(machine.cpu(), std::chrono::milliseconds(100));
        EXPECT_NE(end, End::kHalted);
      }
    }
  }
}

// The same page everywhere: a string without an end.
TEST_P(HostileTest, AStringWithoutAnEndAnswersAKick) {
  for (const std::uint64_t which : {0u, 1u, 4u}) {
    Machine machine = make(guest_strings(), {.adjust = [&](CpuState& state) {
                             state.gpr[1] = ~0ull;
                             state.gpr[6] = state.gpr[9] = 1ull << 39;
                             state.gpr[8] = which;
                           }});
    constexpr std::uint64_t kTables = 0x100000;
    std::array<std::uint64_t, 512> same{};
    same.fill(kTables | 3);
    put(machine, kTables, same);
    same.fill(0x180000 | 3);
    put(machine, kTables + 0x1000, same);
    put(machine, kPml4 + 8, (kTables + 0x2000) | 3);
    same.fill((kTables + 0x3000) | 3);
    put(machine, kTables + 0x2000, same);
    same.fill((kTables + 0x1000) | 3);
    put(machine, kTables + 0x3000, same);
    for (std::uint64_t i = 2; i < 256; ++i) put(machine, kPml4 + i * 8, (kTables + 0x2000) | 3);
    EXPECT_EQ(run(machine.cpu(), std::chrono::milliseconds(50)), End::kKicked) << which;
  }
}

TEST_P(HostileTest, StormsOfInterruptsAnswerAKick) {
  for (const std::uint64_t what : {0x4040u, 0x4400u, 0xC540u}) {
    Machine machine = make_many(guest_storm(), guest_victim(), 4);
    CpuState state = start_state();
    state.gpr[3] = what;
    ASSERT_TRUE(machine.cpu().set_state(state));
    run_all_until_kicked(machine, std::chrono::milliseconds(300));
    EXPECT_NE(word(machine, kData), 0u) << "the sender did not come on";
  }
}

TEST_P(HostileTest, TwoWhoStormEachOther) {
  Machine machine = make_many(guest_storm(), guest_storm(), 3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    CpuState state = start_state();
    state.gpr[3] = i == 2 ? 0x4400 : 0x4040;
    state.gpr[4] -= i * 0x1000;
    ASSERT_TRUE(machine.vcpus[i]->set_state(state));
  }
  run_all_until_kicked(machine, std::chrono::milliseconds(300));
}

TEST_P(HostileTest, StartupStormAnswersAKick) {
  Machine machine = make_many(guest_startup_storm(), guest_victim(), 3);
  ASSERT_TRUE(machine.memory->write(GuestPhysAddr(0x8000), guest_ap_real_mode()));
  run_all_until_kicked(machine, std::chrono::milliseconds(300));
  EXPECT_NE(word(machine, kData), 0u);
}

TEST_P(HostileTest, CodeThatOthersWriteAtFullSpeed) {
  // With fewer processors than vCPUs a round takes as long as the host runs each of them.
  constexpr std::uint64_t kRounds = 300;
  Machine machine = make_many(guest_code_storm(), guest_code_storm(), 3);
  for (std::uint32_t i = 0; i < 3; ++i) {
    CpuState state = start_state();
    state.gpr[3] = i;
    state.gpr[4] -= i * 0x1000;
    state.gpr[5] = kRounds;
    ASSERT_TRUE(machine.vcpus[i]->set_state(state));
  }
  std::vector<std::thread> threads;
  for (const auto& vcpu : machine.vcpus) {
    threads.emplace_back(
        [&cpu = *vcpu] { EXPECT_EQ(run(cpu, std::chrono::seconds(100)), End::kDone); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(word(machine, 0x30080) & 0xFFFF'FFFF, 0u) << "half an instruction was executed";
}

INSTANTIATE_TEST_SUITE_P(Engines, HostileTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
