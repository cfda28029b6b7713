// Near branches, loops and BOUND.
#include <array>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/exec/stack_access.h"

namespace sm::soft {

namespace {

bool is_canonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

// Truncates a branch target to the operand size and checks that CS holds it: #GP(0) of the branch.
// `target` is an offset in CS.
bool check_target(Cpu& cpu, const Insn& insn, std::uint64_t& target) {
  if (cpu.mode == CodeMode::k64) {
    if (insn.operand_size == 2) target &= 0xFFFF;
    if (is_canonical(target)) return true;
  } else {
    target &= insn.operand_size == 2 ? 0xFFFF : 0xFFFFFFFF;
    if (target <= cpu.segment[static_cast<std::size_t>(Segment::kCs)].limit) return true;
  }
  raise(cpu, vector::kProtection, 0);
  return false;
}

Next jump(Cpu& cpu, std::uint64_t target) {
  cpu.rip = target;
  return Next::kJump;
}

std::uint64_t next_rip(const Cpu& cpu, const Insn& insn) { return cpu.rip + insn.length; }

Next jump_relative(Cpu& cpu, const Insn& insn) {
  std::uint64_t target = next_rip(cpu, insn) + static_cast<std::uint64_t>(insn.imm);
  return check_target(cpu, insn, target) ? jump(cpu, target) : Next::kAborted;
}

// The target of JMP and CALL, unchecked: relative, or the value of a register or memory.
bool read_target(Cpu& cpu, const Insn& insn, std::uint64_t& target) {
  if (insn.operand[0].kind == OperandKind::kRel) {
    target = next_rip(cpu, insn) + static_cast<std::uint64_t>(insn.imm);
    return true;
  }
  const Next next = by_wide_size(insn.operand_size, [&](auto tag) {
    decltype(tag) value = 0;
    const bool ok = read_operand(cpu, insn, 0, value);
    target = value;
    return done(ok);
  });
  return next == Next::kNext;
}

Next jcc(Cpu& cpu, const Insn& insn) {
  return condition_holds(cpu.status, insn.condition) ? jump_relative(cpu, insn) : Next::kNext;
}

Next jmp_near(Cpu& cpu, const Insn& insn) {
  std::uint64_t target = 0;
  const bool ok = read_target(cpu, insn, target) && check_target(cpu, insn, target);
  return ok ? jump(cpu, target) : Next::kAborted;
}

// As on processors the return address is written before a bad target is found.
Next call_near(Cpu& cpu, const Insn& insn) {
  std::uint64_t target = 0;
  if (!read_target(cpu, insn, target)) return Next::kAborted;
  const std::uint64_t before = cpu.gpr[kRsp];
  const Next next = by_wide_size(insn.operand_size, [&](auto tag) {
    return done(push_value(cpu, static_cast<decltype(tag)>(next_rip(cpu, insn))));
  });
  if (next != Next::kNext) return next;
  if (check_target(cpu, insn, target)) return jump(cpu, target);
  cpu.gpr[kRsp] = before;
  return Next::kAborted;
}

Next ret_near(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand_size, [&](auto tag) {
    decltype(tag) value = 0;
    if (!load_top(cpu, value)) return Next::kAborted;
    std::uint64_t target = value;
    if (!check_target(cpu, insn, target)) return Next::kAborted;
    const std::uint64_t extra = insn.operand_count == 0 ? 0 : static_cast<std::uint16_t>(insn.imm);
    release_stack(cpu, sizeof(value) + extra);
    return jump(cpu, target);
  });
}

Next jcxz(Cpu& cpu, const Insn& insn) {
  return read_sized(cpu, kRcx, insn.address_size) == 0 ? jump_relative(cpu, insn) : Next::kNext;
}

enum class LoopWhile : std::uint8_t { kAlways, kZero, kNotZero };

// Counts down cx, ecx or rcx, and jumps while it is not zero and the condition holds.
template <LoopWhile kWhile>
Next loop(Cpu& cpu, const Insn& insn) {
  const std::uint64_t count = (cpu.gpr[kRcx] - 1) & address_mask(insn.address_size);
  const bool condition =
      kWhile == LoopWhile::kAlways || cpu.status.zf() == (kWhile == LoopWhile::kZero);
  Next next = Next::kNext;
  if (count != 0 && condition) {
    next = jump_relative(cpu, insn);
    if (next == Next::kAborted) return next;
  }
  write_sized(cpu, kRcx, insn.address_size, count);
  return next;
}

// #BR when a signed index is outside of the two bounds in memory.
template <class T>
Next bound_sized(Cpu& cpu, const Insn& insn) {
  std::uint64_t linear = 0;
  std::array<T, 2> bounds{};
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), sizeof(bounds), false,
                      linear) ||
      !load_linear(cpu, linear, bounds.data(), sizeof(bounds))) {
    return Next::kAborted;
  }
  const T index = static_cast<T>(cpu.gpr[insn.operand[0].reg]);
  const bool inside = index >= bounds[0] && index <= bounds[1];
  return inside ? Next::kNext : raise(cpu, vector::kBound);
}

Next bound(Cpu& cpu, const Insn& insn) {
  return insn.operand_size == 2 ? bound_sized<std::int16_t>(cpu, insn)
                                : bound_sized<std::int32_t>(cpu, insn);
}

}  // namespace

std::span<const SemanticEntry> control_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kJcc, jcc},
      {Op::kJmpNear, jmp_near},
      {Op::kCallNear, call_near},
      {Op::kRetNear, ret_near},
      {Op::kJcxz, jcxz},
      {Op::kLoop, loop<LoopWhile::kAlways>},
      {Op::kLoope, loop<LoopWhile::kZero>},
      {Op::kLoopne, loop<LoopWhile::kNotZero>},
      {Op::kBound, bound},
  });
  return kEntries;
}

}  // namespace sm::soft
