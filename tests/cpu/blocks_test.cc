// Blocks where they could come apart: code that changes under them, faults in their middle, limits,
// translations that change.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/cpu/blocks_fixture.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/fast/block.h"
#include "vmm/cpu/soft/fast/run.h"
#include "vmm/cpu/soft/mmu/tlb.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_test {
namespace {

const Bytes kUd2{0x0F, 0x0B};

// mov ecx, 1000; inc eax; dec ecx; jnz -6; ud2
const Bytes kLoop{0xB9, 0xE8, 0x03, 0, 0, 0xFF, 0xC0, 0xFF, 0xC9, 0x75, 0xFA, 0x0F, 0x0B};

TEST_F(BlocksTest, a_loop_is_linked_and_counted) {
  place(0, kLoop);
  cpu().gpr[soft::kRax] = 0;
  const Ran ran = run_at(kCode, 1'000'000);
  EXPECT_TRUE(ran.aborted);
  EXPECT_EQ(cpu().rip, kCode + 11);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kUndefined);
  EXPECT_EQ(ran.instructions, 1 + 3 * 1000);
  EXPECT_EQ(reg(soft::kRax), 1000u);
  EXPECT_LE(cpu().blocks.lookups, 4u);
}

TEST_F(BlocksTest, the_budget_ends_a_loop_at_the_end_of_a_block) {
  place(0, {0xEB, 0xFE});  // jmp to itself
  EXPECT_EQ(run_at(kCode, 12345).instructions, 12345);
  EXPECT_EQ(cpu().rip, kCode);
}

TEST_F(BlocksTest, a_request_of_another_thread_ends_a_loop) {
  place(0, {0xEB, 0xFE});
  cpu().rip = kCode;
  std::thread other([this] { cpu().attention.fetch_or(soft::kAttentionKick); });
  const auto stop = soft::run_blocks(cpu());
  other.join();
  EXPECT_EQ(stop, soft::BlockStop::kRequest);
  EXPECT_EQ(cpu().rip, kCode);
}

// mov byte [place of the next immediate], 2; mov eax, 1; ud2
void expect_new_immediate(FlatMachine& machine, std::uint64_t operand) {
  Bytes bytes{0xC6, 0x04, 0x25, 0, 0, 0, 0, 2, 0xB8, 1, 0, 0, 0, 0x0F, 0x0B};
  std::memcpy(&bytes[3], &operand, 4);
  machine.write(kCodeAt, bytes);
  for (int i = 0; i < 3; ++i) {
    machine.cpu().rip = kCode;
    EXPECT_TRUE(machine.run(Way::kBlocks, 100).aborted);
    EXPECT_EQ(machine.cpu().gpr[soft::kRax], 2u);
    EXPECT_EQ(machine.cpu().rip, kCode + 13);
  }
}

TEST_F(BlocksTest, a_block_that_changes_itself_executes_what_it_wrote) {
  expect_new_immediate(machine_, kCode + 9);
}

TEST_F(BlocksTest, a_block_that_changes_itself_by_another_address_does_too) {
  // The translation is there before the page holds code.
  std::uint64_t value = 0;
  ASSERT_TRUE(soft::store_linear(cpu(), kAlias + 0x100, &value, 8));
  expect_new_immediate(machine_, kAlias + 9);
}

TEST_F(BlocksTest, writes_beside_the_code_of_a_page_leave_it) {
  // mov [rbx], eax; mov eax, 1; ud2
  place(0, {0x89, 0x03, 0xB8, 1, 0, 0, 0, 0x0F, 0x0B});
  cpu().gpr[soft::kRbx] = kCode + 0x400;
  run_at(kCode);
  const std::uint64_t made = cpu().blocks.blocks_made;
  run_at(kCode);
  EXPECT_EQ(cpu().blocks.blocks_made, made);
  std::uint32_t written = 0;
  std::memcpy(&written, machine_.ram(kCodeAt + 0x400), sizeof(written));
  EXPECT_EQ(written, 1u);
  // The last byte of the line that the code is in.
  cpu().gpr[soft::kRbx] = kCode + 0x3F;
  run_at(kCode);
  run_at(kCode);
  EXPECT_GT(cpu().blocks.blocks_made, made);
}

