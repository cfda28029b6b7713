// Port and memory-mapped I/O as the guest's instructions cause it.
#include <cstring>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

class IoTest : public EngineTest {};

TEST_P(IoTest, PortWritesCarrySizeAndValue) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_out());
  const std::vector<Access> expected = {
      {.address = 0x10, .is_write = true, .value = 0x11, .size = 1},
      {.address = 0x12, .is_write = true, .value = 0x2233, .size = 2},
      {.address = 0x5350, .is_write = true, .value = 0x44556677, .size = 4}};
  EXPECT_EQ(run_to_done(machine), expected);
}

TEST_P(IoTest, PortReadsChangeOnlyTheirPartOfTheRegister) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_in());
  run_to_done(machine, [](const Access& access) {
    return access.address == 0x10 ? 0x5Au : access.address == 0x12 ? 0xBEEFu : 0x8BAD'F00Du;
  });
  ASSERT_TRUE(machine.cpu().finish_pending_exit());
  const auto state = machine.cpu().state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->gpr[3], 0xFFFF'FFFF'FFFF'FF5Aull);
  EXPECT_EQ(state->gpr[1], 0xFFFF'FFFF'FFFF'BEEFull);
  EXPECT_EQ(state->gpr[6], 0x8BAD'F00Dull);
}

TEST_P(IoTest, StringWritesArriveElementByElement) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_string_out());
  std::array<std::byte, 23> text{};
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::byte>(i + 1);
  ASSERT_TRUE(machine.memory->write(GuestPhysAddr(kData), text));
  const std::vector<Access> seen = run_to_done(machine);
  std::vector<std::byte> written;
  std::vector<std::size_t> sizes;
  for (const Access& access : seen) {
    EXPECT_EQ(access.address, 0x3F8u);
    EXPECT_TRUE(access.is_write);
    sizes.push_back(access.size);
    const auto* bytes = reinterpret_cast<const std::byte*>(&access.value);
    written.insert(written.end(), bytes, bytes + access.size);
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{1, 1, 1, 1, 1, 2, 2, 2, 4, 4, 4}));
  EXPECT_TRUE(std::equal(written.begin(), written.end(), text.begin(), text.end()));
}

TEST_P(IoTest, StringReadsFillMemoryElementByElement) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_pio_string_in());
  std::uint64_t next = 0;
  const std::vector<Access> seen =
      run_to_done(machine, [&](const Access&) { return 0x0101'0101u * ++next; });
  EXPECT_EQ(seen.size(), 7u);
  std::array<std::byte, 13> got{};
  ASSERT_TRUE(machine.memory->read(GuestPhysAddr(kData), got));
  const std::array<int, 13> expected = {1, 2, 3, 4, 5, 6, 6, 6, 6, 7, 7, 7, 7};
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(got[i]), expected[i]) << i;
  }
}

TEST_P(IoTest, MmioWritesCarrySizeAndValue) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_mmio_write());
  const std::vector<Access> expected = {
      {.mmio = true, .address = 0xD000'0000, .is_write = true, .value = 0x11, .size = 1},
      {.mmio = true, .address = 0xD000'0010, .is_write = true, .value = 0x2211, .size = 2},
      {.mmio = true, .address = 0xD000'0020, .is_write = true, .value = 0x44332211, .size = 4},
      {.mmio = true,
       .address = 0xD000'0030,
       .is_write = true,
       .value = 0x8877665544332211,
       .size = 8}};
  EXPECT_EQ(run_to_done(machine), expected);
}

TEST_P(IoTest, MmioReadsChangeOnlyTheirPartOfTheRegister) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_mmio_read());
  run_to_done(machine, [](const Access& access) -> std::uint64_t {
    EXPECT_TRUE(access.mmio);
    return access.address == 0xD000'0030 ? 0x0123'4567'89AB'CDEFull : 0x1122'3344;
  });
  ASSERT_TRUE(machine.cpu().finish_pending_exit());
  const auto state = machine.cpu().state();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(state->gpr[1], 0xFFFF'FFFF'FFFF'FF44ull);
  EXPECT_EQ(state->gpr[6], 0xFFFF'FFFF'FFFF'3344ull);
  EXPECT_EQ(state->gpr[7], 0x1122'3344ull);
  EXPECT_EQ(state->gpr[8], 0x0123'4567'89AB'CDEFull);
}

TEST_P(IoTest, MemoryAboveFourGibibytes) {
  if (!available(Needs::kSimpleRing0)) GTEST_SKIP() << why_not();
  Machine machine = make(guest_high_memory(), {.memory_bytes = 0xD000'0000ull + (64ull << 20)});
  const std::uint64_t mark = 0xFEED'FACE'CAFE'BEEF;
  ASSERT_TRUE(machine.memory->write_object(GuestPhysAddr(0x1'0000'1000), mark));
  run_to_done(machine);
  const auto copy = machine.memory->read_object<std::uint64_t>(GuestPhysAddr(0x1'0000'2000));
  ASSERT_TRUE(copy);
  EXPECT_EQ(*copy, mark);
}

INSTANTIATE_TEST_SUITE_P(Engines, IoTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
