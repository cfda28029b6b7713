// VcpuThread and VcpuHold on scripted vCPUs: every state is stopped, held, paused and kicked.
#include "vmm/cpu/vcpu_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

#include "vmm/cpu/fake/fake_engine.h"

namespace sm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Deadline soon() { return Deadline::after(seconds(20)); }

// Polls a condition that another thread makes true; false after the deadline.
template <class F>
bool eventually(F&& condition) {
  const Deadline deadline = soon();
  while (!condition()) {
    if (deadline.passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

// Remembers what it was asked and can do something of the test's choosing in write().
class TestDevice final : public BusDevice {
 public:
  std::string_view name() const override { return "test"; }
  void read(std::uint64_t offset, std::span<std::byte> out) override {
    for (std::byte& byte : out) byte = static_cast<std::byte>(0xA0 + offset);
  }
  void write(std::uint64_t offset, std::span<const std::byte> in) override {
    ++writes;
    last_offset = offset;
    last_size = in.size();
    if (on_write) on_write();
  }

  std::function<void()> on_write;
  std::atomic<int> writes{0};
  std::atomic<std::uint64_t> last_offset{0};
  std::atomic<std::size_t> last_size{0};
};

class TestEvents final : public VcpuEvents {
 public:
  void on_vcpu_end(std::uint32_t index, VcpuEnd end, const std::string& why) override {
    last_index = index;
    last_end = end;
    last_why = why;
    if (on_end) on_end();
    ++ends;
  }
  std::function<void()> on_end;
  std::uint32_t last_index = 0;
  VcpuEnd last_end = VcpuEnd::kShutdown;
  std::string last_why;
  std::atomic<int> ends{0};
};

// A machine of `count` scripted vCPUs with a device at port 0x10 and at address 0x1000.
class Rig {
 public:
  explicit Rig(std::uint32_t count = 1) : board(make_fake_board(count)) {
    EXPECT_TRUE(pio.add(0x10, 16, device));
    EXPECT_TRUE(mmio.add(0x1000, 16, device));
    vm = create_fake_vm(board);
    for (std::uint32_t i = 0; i < count; ++i) {
      auto vcpu = vm->create_vcpu(i, count);
      EXPECT_TRUE(vcpu);
      auto thread = VcpuThread::create(
          {.index = i, .pio = pio, .mmio = mmio, .events = events, .hold = hold}, std::move(*vcpu));
      EXPECT_TRUE(thread);
      threads.push_back(std::move(*thread));
    }
  }
  ~Rig() {
    threads.clear();
    for (const auto& guest : board->guests) {
      EXPECT_EQ(guest->violations(), std::vector<std::string>{});
    }
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;
  Rig(Rig&&) = delete;
  Rig& operator=(Rig&&) = delete;

  VcpuThread& thread() { return *threads.front(); }
  FakeGuest& guest() { return *board->guests.front(); }

  std::shared_ptr<FakeBoard> board;
  TestDevice device;
  TestEvents events;
  Bus pio, mmio;
  VcpuHold hold;
  std::unique_ptr<EngineVm> vm;
  std::vector<std::unique_ptr<VcpuThread>> threads;
};

TEST(VcpuThread, IsBornParkedAndRunsOnResume) {
  Rig rig;
  rig.guest().then_out(0x12, 7, 2);
  EXPECT_TRUE(rig.thread().parked());
  ASSERT_TRUE(rig.thread().pause(soon()));
  EXPECT_EQ(rig.device.writes, 0);
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 1; }));
  EXPECT_EQ(rig.device.last_offset, 2u);
  EXPECT_EQ(rig.device.last_size, 2u);
  EXPECT_FALSE(rig.thread().parked());
}

TEST(VcpuThread, DispatchesBothBusesAndFillsReads) {
  Rig rig;
  rig.guest().then_in(0x11, 1);
  rig.guest().then(FakeAccess{.mmio = true, .address = 0x1002, .size = 8});
  rig.guest().then_in(0x4444, 2);  // nobody there
  rig.guest().then(FakeAccess{.mmio = true, .address = 0x1003, .is_write = true, .size = 1});
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 4; }));
  EXPECT_EQ(rig.guest().reads(), (std::vector<std::uint64_t>{0xA1, 0xA2A2A2A2A2A2A2A2, 0xFFFF}));
  EXPECT_EQ(rig.device.last_offset, 3u);
}