TEST_F(BlocksTest, lines_that_become_code_are_noticed) {
  // mov byte [kCode + 0x81], 7; ud2. There: mov al, 5; ud2
  Bytes writer{0xC6, 0x04, 0x25, 0, 0, 0, 0, 7, 0x0F, 0x0B};
  const std::uint64_t operand = kCode + 0x81;
  std::memcpy(&writer[3], &operand, 4);
  place(0, writer);
  place(0x80, {0xB0, 5, 0x0F, 0x0B});
  run_at(kCode + 0x80);
  EXPECT_EQ(reg(soft::kRax) & 0xFF, 5u);
  run_at(kCode);
  run_at(kCode + 0x80);
  EXPECT_EQ(reg(soft::kRax) & 0xFF, 7u);
}

TEST_F(BlocksTest, code_that_a_device_writes_is_executed) {
  for (std::uint8_t value = 1; value < 5; ++value) {
    place(0, {0xB8, value, 0, 0, 0, 0x0F, 0x0B});
    run_at(kCode);
    EXPECT_EQ(reg(soft::kRax), value);
  }
}

TEST_F(BlocksTest, an_instruction_on_two_pages_follows_changes_of_both) {
  place(kPage - 6, {0x90, 0x90, 0x90, 0xB8, 1, 2});  // mov eax, imm32 begins at kPage - 3
  place(kPage, {3, 4, 0x0F, 0x0B});
  const std::uint64_t start = kOtherCode - 6;
  EXPECT_EQ(run_at(start).instructions, 4);
  EXPECT_EQ(reg(soft::kRax), 0x04030201u);
  place(kPage, {7, 8});
  run_at(start);
  EXPECT_EQ(reg(soft::kRax), 0x08070201u);
  place(kPage - 2, {9});
  run_at(start);
  EXPECT_EQ(reg(soft::kRax), 0x08070209u);
}

TEST_F(BlocksTest, strings_inside_a_page_need_no_semantic_function) {
  // rep stosq; mov rdi, rdx; mov ecx, r8d; rep movsb; ud2
  place(0, {0xF3, 0x48, 0xAB, 0x48, 0x89, 0xD7, 0x44, 0x89, 0xC1, 0xF3, 0xA4, 0x0F, 0x0B});
  constexpr std::uint64_t kOtherData = kData + kPage;
  machine_.map(kOtherData, kDataAt + kPage, kAll);
  const auto run_with = [&](std::uint64_t to, std::uint64_t words, std::uint64_t copied) {
    cpu().gpr[soft::kRax] = 0x0123456789ABCDEF;
    cpu().gpr[soft::kRdi] = to;
    cpu().gpr[soft::kRcx] = words;
    cpu().gpr[soft::kRsi] = to;
    cpu().gpr[soft::kRdx] = to + words * 8;
    cpu().gpr[soft::kR8] = copied;
    const std::uint64_t before = cpu().blocks.semantic_calls;
    run_at(kCode);
    EXPECT_EQ(cpu().rip, kCode + 11);
    EXPECT_EQ(reg(soft::kRcx), 0u);
    EXPECT_EQ(reg(soft::kRsi), to + copied);
    EXPECT_EQ(reg(soft::kRdi), to + words * 8 + copied);
    std::uint64_t last = 0;
    EXPECT_TRUE(soft::load_linear(cpu(), reg(soft::kRdi) - 8, &last, 8));
    EXPECT_EQ(last, 0x0123456789ABCDEFu);
    return cpu().blocks.semantic_calls - before;
  };
  run_with(kData, 4, 16);                           // the translations are there now
  EXPECT_EQ(run_with(kData, 4, 16), 1u);            // ud2
  EXPECT_EQ(run_with(kData + 8, 500, 48), 1u);      // up to 40 bytes before the page's end
  EXPECT_EQ(run_with(kOtherData - 16, 4, 16), 2u);  // the first over the page's end
}

TEST_F(BlocksTest, the_address_of_a_page_fault_is_for_supervisors) {
  place(0, {0x0F, 0x20, 0xD0, 0x0F, 0x0B});  // mov rax, cr2; ud2
  cpu().cr2 = 0x1234567890;
  cpu().cpl = 0;
  soft::cpl_changed(cpu());
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 0x1234567890u);
  EXPECT_EQ(cpu().rip, kCode + 3);
  cpu().cpl = 3;
  soft::cpl_changed(cpu());
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().rip, kCode);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kProtection);
}

