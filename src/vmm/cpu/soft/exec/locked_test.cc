// Locked operations: between threads, where the host cannot do them, and what they check first.
#include <gtest/gtest.h>

#include <thread>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/integer_test_cpu.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kAddress = 0x5000;
constexpr std::uint32_t kTurns = 100000;

// Each thread has a vCPU of its own; locked accesses of both reach one page.
class TwoCpus : public ::testing::Test {
 protected:
  template <class Work>
  void on_both(Work work) {
    std::array<std::thread, 2> threads;
    for (std::size_t i = 0; i < threads.size(); ++i) {
      threads[i] = std::thread([&, i] {
        IntegerCpu cpu;
        enter_long_mode(cpu);
        cpu.shared = page.data();
        cpu.set(kRax, kAddress);
        work(cpu, i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  template <class T>
  T value(std::size_t at = 0) const {
    T result;
    std::memcpy(&result, page.data() + at, sizeof(result));
    return result;
  }
  alignas(4096) std::array<std::byte, 4096> page{};
};

TEST_F(TwoCpus, CountTogether) {
  on_both([](IntegerCpu& cpu, std::size_t) {
    for (std::uint32_t i = 0; i < kTurns; ++i) {
      cpu.run({0xF0, 0xFF, 0x00});              // lock inc dword [rax]
      cpu.run({0xF0, 0x48, 0x83, 0x40, 8, 3});  // lock add qword [rax+8], 3
      cpu.set(kRcx, 1);
      cpu.run({0xF0, 0x66, 0x0F, 0xC1, 0x48, 0x20});  // lock xadd [rax+32], cx
    }
  });
  EXPECT_EQ(value<std::uint32_t>(), 2 * kTurns);
  EXPECT_EQ(value<std::uint64_t>(8), 6 * kTurns);
  EXPECT_EQ(value<std::uint16_t>(32), static_cast<std::uint16_t>(2 * kTurns));
}

// XCHG without a prefix is a lock, too: it guards a plain counter.
TEST_F(TwoCpus, ExchangeMakesASpinLock) {
  std::uint64_t guarded = 0;
  on_both([&](IntegerCpu& cpu, std::size_t) {
    for (std::uint32_t i = 0; i < kTurns / 10; ++i) {
      do {
        cpu.set(kRcx, 1);
        cpu.run({0x87, 0x08});  // xchg [rax], ecx
        if (cpu.gpr[kRcx] != 0) std::this_thread::yield();
      } while (cpu.gpr[kRcx] != 0);
      ++guarded;
      cpu.run({0x87, 0x08});
    }
  });
  EXPECT_EQ(guarded, 2 * (kTurns / 10));
}

// Each thread toggles bits of its own in one word; none is lost.
TEST_F(TwoCpus, BitsDoNotDisturbEachOther) {
  on_both([](IntegerCpu& cpu, std::size_t i) {
    const auto bit = static_cast<std::uint8_t>(i * 7);
    for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
      cpu.run({0xF0, 0x0F, 0xBA, 0x28, bit});  // lock bts dword [rax], bit
      ASSERT_EQ(cpu.status.cf(), turn % 2 != 0);
      cpu.run({0xF0, 0x0F, 0xBA, 0x38, bit});  // lock btc
      ASSERT_TRUE(cpu.status.cf());
      if (turn % 2 == 0) cpu.run({0xF0, 0x0F, 0xBA, 0x28, bit});
    }
  });
  EXPECT_EQ(value<std::uint32_t>(), 0u);
}

TEST_F(TwoCpus, CompareExchange16BytesAddsWithoutLoss) {
  on_both([](IntegerCpu& cpu, std::size_t) {
    for (std::uint32_t i = 0; i < kTurns / 10; ++i) {
      do {  // the first attempt loads what is there
        cpu.set(kRbx, cpu.gpr[kRax] + 1);
        cpu.set(kRcx, cpu.gpr[kRdx] + 2);
        cpu.set(kR8, kAddress);
        ASSERT_EQ(cpu.run({0xF0, 0x49, 0x0F, 0xC7, 0x08}), Next::kNext);  // [r8]
      } while (!cpu.status.zf());
    }
  });
  EXPECT_EQ(value<std::uint64_t>(), 2 * (kTurns / 10));
  EXPECT_EQ(value<std::uint64_t>(8), 4 * (kTurns / 10));
}

class Locked : public ::testing::Test {
 protected:
  Locked() {
    enter_long_mode(cpu);
    cpu.set(kRax, kAddress);
  }
  IntegerCpu cpu;
};

TEST_F(Locked, StopsOthersWhereTheHostCannot) {
  cpu.refuse_atomic = true;
  cpu.poke<std::uint32_t>(kAddress, 41);
  EXPECT_EQ(cpu.run({0xF0, 0xFF, 0x00}), Next::kNext);
  EXPECT_EQ(cpu.peek<std::uint32_t>(kAddress), 42u);
  EXPECT_EQ(cpu.stops, 1u);
  cpu.set(kRcx, 7);
  EXPECT_EQ(cpu.run({0x87, 0x08}), Next::kNext);  // xchg [rax], ecx
  EXPECT_EQ(cpu.gpr[kRcx], 42u);
  EXPECT_EQ(cpu.stops, 2u);
  EXPECT_EQ(cpu.run({0xFF, 0x00}), Next::kNext);  // not locked
  EXPECT_EQ(cpu.peek<std::uint32_t>(kAddress), 8u);
  EXPECT_EQ(cpu.stops, 2u);
}

// A device sees a read and a write; the registers change only when both are answered.
TEST_F(Locked, ExchangeWithADevice) {
  cpu.device.insert(kAddress / 4096);
  cpu.refuse_atomic = true;
  cpu.set(kRcx, 0x55);
  ASSERT_EQ(cpu.run({0x87, 0x08}), Next::kAborted);
  ASSERT_TRUE(cpu.io.waiting());
  EXPECT_FALSE(cpu.io.current().is_write);
  cpu.io.current().data = {0x11};
  cpu.io.complete();
  ASSERT_EQ(cpu.run({0x87, 0x08}), Next::kAborted);
  ASSERT_TRUE(cpu.io.waiting());
  EXPECT_TRUE(cpu.io.current().is_write);
  EXPECT_EQ(cpu.io.current().data[0], 0x55);
  EXPECT_EQ(cpu.gpr[kRcx], 0x55u);
  cpu.io.complete();
  ASSERT_EQ(cpu.run({0x87, 0x08}), Next::kNext);
  EXPECT_EQ(cpu.gpr[kRcx], 0x11u);
}

// Reading would be allowed: the fault is that of the write, and comes before anything else.
TEST_F(Locked, ReadModifyWriteFaultsAsAWrite) {
  cpu.read_only.insert(kAddress / 4096);
  const std::initializer_list<std::uint8_t> instructions[] = {
      {0x01, 0x08},              // add [rax], ecx
      {0xF0, 0x01, 0x08},        // lock add
      {0x87, 0x08},              // xchg
      {0x0F, 0xB1, 0x08},        // cmpxchg that fails
      {0xC1, 0x20, 0x00},        // shl by 0
      {0x48, 0x0F, 0xC7, 0x08},  // cmpxchg16b
  };
  cpu.set(kRdx, 1);
  for (const auto& text : instructions) {
    const std::uint64_t flags = cpu.rflags();
    EXPECT_EQ(cpu.run(text), Next::kAborted);
    EXPECT_EQ(cpu.fault.vector, vector::kPage);
    EXPECT_EQ(cpu.fault.error_code, 3u);
    EXPECT_EQ(cpu.rflags(), flags);
  }
}

TEST_F(Locked, CompareExchange16BytesWantsAlignment) {
  cpu.set(kRax, kAddress + 8);
  EXPECT_EQ(cpu.run({0xF0, 0x48, 0x0F, 0xC7, 0x08}), Next::kAborted);
  EXPECT_EQ(cpu.fault.vector, vector::kProtection);
}

}  // namespace
}  // namespace sm::soft
