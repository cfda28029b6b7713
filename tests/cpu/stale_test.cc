// Slow cases of blocks whose bytes are others by then, and nobody has heard of it.
#include <gtest/gtest.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tests/cpu/blocks_fixture.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/fast/insn_cache.h"
#include "vmm/cpu/soft/mmu/mmu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_test {
namespace {

constexpr std::uint64_t kNowhere = 0x700000;  // not mapped

class StaleTest : public BlocksTest {
 protected:
  void change(std::uint64_t offset, const Bytes& bytes) {
    std::memcpy(machine_.ram(kCodeAt + offset), bytes.data(), bytes.size());
  }
  // Makes the block of mov eax, [rdx] and `code`, executes no more of it, and then all of it with
  // the bytes of `other` in the place of `code`. Nothing is in the TLB.
  Ran run_changed(const Bytes& code, const Bytes& other, std::int64_t budget = 20) {
    place(2, code);
    place(0, {0x8B, 0x02});
    cpu().gpr[soft::kRdx] = kNowhere;
    EXPECT_TRUE(run_at(kCode).aborted);
    EXPECT_EQ(cpu().rip, kCode);
    change(2, other);
    cpu().gpr[soft::kRdx] = kAlias;
    return run_at(kCode, budget);
  }
};

TEST_F(StaleTest, another_length_is_looked_up_again) {
  // mov eax, 7; ud2 instead of CPUID
  const Ran ran = run_changed({0x0F, 0xA2, 0x0F, 0x0B}, {0xB8, 7, 0, 0, 0, 0x0F, 0x0B});
  EXPECT_TRUE(ran.aborted);
  EXPECT_EQ(ran.instructions, 2);
  EXPECT_EQ(cpu().rip, kCode + 7);
  EXPECT_EQ(reg(soft::kRax), 7u);
}

TEST_F(StaleTest, so_is_a_blocks_first_instruction) {
  place(0, {0x8B, 0x02, 0x0F, 0x0B});  // mov eax, [rdx]; ud2
  cpu().gpr[soft::kRdx] = kNowhere;
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kPage);
  // As if others had come in between.
  cpu().blocks.insns->clear();
  change(0, {0xB8, 9, 0, 0, 0, 0x0F, 0x0B});  // mov eax, 9; ud2
  const Ran ran = run_at(kCode);
  EXPECT_TRUE(ran.aborted);
  EXPECT_EQ(ran.instructions, 1);
  EXPECT_EQ(cpu().rip, kCode + 5);
  EXPECT_EQ(reg(soft::kRax), 9u);
}

// Behind these is no uop that could be gone on with.
TEST_F(StaleTest, jumps_are_not_taken_for_something_else) {
  const std::vector<std::pair<Bytes, Bytes>> kChanges{
      {{0xE8, 0xF9, 0x0F, 0, 0}, {0xB8, 5, 0, 0, 0}},  // call, to the other page; mov eax, 5
      {{0xE8, 0x20, 0, 0, 0}, {0xB8, 5, 0, 0, 0}},     // call; mov eax, 5
      {{0xFF, 0x53, 0x08}, {0xFF, 0x73, 0x08}},        // call [rbx + 8]; push [rbx + 8]
      {{0xFF, 0x63, 0x08}, {0x8B, 0x43, 0x08}},        // jmp [rbx + 8]; mov eax, [rbx + 8]
      {{0xC3}, {0x90}}};                               // ret; nop
  for (const auto& [code, other] : kChanges) {
    machine_.mmu().flush_all();  // so that the stack is a slow case
    Bytes behind = other;
    behind.insert(behind.end(), {0x0F, 0x0B});
    const Ran ran = run_changed(code, behind);
    EXPECT_TRUE(ran.aborted);
    EXPECT_EQ(ran.instructions, 2);
    EXPECT_EQ(cpu().rip, kCode + 2 + other.size());
    EXPECT_EQ(cpu().fault.vector, soft::vector::kUndefined);
  }
}

TEST_F(StaleTest, hlt_ends_a_block) {
  // HLT with a prefix instead of CPUID; mov eax, 1; ud2
  cpu().cpl = 0;
  soft::cpl_changed(cpu());
  const Ran ran = run_changed({0x0F, 0xA2, 0xB8, 1, 0, 0, 0, 0x0F, 0x0B}, {0x66, 0xF4}, 2);
  EXPECT_EQ(ran.instructions, 2);
  EXPECT_TRUE(cpu().halted);
  EXPECT_EQ(cpu().rip, kCode + 4);
}

}  // namespace
}  // namespace sm::cpu_test