TEST_F(BlocksTest, a_fault_in_the_middle_shows_flags_that_are_overwritten_later) {
  // add eax, ecx; mov [rdx], ecx; xor esi, esi; ud2
  place(0, {0x01, 0xC8, 0x89, 0x0A, 0x31, 0xF6, 0x0F, 0x0B});
  cpu().gpr[soft::kRax] = 0x7FFFFFFF;
  cpu().gpr[soft::kRcx] = 1;
  cpu().gpr[soft::kRdx] = 0x700000;  // not mapped
  cpu().set_rflags(2);
  const Ran ran = run_at(kCode);
  EXPECT_TRUE(ran.aborted);
  EXPECT_EQ(ran.instructions, 1);
  EXPECT_EQ(cpu().rip, kCode + 2);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kPage);
  EXPECT_EQ(cpu().fault.address, 0x700000u);
  using namespace soft::eflags;
  EXPECT_EQ(cpu().rflags(), kOf | kSf | kAf | kPf | 2u);
}

TEST_F(BlocksTest, a_fault_of_arithmetic_whose_flags_nobody_wants_shows_those_before_it) {
  // xor eax, eax; add rax, [rdx]; test ecx, ecx; ud2
  place(0, {0x31, 0xC0, 0x48, 0x03, 0x02, 0x85, 0xC9, 0x0F, 0x0B});
  cpu().gpr[soft::kRcx] = 1;
  cpu().gpr[soft::kRdx] = 0x700000;  // not mapped
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().rip, kCode + 2);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kPage);
  EXPECT_EQ(cpu().rflags() & (soft::eflags::kZf | soft::eflags::kPf),
            soft::eflags::kZf | soft::eflags::kPf);
  EXPECT_EQ(reg(soft::kRax), 0u);
}

TEST_F(BlocksTest, sse_needs_permission_each_time) {
  place(0, {0x0F, 0x28, 0xC1, 0x0F, 0x0B});  // movaps xmm0, xmm1; ud2
  run_at(kCode);
  EXPECT_EQ(cpu().rip, kCode + 3);
  cpu().cr0 |= 8;  // TS
  run_at(kCode);
  EXPECT_EQ(cpu().rip, kCode);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kNoMath);
}

TEST_F(BlocksTest, another_page_at_the_address_is_executed_after_invlpg) {
  place(0, {0xB8, 1, 0, 0, 0, 0xE9, 0xF6, 0x0F, 0, 0});  // mov eax, 1; jmp kOtherCode
  place(kPage, {0x83, 0xC0, 1, 0x0F, 0x0B});             // add eax, 1; ud2
  place(2 * kPage, {0x83, 0xC0, 2, 0x0F, 0x0B});         // add eax, 2; ud2
  run_at(kCode);
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 2u);
  machine_.map(kOtherCode, kCodeAt + 2 * kPage, kAll);
  machine_.mmu().invalidate_page(kOtherCode);
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 3u);
  machine_.map(kOtherCode, kCodeAt + kPage, kAll);
  machine_.mmu().flush_all();
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 2u);
}

TEST_F(BlocksTest, calls_and_returns_find_their_blocks) {
  // call +5; inc eax; ud2; (at 9) inc ecx; ret
  place(0, {0xE8, 4, 0, 0, 0, 0xFF, 0xC0, 0x0F, 0x0B, 0xFF, 0xC1, 0xC3});
  cpu().gpr[soft::kRax] = cpu().gpr[soft::kRcx] = 0;
  for (int i = 0; i < 5; ++i) run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 5u);
  EXPECT_EQ(reg(soft::kRcx), 5u);
  EXPECT_EQ(reg(soft::kRsp), kData + 0x800);
  EXPECT_LE(cpu().blocks.lookups, 4u);
}

// call kOtherCode, from an offset of the page; behind it: add edx, `added`; ud2
Bytes call_other(std::uint64_t offset, std::uint8_t added) {
  const auto distance = static_cast<std::uint32_t>(kPage - offset - 5);
  Bytes bytes{0xE8, 0, 0, 0, 0, 0x83, 0xC2, added, 0x0F, 0x0B};
  std::memcpy(&bytes[1], &distance, 4);
  return bytes;
}
// add eax, `added`; ret
Bytes callee(std::uint8_t added) { return {0x83, 0xC0, added, 0xC3}; }

