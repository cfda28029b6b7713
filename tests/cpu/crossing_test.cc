// Instructions on two pages, in blocks.
#include <gtest/gtest.h>

#include "tests/cpu/blocks_fixture.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/fast/run.h"

namespace sm::cpu_test {
namespace {

// nop; nop; nop; mov eax, imm32 (on both pages); dec ecx; jnz to the first nop; ud2
class CrossingTest : public BlocksTest {
 protected:
  CrossingTest() {
    place(kPage - 6, {0x90, 0x90, 0x90, 0xB8, 1, 2});
    place(kPage, kTail);
  }
  Ran run_times(std::uint64_t times) {
    cpu().gpr[soft::kRcx] = times;
    return run_at(kOtherCode - 6, 10'000);
  }
  const Bytes kTail{3, 4, 0xFF, 0xC9, 0x75, 0xF4, 0x0F, 0x0B};
};

TEST_F(CrossingTest, is_executed_from_what_is_kept) {
  EXPECT_EQ(run_times(1000).instructions, 6000);
  EXPECT_EQ(reg(soft::kRax), 0x04030201u);
  EXPECT_LE(cpu().blocks.lookups, 8u);
}

TEST_F(CrossingTest, is_counted) {
  run_times(3);
  EXPECT_EQ(run_at(kOtherCode - 6, 3).instructions, 3);
  EXPECT_EQ(cpu().rip, kOtherCode - 3);
  EXPECT_EQ(run_at(kOtherCode - 6, 4).instructions, 4);
  EXPECT_EQ(cpu().rip, kOtherCode + 2);
}

TEST_F(CrossingTest, may_halt) {
  place(kPage - 4, {0x90, 0x90, 0x90, 0x66});    // nop; nop; nop; hlt with a prefix
  place(kPage, {0xF4, 0xFF, 0xC0, 0x0F, 0x0B});  // inc eax; ud2
  cpu().cpl = 0;
  soft::cpl_changed(cpu());
  for (int i = 0; i < 3; ++i) {
    cpu().gpr[soft::kRax] = 0;
    cpu().rip = kOtherCode - 4;
    EXPECT_EQ(soft::run_blocks(cpu()), soft::BlockStop::kRequest);
    EXPECT_TRUE(cpu().halted);
    EXPECT_EQ(cpu().rip, kOtherCode + 1);
    cpu().halted = false;
    cpu().attention = 0;
    EXPECT_TRUE(run_at(kOtherCode + 1).aborted);
    EXPECT_EQ(reg(soft::kRax), 1u);
  }
}

TEST_F(CrossingTest, may_take_pieces) {
  // nop; rep stosb, of three pieces
  place(kPage - 2, {0x90, 0xF3});
  place(kPage, {0xAA, 0x0F, 0x0B});
  constexpr std::uint64_t kBytes = 2 * 16384 + 1, kTo = 0x700000;
  for (std::uint64_t at = 0; at < kBytes; at += kPage) {
    machine_.map(kTo + at, 0x300000 + at, kAll);
  }
  for (int i = 0; i < 3; ++i) {
    cpu().gpr[soft::kRcx] = kBytes;
    cpu().gpr[soft::kRdi] = kTo;
    EXPECT_EQ(run_at(kOtherCode - 2).instructions, 2);
    EXPECT_EQ(cpu().rip, kOtherCode + 1);
    EXPECT_EQ(reg(soft::kRdi), kTo + kBytes);
  }
}

TEST_F(CrossingTest, follows_changes_of_its_bytes_and_translations) {
  run_times(2);
  place(kPage, {7});
  run_times(2);
  EXPECT_EQ(reg(soft::kRax), 0x04070201u);
  place(2 * kPage, kTail);
  place(2 * kPage, {9, 9});
  machine_.map(kOtherCode, kCodeAt + 2 * kPage, kAll);
  machine_.mmu().invalidate_page(kOtherCode);
  run_times(2);
  EXPECT_EQ(reg(soft::kRax), 0x09090201u);
  // The first page.
  place(4 * kPage - 6, {0x90, 0x90, 0x90, 0xB8, 8, 8});
  machine_.map(kCode, kCodeAt + 3 * kPage, kAll);
  machine_.mmu().invalidate_page(kCode);
  run_times(2);
  EXPECT_EQ(reg(soft::kRax), 0x09090808u);
  // A page that is no longer there is a fault at its own address.
  machine_.map(kOtherCode, kCodeAt + 2 * kPage, 0);
  machine_.mmu().invalidate_page(kOtherCode);
  EXPECT_TRUE(run_times(2).aborted);
  EXPECT_EQ(cpu().rip, kOtherCode - 3);
  EXPECT_EQ(cpu().fault.address, kOtherCode);
}

TEST_F(CrossingTest, may_fault_and_may_jump) {
  // mov eax, [rdx + imm32] in the place of the other
  place(kPage - 6, {0x90, 0x90, 0x90, 0x8B, 0x82, 0});
  place(kPage, {0, 0, 0, 0xFF, 0xC9, 0x75, 0xF3, 0x0F, 0x0B});
  cpu().gpr[soft::kRdx] = kData;
  EXPECT_EQ(run_times(3).instructions, 3 * 6);
  cpu().gpr[soft::kRdx] = 0x700000;  // not mapped
  const Ran ran = run_times(3);
  EXPECT_TRUE(ran.aborted);
  EXPECT_EQ(ran.instructions, 3);
  EXPECT_EQ(cpu().rip, kOtherCode - 3);
  EXPECT_EQ(cpu().fault.address, 0x700000u);
  // jmp over two ud2
  place(kPage - 6, {0x90, 0x90, 0x90, 0xE9, 4, 0});
  place(kPage, {0, 0, 0x0F, 0x0B, 0x0F, 0x0B, 0xFF, 0xC9, 0x75, 0xF0, 0x0F, 0x0B});
  EXPECT_EQ(run_times(3).instructions, 3 * 6);
  EXPECT_EQ(cpu().rip, kOtherCode + 10);
}

}  // namespace
}  // namespace sm::cpu_test
