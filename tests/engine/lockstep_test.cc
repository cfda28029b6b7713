// The same run twice: with time that is counted in instructions a guest does the same every time,
// and the same by blocks as by single instructions.
#include <algorithm>
#include <string>
#include <vector>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm::engine_test {
namespace {

constexpr std::uint64_t kStretch = 1000;
constexpr std::size_t kMostStretches = 20'000;

// What a run was, at the end of every stretch of instructions.
struct Record {
  std::vector<std::string> exits;
  std::vector<CpuState> states;
  std::vector<std::byte> memory;
  std::uint64_t instructions = 0;
};

class LockstepTest : public EngineTest {
 protected:
  // A tiny kernel: starts with page tables of its own, a timer that interrupts, and time-stamps.
  static Record run(const SoftDebug& debug) {
    const EngineUnderTest engine{
        .name = "soft",
        .create =
            [&](CpuModel model) { return create_soft_vm({.cpu_model = model, .debug = debug}); },
        .limits = {}};
    Machine machine = make_on(engine, guest_tiny_kernel(), {.memory_bytes = 2u << 20});
    Record record;
    for (;;) {
      const VcpuExit exit = machine.cpu().run();
      std::string text = std::to_string(exit.index());
      if (const auto* pio = std::get_if<ExitPio>(&exit)) {
        text += " port " + std::to_string(pio->port) + " " +
                std::to_string(std::to_integer<int>(pio->data[0]));
      }
      record.exits.push_back(text);
      EXPECT_TRUE(machine.cpu().finish_pending_exit());
      auto state = machine.cpu().state();
      EXPECT_TRUE(state) << state.error().text();
      record.states.push_back(*state);
      const auto* pio = std::get_if<ExitPio>(&exit);
      const bool done = pio != nullptr && pio->port == kDonePort;
      if (done) break;
      if (record.exits.size() > kMostStretches) {
        ADD_FAILURE() << "the guest does not come to its end";
        break;
      }
    }
    const MemoryRegion& region = machine.memory->regions()[0];
    record.memory.assign(region.host, region.host + region.size);
    record.instructions = machine.cpu().counters()->instructions;
    return record;
  }

  static void expect_same(const Record& a, const Record& b) {
    EXPECT_EQ(a.instructions, b.instructions);
    ASSERT_EQ(a.exits, b.exits);
    for (std::size_t i = 0; i < a.states.size(); ++i) {
      ASSERT_EQ(a.states[i].rip, b.states[i].rip) << "stretch " << i;
      ASSERT_EQ(a.states[i].gpr, b.states[i].gpr) << "stretch " << i;
      ASSERT_TRUE(a.states[i] == b.states[i]) << "stretch " << i;
    }
    EXPECT_TRUE(a.memory == b.memory);
  }
};

TEST_P(LockstepTest, ABootIsTheSameTwice) {
  const SoftDebug debug{.virtual_time = true, .instructions_per_run = kStretch};
  const Record first = run(debug);
  EXPECT_GT(first.instructions, 100 * kStretch);
  expect_same(first, run(debug));
}

TEST_P(LockstepTest, BlocksDoWhatSingleInstructionsDo) {
  const SoftDebug blocks{.virtual_time = true, .instructions_per_run = kStretch};
  SoftDebug reference = blocks;
  reference.reference = true;
  expect_same(run(reference), run(blocks));
}

// Stretches of another length stop elsewhere and come to the same end.
TEST_P(LockstepTest, WhereItStopsDoesNotMatter) {
  SoftDebug debug{.virtual_time = true, .instructions_per_run = kStretch};
  const Record first = run(debug);
  debug.instructions_per_run = 77;
  const Record second = run(debug);
  EXPECT_EQ(first.instructions, second.instructions);
  EXPECT_TRUE(first.states.back() == second.states.back());
  EXPECT_TRUE(first.memory == second.memory);
}

TEST_P(LockstepTest, ARunEndsAfterExactlyItsInstructions) {
  for (const bool reference : {false, true}) {
    auto vm =
        create_soft_vm({.debug = {.reference = reference, .instructions_per_run = 12345}}).value();
    const EngineUnderTest engine{
        .name = "soft",
        .create = [&](CpuModel) { return Result<std::unique_ptr<EngineVm>>(std::move(vm)); },
        .limits = {}};
    Machine machine = make_on(engine, guest_count());
    for (std::uint64_t runs = 1; runs <= 3; ++runs) {
      EXPECT_TRUE(std::holds_alternative<ExitKicked>(machine.cpu().run()));
      EXPECT_EQ(machine.cpu().counters()->instructions, runs * 12345);
    }
  }
}

TEST_P(LockstepTest, ATraceTellsInstructionsExceptionsAndInterrupts) {
  struct Sink final : SoftTraceSink {
    std::vector<std::string> lines;
    void line(std::string_view text) override { lines.emplace_back(text); }
    bool has(std::string_view part) const {
      return std::any_of(lines.begin(), lines.end(),
                         [&](const std::string& line) { return line.find(part) != line.npos; });
    }
  } sink;
  const Record plain = run({.virtual_time = true, .instructions_per_run = kStretch});
  const Record traced =
      run({.virtual_time = true, .instructions_per_run = kStretch, .trace = &sink});
  expect_same(plain, traced);
  EXPECT_GE(sink.lines.size(), traced.instructions);
  EXPECT_TRUE(sink.has("rdtsc"));
  EXPECT_TRUE(sink.has("interrupt 0x40"));
  EXPECT_TRUE(sink.has("exception 14 error 0x2 address"));
  EXPECT_TRUE(sink.has("port write of 1 bytes at 0x99"));
}

INSTANTIATE_TEST_SUITE_P(Engines, LockstepTest, testing::Values(engines()[1]), param_name);

}  // namespace
}  // namespace sm::engine_test