TEST_F(BlocksTest, a_call_to_another_page_follows_changes_of_its_translation) {
  place(0, call_other(0, 1));
  place(kPage, callee(1));
  place(2 * kPage, callee(2));
  cpu().gpr[soft::kRax] = cpu().gpr[soft::kRdx] = 0;
  for (int i = 0; i < 4; ++i) run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 4u);
  EXPECT_EQ(reg(soft::kRdx), 4u);
  const std::uint64_t lookups = cpu().blocks.lookups;
  run_at(kCode);
  EXPECT_EQ(cpu().blocks.lookups, lookups);
  machine_.map(kOtherCode, kCodeAt + 2 * kPage, kAll);
  machine_.mmu().invalidate_page(kOtherCode);
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 7u);
  machine_.map(kOtherCode, kCodeAt + kPage, kAll);
  machine_.mmu().flush_all();
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 8u);
  place(kPage, callee(5));
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRax), 13u);
}

TEST_F(BlocksTest, a_call_in_a_page_with_two_addresses_leads_to_what_is_behind_each) {
  place(0, call_other(0, 1));
  place(kPage, callee(1));
  place(2 * kPage, callee(3));
  machine_.map(kAlias + kPage, kCodeAt + 2 * kPage, kAll);
  cpu().gpr[soft::kRax] = 0;
  for (int i = 0; i < 3; ++i) {
    run_at(kCode);
    run_at(kAlias);
    run_at(kAlias);
  }
  EXPECT_EQ(reg(soft::kRax), 3u * (1 + 3 + 3));
}

TEST_F(BlocksTest, a_return_goes_to_what_is_at_its_address_now) {
  place(0, call_other(0, 1));
  place(kPage, callee(1));
  place(2 * kPage, call_other(0, 3));
  for (int i = 0; i < 3; ++i) run_at(kCode);
  cpu().gpr[soft::kRdx] = 0;
  run_at(kCode, 1);
  ASSERT_EQ(cpu().rip, kOtherCode);
  machine_.map(kCode, kCodeAt + 2 * kPage, kAll);
  machine_.mmu().invalidate_page(kCode);
  run_at(cpu().rip);
  EXPECT_EQ(reg(soft::kRdx), 3u);
  // Also when it was written to.
  run_at(kCode, 1);
  ASSERT_EQ(cpu().rip, kOtherCode);
  place(2 * kPage, call_other(0, 4));
  run_at(cpu().rip);
  EXPECT_EQ(reg(soft::kRdx), 7u);
}

TEST_F(BlocksTest, returns_of_more_calls_than_are_remembered) {
  // call +5; ud2; nop x3; (at 10) dec ecx; jz +7; call -9; inc eax; ret
  place(0, {0xE8, 5,    0, 0,    0,    0x0F, 0x0B, 0x90, 0x90, 0x90, 0xFF,
            0xC9, 0x74, 7, 0xE8, 0xF7, 0xFF, 0xFF, 0xFF, 0xFF, 0xC0, 0xC3});
  for (int i = 0; i < 3; ++i) {
    cpu().gpr[soft::kRax] = 0;
    cpu().gpr[soft::kRcx] = 100;
    run_at(kCode);
    EXPECT_EQ(cpu().rip, kCode + 5);
    EXPECT_EQ(reg(soft::kRax), 99u);
    EXPECT_EQ(reg(soft::kRsp), kData + 0x800);
  }
}

TEST_F(BlocksTest, calls_know_their_returns_whatever_else_is_looked_up) {
  constexpr std::uint64_t kFirst = 5, kSecond = 0x44;  // what is returned to
  ASSERT_EQ(soft::jump_slot(kCode + kFirst), soft::jump_slot(kCode + kSecond));
  // call 0x80; jmp 0x3F; (at 0x3F) call 0x80; dec ecx; jnz 0; ud2; (at 0x80) ret
  place(0, {0xE8, 0x7B, 0, 0, 0, 0xEB, 0x38});
  place(kSecond - 5, {0xE8, 0x3C, 0, 0, 0, 0xFF, 0xC9, 0x75, 0xB8, 0x0F, 0x0B});
  place(0x80, {0xC3});
  cpu().gpr[soft::kRcx] = 100;
  run_at(kCode);
  EXPECT_EQ(reg(soft::kRcx), 0u);
  EXPECT_EQ(reg(soft::kRsp), kData + 0x800);
  EXPECT_LE(cpu().blocks.lookups, 8u);
}

