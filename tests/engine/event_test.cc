// Interrupt lines, ioevents, kicks and pending exits.
#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <thread>

#include "base/unique_fd.h"
#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

class EventTest : public EngineTest {};

bool is_port(const VcpuExit& exit, std::uint16_t port) {
  const auto* pio = std::get_if<ExitPio>(&exit);
  return pio != nullptr && pio->port == port;
}

TEST_P(EventTest, InterruptWakesHaltedGuest) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  for (const std::uint32_t gsi : {0u, 4u, 15u, 16u, 23u}) {
    Machine machine = make(guest_interrupt(), {.adjust = [&](CpuState& s) { s.gpr[3] = gsi; }});
    auto line = machine.vm->irq_line(gsi);
    auto second = machine.vm->irq_line(gsi);
    ASSERT_TRUE(line) << line.error().text();
    ASSERT_TRUE(second) << second.error().text();
    ASSERT_TRUE(is_port(machine.cpu().run(), 0x10));
    for (int i = 0; i < 20; ++i) {
      // The vCPU is in HLT, or about to be, when the edge comes.
      std::thread device([&] { (i % 2 == 0 ? *line : *second)->trigger(); });
      Watchdog watchdog(machine.cpu(), std::chrono::seconds(20));
      const VcpuExit exit = machine.cpu().run();
      device.join();
      ASSERT_TRUE(is_port(exit, 0x11)) << "pin " << gsi << ", edge " << i;
    }
  }
}

TEST_P(EventTest, LinesOutsideTheInterruptControllerAreRefused) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_spin());
  EXPECT_FALSE(machine.vm->irq_line(24));
}

TEST_P(EventTest, IoeventTakesOnlyItsOwnValueAndSize) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_notify());
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const Status status = machine.vm->register_ioevent(GuestPhysAddr(0xD000'0050), 3, event.get());
  if (!status && status.error().code() == Code::kUnsupported) GTEST_SKIP() << "no ioevents";
  ASSERT_TRUE(status) << status.error().text();
  const std::vector<Access> expected = {
      {.mmio = true, .address = 0xD000'0050, .is_write = true, .value = 4, .size = 4},
      {.mmio = true, .address = 0xD000'0050, .is_write = true, .value = 3, .size = 2}};
  EXPECT_EQ(run_to_done(machine), expected);
  std::uint64_t count = 0;
  ASSERT_EQ(::read(event.get(), &count, sizeof(count)), static_cast<ssize_t>(sizeof(count)));
  EXPECT_EQ(count, 2u);
}

TEST_P(EventTest, KickBeforeTheFirstRunIsKept) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_spin());
  machine.cpu().kick();
  machine.cpu().kick();
  Watchdog watchdog(machine.cpu(), std::chrono::seconds(20));
  EXPECT_TRUE(std::holds_alternative<ExitKicked>(machine.cpu().run()));
  EXPECT_FALSE(watchdog.fired());
}

TEST_P(EventTest, CountersGrowWhileTheGuestRuns) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_count());
  EngineVcpu& cpu = machine.cpu();
  if (!cpu.counters()) GTEST_SKIP() << "this engine does not count";
  std::thread runner([&] { EXPECT_TRUE(std::holds_alternative<ExitKicked>(cpu.run())); });
  const Deadline deadline = soon();
  std::uint64_t last = 0;
  int growths = 0;
  while (growths < 5 && !deadline.passed()) {
    const std::uint64_t now = cpu.counters()->instructions;
    EXPECT_GE(now, last);
    growths += now > last ? 1 : 0;
    last = now;
  }
  cpu.kick();
  runner.join();
  EXPECT_EQ(growths, 5);
  // Two instructions a round, and the one before.
  const auto rounds = machine.memory->read_object<std::uint64_t>(GuestPhysAddr(kData));
  ASSERT_TRUE(rounds);
  const std::uint64_t all = cpu.counters()->instructions;
  EXPECT_TRUE(all == *rounds * 2 || all == *rounds * 2 + 1) << all << " of " << *rounds;
}