TEST(VcpuThread, PauseIsBetweenInstructionsAndResumeGoesOn) {
  Rig rig;
  rig.guest().then_in(0x10);
  rig.guest().then_out(0x10, 1);
  rig.guest().loop();
  for (int i = 0; i < 200; ++i) {
    rig.thread().resume();
    const std::uint64_t before = rig.guest().finished_accesses();
    ASSERT_TRUE(eventually([&] { return rig.guest().finished_accesses() > before; }));
    ASSERT_TRUE(rig.thread().pause(soon()));
    EXPECT_TRUE(rig.thread().parked());
    const auto state = rig.thread().state(soon());
    ASSERT_TRUE(state) << state.error().text();
    EXPECT_EQ(state->rip, rig.guest().finished_accesses());
  }
}

TEST(VcpuThread, StateIsReadAndSetInEveryState) {
  Rig rig;
  CpuState state;
  state.rip = 1000;
  ASSERT_TRUE(rig.thread().set_state(state, soon()));
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.guest().in_guest(); }));
  auto running = rig.thread().state(soon());
  ASSERT_TRUE(running) << running.error().text();
  EXPECT_EQ(running->rip, 1000u);
  ASSERT_TRUE(eventually([&] { return rig.guest().in_guest(); }));  // it went back by itself
  ASSERT_TRUE(rig.thread().stop(soon()));
  const auto stopped = rig.thread().state(soon());
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), Code::kGone);
}

TEST(VcpuThread, WorkReturnsItsOwnError) {
  Rig rig;
  const Status status = rig.thread().with_vcpu(
      [](EngineVcpu&) -> Status { return fail(Code::kCorrupt, "as the test wants"); }, soon());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), Code::kCorrupt);
}

TEST(VcpuThread, ShutdownAndFaultAreReportedOnce) {
  for (const bool fault : {false, true}) {
    Rig rig;
    if (fault) {
      rig.guest().then(FakeFault{"as the test wants"});
    } else {
      rig.guest().then(FakeShutdown{});
    }
    rig.thread().resume();
    ASSERT_TRUE(eventually([&] { return rig.events.ends == 1; }));
    EXPECT_EQ(rig.events.last_end, fault ? VcpuEnd::kFault : VcpuEnd::kShutdown);
    EXPECT_EQ(rig.events.last_why == "as the test wants", fault);
    ASSERT_TRUE(rig.thread().pause(soon()));
    rig.guest().then(FakeShutdown{});
    rig.thread().resume();
    EXPECT_TRUE(rig.thread().parked());
    EXPECT_TRUE(rig.thread().state(soon()));
    ASSERT_TRUE(rig.thread().stop(soon()));
    EXPECT_EQ(rig.events.ends, 1);
  }
}

TEST(VcpuThread, HaltParksUntilResume) {
  Rig rig;
  rig.guest().then(FakeHalt{});
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.thread().parked(); }));
  EXPECT_EQ(rig.device.writes, 0);
  rig.thread().resume();
  EXPECT_TRUE(eventually([&] { return rig.device.writes == 1; }));
}

TEST(VcpuThread, StopBeforeStart) {
  Rig rig;
  EXPECT_TRUE(rig.thread().stop(soon()));
}

TEST(VcpuThread, StopTwiceAndResumeAfterwards) {
  Rig rig;
  rig.thread().resume();
  EXPECT_TRUE(rig.thread().stop(soon()));
  EXPECT_TRUE(rig.thread().stop(soon()));
  rig.thread().resume();
  EXPECT_TRUE(rig.thread().pause(soon()));
  EXPECT_TRUE(rig.thread().parked());
}

TEST(VcpuThread, StopWhilePaused) {
  Rig rig;
  rig.thread().resume();
  ASSERT_TRUE(rig.thread().pause(soon()));
  EXPECT_TRUE(rig.thread().stop(soon()));
}

TEST(VcpuThread, StopFromSeveralThreadsAtOnce) {
  Rig rig;
  rig.thread().resume();
  std::vector<std::thread> stoppers;
  std::atomic<int> stopped{0};
  for (int i = 0; i < 4; ++i) {
    stoppers.emplace_back([&] { stopped += rig.thread().stop(soon()) ? 1 : 0; });
  }
  for (std::thread& stopper : stoppers) stopper.join();
  EXPECT_EQ(stopped, 4);
}