TEST_F(BlocksTest, a_return_that_was_changed_goes_where_it_says) {
  // call +4; inc eax; ud2; (at 9) add qword [rsp], 2; ret
  place(0, {0xE8, 4, 0, 0, 0, 0xFF, 0xC0, 0x0F, 0x0B, 0x48, 0x83, 0x04, 0x24, 2, 0xC3});
  cpu().gpr[soft::kRax] = 0;
  for (int i = 0; i < 3; ++i) {
    run_at(kCode);
    EXPECT_EQ(cpu().rip, kCode + 7);
  }
  EXPECT_EQ(reg(soft::kRax), 0u);
}

// Where some instructions are executed as one, the fault is that of the right one and what came
// before it is done.
TEST_F(BlocksTest, faults_at_each_place_of_a_chain) {
  place(0, {0x50, 0x50, 0x50, 0x50, 0x0F, 0x0B});      // push rax x4; ud2
  place(0x100, {0x59, 0x59, 0x59, 0x59, 0x0F, 0x0B});  // pop rcx x4; ud2
  cpu().gpr[soft::kRax] = 7;
  for (std::uint64_t words = 0; words < 4; ++words) {
    cpu().gpr[soft::kRsp] = kData + words * 8;
    Ran ran = run_at(kCode);
    EXPECT_TRUE(ran.aborted);
    EXPECT_EQ(ran.instructions, static_cast<std::int64_t>(words));
    EXPECT_EQ(cpu().rip, kCode + words);
    EXPECT_EQ(reg(soft::kRsp), kData);
    cpu().gpr[soft::kRsp] = kData + kPage - words * 8;
    ran = run_at(kCode + 0x100);
    EXPECT_TRUE(ran.aborted);
    EXPECT_EQ(ran.instructions, static_cast<std::int64_t>(words));
    EXPECT_EQ(cpu().rip, kCode + 0x100 + words);
    EXPECT_EQ(reg(soft::kRsp), kData + kPage);
  }
}

// A page whose translation was changed without a word to the processor: old and new are allowed,
// until it is told. The page of kEvictor shares the slot of kCode's fetch translation.
constexpr std::uint64_t kEvictor = 0x700000;
void change_silently(FlatMachine& machine) {
  machine.map(kCode, kCodeAt + 2 * kPage, kAll);
  machine.map(kEvictor, kCodeAt + 3 * kPage, kAll);
  machine.write(kCodeAt + 3 * kPage + 0x80, kUd2);
  machine.cpu().rip = kEvictor + 0x80;
  machine.run(Way::kBlocks, 1000);
}

class SilentChangeTest : public BlocksTest {
 protected:
  // The old translation is back, and the processor is told: at both addresses the code adds 1.
  void expect_own_page_again() {
    machine_.map(kCode, kCodeAt, kAll);
    machine_.mmu().flush_all();
    cpu().gpr[soft::kRdx] = 0;
    for (const std::uint64_t at : {kCode, kAlias, kCode, kAlias}) run_at(at);
    EXPECT_EQ(reg(soft::kRdx), 4u);
  }
};

TEST_F(SilentChangeTest, what_a_call_knows_of_its_return_is_of_its_own_page) {
  machine_.map(kAlias + kPage, kCodeAt + kPage, kAll);
  place(0, call_other(0, 1));
  place(kPage, {0xC3});
  place(2 * kPage, call_other(0, 3));
  run_at(kCode, 1);
  change_silently(machine_);
  run_at(kOtherCode);
  run_at(kCode);
  expect_own_page_again();
}