// Each kick must bring run() back; a lost one would leave it spinning until the watchdog.
TEST_P(EventTest, TenThousandKicksAndNoneIsLost) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  constexpr std::uint32_t kRounds = 10'000;
  Machine machine = make(guest_spin());
  EngineVcpu& cpu = machine.cpu();
  std::atomic<std::uint32_t> asked{0}, answered{0};
  std::atomic<bool> give_up{false};
  std::thread runner([&] {
    while (answered < kRounds && !give_up) {
      const VcpuExit exit = cpu.run();
      if (!std::holds_alternative<ExitKicked>(exit)) break;
      answered = asked.load();
    }
  });
  while (asked < kRounds && !give_up) {
    // Each round has its own: a busy host is slow with all of them, a lost kick is one for ever.
    const Deadline deadline = soon();
    const std::uint32_t round = ++asked;
    cpu.kick();
    // A pause of changing length, so that the next kick meets the vCPU before, at and after entry.
    for (std::uint32_t spin = 0; spin < round % 97 * 8; ++spin) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    while (answered < round && !give_up) give_up = deadline.passed();
  }
  if (give_up) cpu.kick();
  runner.join();
  EXPECT_FALSE(give_up) << "kick " << asked << " was lost";
  EXPECT_EQ(answered, kRounds);
}

TEST_P(EventTest, KickWakesHaltedVcpu) {
  if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_halt());
  std::thread kicker([&] { machine.cpu().kick(); });
  Watchdog watchdog(machine.cpu(), std::chrono::seconds(20));
  EXPECT_TRUE(std::holds_alternative<ExitKicked>(machine.cpu().run()));
  EXPECT_FALSE(watchdog.fired());
  kicker.join();
}

TEST_P(EventTest, KickDuringAnExitFinishesItAndNothingMore) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_out_then_spin());
  ASSERT_TRUE(is_port(machine.cpu().run(), 0x50));
  machine.cpu().kick();
  ASSERT_TRUE(std::holds_alternative<ExitKicked>(machine.cpu().run()));
  const auto state = machine.cpu().state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->rip, kCode + 7);
  EXPECT_EQ(state->gpr[3], 0u);
  EXPECT_TRUE(is_port(machine.cpu().run(), 0x51));
}

TEST_P(EventTest, FinishedExitStandsBehindItsInstruction) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_in());
  const VcpuExit exit = machine.cpu().run();
  ASSERT_TRUE(is_port(exit, 0x10));
  std::get<ExitPio>(exit).data[0] = std::byte{0x5A};
  const Status finished = machine.cpu().finish_pending_exit();
  ASSERT_TRUE(finished) << finished.error().text();
  EXPECT_TRUE(machine.cpu().finish_pending_exit());
  const auto state = machine.cpu().state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->gpr[0], 0xFFFF'FFFF'FFFF'FF5Aull);
  EXPECT_EQ(state->rip, kCode + 9);
  EXPECT_TRUE(is_port(machine.cpu().run(), 0x12));
}

TEST_P(EventTest, FinishKeepsAKickForTheNextRun) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_out_then_spin());
  ASSERT_TRUE(is_port(machine.cpu().run(), 0x50));
  machine.cpu().kick();
  ASSERT_TRUE(machine.cpu().finish_pending_exit());
  EXPECT_TRUE(std::holds_alternative<ExitKicked>(machine.cpu().run()));
}

TEST_P(EventTest, StringElementsMustBeDeliveredBeforeAnExitIsFinished) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_string_out());
  ASSERT_TRUE(is_port(machine.cpu().run(), 0x3F8));
  machine.cpu().kick();
  int elements = 1;
  VcpuExit exit = machine.cpu().run();
  for (; is_port(exit, 0x3F8) && elements < 100; ++elements) exit = machine.cpu().run();
  // The kick ended it between two elements or instructions, and nothing was lost.
  EXPECT_TRUE(std::holds_alternative<ExitKicked>(exit));
  EXPECT_TRUE(machine.cpu().finish_pending_exit());
  EXPECT_EQ(elements + static_cast<int>(run_to_done(machine).size()), 11);
}

TEST_P(EventTest, TripleFaultIsShutdown) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_triple_fault());
  Watchdog watchdog(machine.cpu(), std::chrono::seconds(20));
  const VcpuExit exit = machine.cpu().run();
  const auto* fault = std::get_if<ExitFault>(&exit);
  EXPECT_TRUE(std::holds_alternative<ExitShutdown>(exit)) << (fault ? fault->why : "");
}

INSTANTIATE_TEST_SUITE_P(Engines, EventTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
