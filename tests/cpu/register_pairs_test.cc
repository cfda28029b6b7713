// Register operations in pairs, which blocks execute by one handler: with all operands they share
// or do not share they must do what they do one by one.
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

#include "tests/cpu/flat_machine.h"
#include "vmm/cpu/soft/fast/translate.h"

namespace sm::cpu_test {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kCode = 0x400000, kCodeAt = 0x100000;
constexpr std::uint8_t kRegisters = 3;  // rax, rcx, rdx
constexpr std::uint8_t kSources = 4;    // those, or immediates

struct Operation {
  std::uint8_t opcode;
  std::uint8_t extension = 0;  // of the opcode, in ModRM
  bool immediate = false;
};
constexpr std::array kOperations = std::to_array<Operation>({
    {0x89},           // mov
    {0x01},           // add
    {0x29},           // sub
    {0x31},           // xor
    {0x21},           // and
    {0x09},           // or
    {0x83, 0, true},  // add
    {0x83, 4, true},  // and
    {0xC1, 4, true},  // shl
    {0xC1, 5, true},  // shr
    {0xC1, 1, true},  // ror
    {0xC1, 0, true},  // rol
});

// A count, or what is sign-extended.
constexpr std::array<std::uint8_t, 4> kImmediates{13, 0, 0x3F, 0x80};

// `from`: a register, or one of kImmediates.
Bytes encode(const Operation& operation, bool wide, std::uint8_t to, std::uint8_t from) {
  Bytes bytes;
  if (wide) bytes.push_back(0x48);
  const std::uint8_t middle = operation.immediate ? operation.extension : from;
  bytes.insert(bytes.end(), {operation.opcode, static_cast<std::uint8_t>(0xC0 | middle << 3 | to)});
  if (operation.immediate) bytes.push_back(kImmediates[from]);
  return bytes;
}
// lea rax, [rcx + 5] and lea rax, [rcx + rdx * 2]
const std::array<Bytes, 2> kLeas{Bytes{0x48, 0x8D, 0x41, 5}, Bytes{0x48, 0x8D, 0x04, 0x51}};

class RegisterPairs : public testing::Test {
 protected:
  RegisterPairs() { machine_.map(kCode, kCodeAt, kPresent | kWritable | kUser); }

  std::array<std::uint64_t, kRegisters> run(Way way) {
    soft::Cpu& cpu = machine_.cpu();
    cpu.gpr[0] = 0x8123'4567'89AB'CDEF;
    cpu.gpr[1] = 0xFEDC'BA98'7654'3210;
    cpu.gpr[2] = 0x0F1E'2D3C'4B5A'6978;
    cpu.rip = kCode;
    machine_.run(way, 100);
    return {cpu.gpr[0], cpu.gpr[1], cpu.gpr[2]};
  }
  // Behind the two: test ebx, ebx, so that nobody wants their flags; ud2.
  void expect_same(Bytes first, const Bytes& second) {
    first.insert(first.end(), second.begin(), second.end());
    first.insert(first.end(), {0x85, 0xDB, 0x0F, 0x0B});
    machine_.write(kCodeAt, first);
    machine_.mmu().flush_all();
    EXPECT_EQ(run(Way::kBlocks), run(Way::kReference)) << testing::PrintToString(first);
  }
  void expect_same_with_all(const Bytes& first) {
    for (const Operation& second : kOperations) {
      for (std::uint8_t i = 0; i < 2 * kRegisters * kSources; ++i) {
        const bool wide = i >= kRegisters * kSources;
        const std::uint8_t from = i / kRegisters % kSources;
        if (from >= kRegisters && !second.immediate) continue;
        expect_same(first, encode(second, wide, i % kRegisters, from));
      }
    }
  }

  FlatMachine machine_{2 << 20};
};

TEST_F(RegisterPairs, do_what_they_do_one_by_one) {
  for (const Operation& first : kOperations) {
    for (const bool wide : {false, true}) {
      expect_same_with_all(encode(first, wide, 0, 1));
      expect_same_with_all(encode(first, wide, 0, 0));
    }
  }
}

// Of a block that begins with these and then does something that is in no pair.
soft::Handler first_handler(Bytes bytes) {
  bytes.insert(bytes.end(), {0x85, 0xDB, 0x0F, 0xA2});  // test ebx, ebx; cpuid
  static soft::TranslatedBlock made;
  EXPECT_TRUE(soft::translate(bytes, 0, nullptr, made));
  return made.uops[0].handler;
}

TEST_F(RegisterPairs, have_handlers_of_their_own) {
  const Bytes xor_rax_rcx{0x48, 0x31, 0xC8}, shl_rax{0x48, 0xC1, 0xE0, 13},
      sub_rdx_rax{0x48, 0x29, 0xC2}, sub_rdx_rcx{0x48, 0x29, 0xCA};
  std::set<soft::Handler> handlers{first_handler(xor_rax_rcx)};
  for (const Bytes& second : {shl_rax, sub_rdx_rax, sub_rdx_rcx}) {
    Bytes both = xor_rax_rcx;
    both.insert(both.end(), second.begin(), second.end());
    handlers.insert(first_handler(both));
  }
  EXPECT_EQ(handlers.size(), 4u);
}

TEST_F(RegisterPairs, begin_with_an_address) {
  for (const Bytes& lea : kLeas) expect_same_with_all(lea);
}

}  // namespace
}  // namespace sm::cpu_test