TEST_F(SilentChangeTest, what_a_branch_knows_of_its_page_is_of_its_own_page) {
  const auto code = [](std::uint8_t added) {  // nop; jmp +3; nop x3; add edx, `added`; ud2
    return Bytes{0x90, 0xEB, 3, 0x90, 0x90, 0x90, 0x83, 0xC2, added, 0x0F, 0x0B};
  };
  place(0, code(1));
  place(2 * kPage, code(3));
  run_at(kCode, 1);
  change_silently(machine_);
  run_at(kCode);
  expect_own_page_again();
}

TEST_F(BlocksTest, what_kernels_do_at_their_entries) {
  // swapgs; stac; cld; clac; stac; ud2
  place(0,
        {0x0F, 0x01, 0xF8, 0x0F, 0x01, 0xCB, 0xFC, 0x0F, 0x01, 0xCA, 0x0F, 0x01, 0xCB, 0x0F, 0x0B});
  auto& gs = cpu().segment[static_cast<std::size_t>(soft::Segment::kGs)].base;
  cpu().cpl = 0;
  soft::cpl_changed(cpu());
  gs = 1;
  cpu().kernel_gs_base = 2;
  cpu().other_flags = soft::eflags::kDf;
  run_at(kCode);
  EXPECT_EQ(cpu().rip, kCode + 13);
  EXPECT_EQ(gs, 2u);
  EXPECT_EQ(cpu().kernel_gs_base, 1u);
  EXPECT_EQ(cpu().other_flags, soft::eflags::kAc);
  EXPECT_LE(cpu().blocks.semantic_calls, 1u);
  // Programs may not.
  cpu().cpl = 3;
  soft::cpl_changed(cpu());
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kProtection);
  for (const std::uint64_t offset : {3u, 7u}) {
    EXPECT_TRUE(run_at(kCode + offset).aborted);
    EXPECT_EQ(cpu().rip, kCode + offset);
    EXPECT_EQ(cpu().fault.vector, soft::vector::kUndefined);
  }
  EXPECT_EQ(gs, 2u);
  EXPECT_EQ(cpu().other_flags, soft::eflags::kAc);
}

TEST_F(BlocksTest, sixteen_bytes_are_exchanged_if_they_are_as_expected) {
  place(0, {0x48, 0x0F, 0xC7, 0x0E, 0x0F, 0x0B});  // cmpxchg16b [rsi]; ud2
  std::array<std::uint64_t, 2> memory{1, 2};
  std::memcpy(machine_.ram(kDataAt + 16), memory.data(), 16);
  constexpr std::uint32_t kOthers = soft::eflags::kStatus & ~soft::eflags::kZf;
  const auto exchange = [&](std::uint64_t low, std::uint64_t high, std::uint64_t at) {
    cpu().gpr[soft::kRax] = low;
    cpu().gpr[soft::kRdx] = high;
    cpu().gpr[soft::kRbx] = 3;
    cpu().gpr[soft::kRcx] = 4;
    cpu().gpr[soft::kRsi] = at;
    cpu().status = soft::StatusFlags::from_eflags(kOthers);
    run_at(kCode);
    std::memcpy(memory.data(), machine_.ram(kDataAt + 16), 16);
    return cpu().rip;
  };
  exchange(0, 0, kData + 16);  // fills the TLB
  EXPECT_EQ(exchange(1, 5, kData + 16), kCode + 4);
  EXPECT_EQ(cpu().status.eflags(), kOthers);
  EXPECT_EQ(reg(soft::kRax), 1u);
  EXPECT_EQ(reg(soft::kRdx), 2u);
  EXPECT_EQ(memory[1], 2u);
  EXPECT_EQ(exchange(1, 2, kData + 16), kCode + 4);
  EXPECT_EQ(cpu().status.eflags(), soft::eflags::kStatus);
  EXPECT_EQ(memory, (std::array<std::uint64_t, 2>{3, 4}));
  EXPECT_EQ(exchange(3, 4, kData + 24), kCode);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kProtection);
  EXPECT_EQ(memory, (std::array<std::uint64_t, 2>{3, 4}));
}

TEST_F(BlocksTest, a_return_to_an_address_that_cannot_be_is_the_fault_of_the_return) {
  place(0, {0xC3});
  const std::uint64_t target = 1ull << 63;
  std::memcpy(machine_.ram(kDataAt + 0x800), &target, sizeof(target));
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().rip, kCode);
  EXPECT_EQ(cpu().fault.vector, soft::vector::kProtection);
  EXPECT_EQ(reg(soft::kRsp), kData + 0x800);
}