TEST(VcpuThread, DestructionStops) {
  Rig rig;
  rig.guest().then_out(0x10, 1);
  rig.guest().loop();
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.device.writes > 10; }));
}

TEST(VcpuThread, OwnThreadMayAskButNotWait) {
  Rig rig;
  std::vector<Code> codes;
  rig.device.on_write = [&] {
    codes.push_back(rig.thread().stop(soon()).error().code());
    codes.push_back(rig.thread().pause(soon()).error().code());
    codes.push_back(rig.thread().state(soon()).error().code());
    rig.thread().request_stop();
  };
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.device.writes == 1; }));
  ASSERT_TRUE(rig.thread().stop(soon()));
  EXPECT_EQ(codes, std::vector<Code>(3, Code::kInternal));
}

TEST(VcpuThread, EndCallbackMayAskToStop) {
  Rig rig;
  rig.events.on_end = [&] { rig.thread().request_stop(); };
  rig.guest().then(FakeShutdown{});
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.events.ends == 1; }));
  EXPECT_TRUE(rig.thread().stop(soon()));
}

// A device that blocks makes every wait end at its deadline, and the wish still comes true later.
TEST(VcpuThread, BlockedDeviceTimesOutAndIsStoppedLater) {
  Rig rig;
  std::promise<void> let_go;
  std::future<void> gone = let_go.get_future();
  rig.device.on_write = [&] { gone.wait(); };
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.device.writes == 1; }));
  bool ran = false;
  const auto work = [&](EngineVcpu&) -> Status {
    ran = true;
    return {};
  };
  const auto shortly = [] { return Deadline::after(milliseconds(20)); };
  EXPECT_EQ(rig.thread().pause(shortly()).error().code(), Code::kTimeout);
  EXPECT_EQ(rig.thread().with_vcpu(work, shortly()).error().code(), Code::kTimeout);
  EXPECT_EQ(rig.thread().stop(shortly()).error().code(), Code::kTimeout);
  let_go.set_value();
  EXPECT_TRUE(rig.thread().stop(soon()));
  EXPECT_FALSE(ran);
  EXPECT_EQ(rig.guest().finished_accesses(), 1u);
}

// ---- Holding ----------------------------------------------------------------------------------

// A rig whose device holds the vCPU at each write.
struct HoldRig : Rig {
  explicit HoldRig(std::uint32_t count = 1) : Rig(count) {
    device.on_write = [this] {
      const VcpuHold::Token token = hold.hold();
      std::lock_guard lock(mutex);
      tokens.push_back(token);
    };
  }
  std::vector<VcpuHold::Token> taken() {
    std::lock_guard lock(mutex);
    return tokens;
  }
  // Waits until `n` holds were taken and the first vCPU stands still.
  bool held(std::size_t n) {
    return eventually([&] { return taken().size() == n && thread().parked(); });
  }
  std::mutex mutex;
  std::vector<VcpuHold::Token> tokens;
};

TEST(VcpuHold, KeepsTheVcpuBehindItsInstructionUntilReleased) {
  HoldRig rig;
  rig.guest().then_out(0x10, 1);
  rig.guest().then_in(0x11, 1);
  rig.thread().resume();
  ASSERT_TRUE(rig.held(1));
  EXPECT_EQ(rig.guest().finished_accesses(), 1u);
  EXPECT_EQ(rig.thread().state(soon())->rip, 1u);
  rig.thread().resume();  // is no release
  EXPECT_TRUE(rig.thread().parked());
  rig.hold.release(rig.taken()[0] + 1);  // somebody else's
  rig.hold.release(0);
  EXPECT_TRUE(rig.thread().parked());
  rig.hold.release(rig.taken()[0]);
  ASSERT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 2; }));
  rig.hold.release(rig.taken()[0]);  // a second time
}

TEST(VcpuHold, ReleaseBeforeParkingIsKept) {
  Rig rig;
  rig.device.on_write = [&] { rig.hold.release(rig.hold.hold()); };
  rig.guest().then_out(0x10, 1);
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  EXPECT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 2; }));
}