TEST_F(BlocksTest, an_instruction_follows_sti) {
  place(0, {0xFB, 0xFF, 0xC0, 0xFF, 0xC0, 0xEB, 0xFE});  // sti; inc eax; inc eax; jmp to itself
  cpu().other_flags = soft::eflags::kIopl;
  cpu().gpr[soft::kRax] = 0;
  cpu().rip = kCode;
  EXPECT_EQ(soft::run_blocks(cpu()), soft::BlockStop::kRequest);
  EXPECT_NE(cpu().attention.load() & soft::kAttentionInterrupt, 0u);
  // The request is looked at where a block is left; not before the next instruction at any rate.
  EXPECT_GE(reg(soft::kRax), 1u);
  // A CLI comes behind the look.
  place(0, {0xFB, 0xFF, 0xC0, 0xFA, 0x0F, 0x0B});  // sti; inc eax; cli; ud2
  cpu().attention = 0;
  cpu().other_flags = soft::eflags::kIopl;
  cpu().rip = kCode;
  EXPECT_EQ(soft::run_blocks(cpu()), soft::BlockStop::kRequest);
  EXPECT_EQ(cpu().rip, kCode + 3);
  EXPECT_NE(cpu().other_flags & soft::eflags::kIf, 0u);
  // Nobody looks when no interrupt waits.
  cpu().attention = 0;
  cpu().interrupt_waits = false;
  cpu().other_flags = soft::eflags::kIopl;
  EXPECT_TRUE(run_at(kCode).aborted);
  EXPECT_EQ(cpu().rip, kCode + 4);
  EXPECT_EQ(cpu().attention.load(), 0u);
  cpu().interrupt_waits = true;
  // As the last of a page it has no next instruction in its block, and begins a shadow.
  place(kPage - 1, {0xFB});
  cpu().attention = 0;
  cpu().other_flags = soft::eflags::kIopl;
  cpu().rip = kOtherCode - 1;
  EXPECT_EQ(soft::run_blocks(cpu()), soft::BlockStop::kRequest);
  EXPECT_EQ(cpu().rip, kOtherCode);
  EXPECT_EQ(cpu().interrupt_shadow, 1);
}

TEST_F(BlocksTest, code_without_end_does_not_fill_memory) {
  // Each round is new code: a device changes a byte of the line, and all blocks of the page go.
  place(0, kLoop);
  for (int i = 0; i < 2000; ++i) {
    place(0x3F, {static_cast<std::uint8_t>(i)});
    EXPECT_TRUE(run_at(kCode, 1'000'000).aborted);
  }
  EXPECT_GE(cpu().blocks.blocks_made, 2000u);
  EXPECT_GE(machine_.drops(), 1999u);
}

// More than the smallest chunk, the growing ones and a huge page hold.
TEST(BlockMemory, grows_keeps_what_it_has_and_begins_anew) {
  constexpr std::size_t kPieces = 8000, kSlots = 32;  // chunks are multiples of it
  soft::BlockMemory memory;
  const soft::BlockMemory::Slot* first = nullptr;
  for (int round = 0; round < 2; ++round) {
    std::vector<soft::BlockMemory::Slot*> pieces;
    for (std::size_t i = 0; i < kPieces; ++i) {
      pieces.push_back(memory.add_slots(kSlots));
      std::memset(pieces.back()->bytes, static_cast<int>(i % 251), kSlots * sizeof(soft::Uop));
      // As handlers do behind a block; the address sanitizer sees whether that is memory.
      [[maybe_unused]] const volatile std::byte behind = pieces.back()[kSlots].bytes[0];
    }
    if (round == 0) first = pieces.front();
    EXPECT_EQ(pieces.front(), first);
    for (std::size_t i = 0; i < kPieces; ++i) {
      const std::byte value{static_cast<std::uint8_t>(i % 251)};
      ASSERT_EQ(pieces[i][0].bytes[0], value);
      ASSERT_EQ(pieces[i][kSlots - 1].bytes[sizeof(soft::Uop) - 1], value);
    }
    memory.clear();
  }
}

}  // namespace
}  // namespace sm::cpu_test