TEST(VcpuHold, SeveralHoldsNeedAsManyReleases) {
  Rig rig;
  std::vector<VcpuHold::Token> tokens;
  rig.device.on_write = [&] {
    if (tokens.empty()) tokens = {rig.hold.hold(), rig.hold.hold()};
  };
  rig.guest().then_out(0x10, 1);
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  ASSERT_TRUE(eventually([&] { return rig.thread().parked(); }));
  rig.hold.release(tokens[1]);
  EXPECT_TRUE(rig.thread().parked());
  rig.hold.release(tokens[0]);
  EXPECT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 2; }));
}

TEST(VcpuHold, PauseWhileHeldOutlivesTheRelease) {
  HoldRig rig;
  rig.guest().then_out(0x10, 1);
  rig.guest().then_in(0x11, 1);
  rig.thread().resume();
  ASSERT_TRUE(rig.held(1));
  ASSERT_TRUE(rig.thread().pause(soon()));
  rig.hold.release_all();
  EXPECT_TRUE(rig.thread().parked());
  EXPECT_EQ(rig.guest().finished_accesses(), 1u);
  rig.thread().resume();
  EXPECT_TRUE(eventually([&] { return rig.guest().finished_accesses() == 2; }));
}

TEST(VcpuHold, StopWhileHeldAndReleaseAfterwards) {
  HoldRig rig;
  rig.guest().then_out(0x10, 1);
  rig.thread().resume();
  ASSERT_TRUE(rig.held(1));
  EXPECT_TRUE(rig.thread().stop(soon()));
  rig.hold.release(rig.taken()[0]);
  rig.hold.release_all();
}

TEST(VcpuHold, HoldsOnlyTheVcpuThatRang) {
  HoldRig rig(2);
  rig.board->guests[1]->then_in(0x10);
  rig.board->guests[1]->loop();
  rig.guest().then_out(0x10, 1);
  for (const auto& thread : rig.threads) thread->resume();
  ASSERT_TRUE(rig.held(1));
  const std::uint64_t before = rig.board->guests[1]->finished_accesses();
  EXPECT_TRUE(eventually([&] { return rig.board->guests[1]->finished_accesses() > before + 10; }));
  EXPECT_TRUE(rig.thread().parked());
}

TEST(VcpuHold, NothingToHoldOnOtherThreads) {
  Rig rig;
  EXPECT_EQ(rig.hold.hold(), 0u);
}

// ---- Storms -----------------------------------------------------------------------------------

TEST(VcpuThread, CommandsFromManyThreads) {
  Rig rig;
  rig.guest().then_out(0x10, 1);
  rig.guest().loop();
  std::atomic<bool> over{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&, i] {
      while (!over) {
        bool done = true;
        if (i == 0) done = rig.thread().state(soon()).has_value();
        if (i == 1) rig.thread().resume();
        if (i == 2) done = rig.thread().pause(soon()).has_value();
        EXPECT_TRUE(done);
      }
    });
  }
  const Deadline deadline = Deadline::after(milliseconds(300));
  while (!deadline.passed()) std::this_thread::yield();
  over = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(rig.thread().stop(soon()));
}

TEST(VcpuThread, ThirtyTwoVcpusPauseResumeAndStop) {
  Rig rig(kMaxVcpus);
  for (const auto& guest : rig.board->guests) {
    guest->then_out(0x10, 1);
    guest->then_in(0x10);
    guest->loop();
  }
  for (int round = 0; round < 5; ++round) {
    const int before = rig.device.writes;
    for (const auto& thread : rig.threads) thread->resume();
    ASSERT_TRUE(eventually([&] { return rig.device.writes > before + 100; }));
    for (const auto& thread : rig.threads) ASSERT_TRUE(thread->pause(soon()));
    for (const auto& thread : rig.threads) ASSERT_TRUE(thread->parked());
  }
  for (const auto& thread : rig.threads) thread->resume();
  for (const auto& thread : rig.threads) ASSERT_TRUE(thread->stop(soon()));
}

TEST(VcpuThread, ThreadCarriesItsName) {
  Rig rig(3);
  std::string name(16, '\0');
  ASSERT_TRUE(rig.threads[2]->with_vcpu(
      [&](EngineVcpu&) -> Status {
        ::pthread_getname_np(::pthread_self(), name.data(), name.size());
        return {};
      },
      soon()));
  EXPECT_STREQ(name.c_str(), "vcpu-2");
}

}  // namespace
}  // namespace sm
