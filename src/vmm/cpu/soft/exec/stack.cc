// Push, pop and stack frames.
#include <array>

#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/exec/stack_access.h"

namespace sm::soft {

namespace {

Next push(Cpu& cpu, const Insn& insn) {
  const Operand& operand = insn.operand[0];
  return by_wide_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    if (operand.kind == OperandKind::kSegment) {  // zero-extended
      return done(push_value(cpu, T{cpu.segment[operand.reg].selector}));
    }
    T value = 0;
    return done(read_operand(cpu, insn, 0, value) && push_value(cpu, value));
  });
}

Next pop_segment(Cpu& cpu, const Insn& insn) {
  std::uint16_t selector = 0;
  if (!load_top(cpu, selector)) return Next::kAborted;
  const auto which = static_cast<Segment>(insn.operand[0].reg);
  // The pointer's width is the old stack segment's.
  const std::uint64_t pointer = moved_stack_pointer(cpu, cpu.gpr[kRsp], insn.operand_size);
  if (!load_segment(cpu, which, selector)) return Next::kAborted;
  cpu.gpr[kRsp] = pointer;
  if (which == Segment::kSs) begin_interrupt_shadow(cpu, 2);
  return Next::kNext;
}

// The destination is addressed, or written when it is the stack pointer, after the pointer moved.
Next pop(Cpu& cpu, const Insn& insn) {
  if (insn.operand[0].kind == OperandKind::kSegment) return pop_segment(cpu, insn);
  return by_wide_size(insn.operand_size, [&](auto tag) {
    decltype(tag) value = 0;
    if (!load_top(cpu, value)) return Next::kAborted;
    const std::uint64_t before = cpu.gpr[kRsp];
    release_stack(cpu, sizeof(value));
    if (write_operand(cpu, insn, 0, value)) return Next::kNext;
    cpu.gpr[kRsp] = before;
    return Next::kAborted;
  });
}

// Outside 64-bit mode only, so T is of 2 or 4 bytes.
template <class T>
Next pusha_sized(Cpu& cpu) {
  constexpr std::uint64_t kStep = sizeof(T);
  const std::uint64_t top = cpu.gpr[kRsp];
  for (std::uint64_t i = 1; i <= 8; ++i) {
    if (!check_stack_write(cpu, stack_offset(cpu, top, 0 - i * kStep), sizeof(T))) {
      return Next::kAborted;
    }
  }
  for (std::uint8_t reg = kRax; reg <= kRdi; ++reg) {
    const std::uint64_t offset = stack_offset(cpu, top, 0 - (reg + std::uint64_t{1}) * kStep);
    if (!store_stack(cpu, offset, read_gpr<T>(cpu, reg))) return Next::kAborted;
  }
  cpu.gpr[kRsp] = moved_stack_pointer(cpu, top, 0 - 8 * kStep);
  return Next::kNext;
}

Next pusha(Cpu& cpu, const Insn& insn) {
  return insn.operand_size == 2 ? pusha_sized<std::uint16_t>(cpu) : pusha_sized<std::uint32_t>(cpu);
}

template <class T>
Next popa_sized(Cpu& cpu) {
  std::array<T, 8> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!load_stack(cpu, stack_offset(cpu, cpu.gpr[kRsp], i * sizeof(T)), values[i])) {
      return Next::kAborted;
    }
  }
  for (std::uint8_t reg = kRax; reg <= kRdi; ++reg) {
    if (reg != kRsp) write_gpr<T>(cpu, reg, values[std::size_t{7} - reg]);
  }
  release_stack(cpu, sizeof(values));
  return Next::kNext;
}

Next popa(Cpu& cpu, const Insn& insn) {
  return insn.operand_size == 2 ? popa_sized<std::uint16_t>(cpu) : popa_sized<std::uint32_t>(cpu);
}

// In virtual-8086 mode PUSHF and POPF are for IOPL 3 only. (This CPU has no VME.)
bool flags_are_sensitive(const Cpu& cpu) {
  return (cpu.other_flags & eflags::kVm) != 0 && io_privilege(cpu) != 3;
}

Next pushf(Cpu& cpu, const Insn& insn) {
  if (flags_are_sensitive(cpu)) return raise(cpu, vector::kProtection, 0);
  return by_wide_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    constexpr std::uint64_t kNotPushed = eflags::kVm | eflags::kRf;
    return done(push_value(cpu, static_cast<T>(cpu.rflags() & ~kNotPushed)));
  });
}

Next popf(Cpu& cpu, const Insn& insn) {
  if (flags_are_sensitive(cpu)) return raise(cpu, vector::kProtection, 0);
  return by_wide_size(insn.operand_size, [&](auto tag) {
    decltype(tag) value = 0;
    if (!load_top(cpu, value)) return Next::kAborted;
    const std::uint64_t writable = writable_flags(cpu, insn.operand_size);
    release_stack(cpu, sizeof(value));
    load_rflags(cpu, (cpu.rflags() & ~writable & ~std::uint64_t{eflags::kRf}) | (value & writable));
    return Next::kNext;
  });
}

// ENTER's steps, in order, on a stack pointer and a frame pointer of its own. Once with `commit`
// false to find every fault, then for real.
template <class T>
class Frame {
 public:
  Frame(Cpu& cpu, bool commit) : cpu_(cpu), commit_(commit), pointer_(cpu.gpr[kRsp]) {}

  bool push(T value) {
    pointer_ = moved_stack_pointer(cpu_, pointer_, 0 - std::uint64_t{sizeof(T)});
    const std::uint64_t offset = stack_offset(cpu_, pointer_, 0);
    return commit_ ? store_stack(cpu_, offset, value) : check_stack_write(cpu_, offset, sizeof(T));
  }
  // Copies the pointers of the enclosing frames.
  bool push_display(std::uint8_t level) {
    for (std::uint8_t i = 1; i < level; ++i) {
      T value = 0;
      const std::uint64_t below = 0 - std::uint64_t{i} * sizeof(T);
      if (!load_stack(cpu_, stack_offset(cpu_, cpu_.gpr[kRbp], below), value) || !push(value)) {
        return false;
      }
    }
    return true;
  }
  std::uint64_t pointer() const { return pointer_; }

 private:
  Cpu& cpu_;
  bool commit_;
  std::uint64_t pointer_;
};

template <class T>
bool build_frame(Cpu& cpu, const Insn& insn, bool commit) {
  const auto level = static_cast<std::uint8_t>(insn.imm2 & 31);
  const auto bytes = static_cast<std::uint16_t>(insn.imm);
  Frame<T> frame(cpu, commit);
  if (!frame.push(read_gpr<T>(cpu, kRbp))) return false;
  const std::uint64_t base = frame.pointer();
  if (level != 0 && (!frame.push_display(level) || !frame.push(static_cast<T>(base)))) {
    return false;
  }
  const std::uint64_t top = moved_stack_pointer(cpu, frame.pointer(), 0 - std::uint64_t{bytes});
  // The new top must be writable, too.
  if (!commit) return check_stack_write(cpu, stack_offset(cpu, top, 0), sizeof(T));
  write_gpr<T>(cpu, kRbp, static_cast<T>(base));
  cpu.gpr[kRsp] = top;
  return true;
}

Next enter(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    return done(build_frame<T>(cpu, insn, false) && build_frame<T>(cpu, insn, true));
  });
}

Next leave(Cpu& cpu, const Insn& insn) {
  return by_wide_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    const std::uint64_t frame = cpu.gpr[kRbp];
    T value = 0;
    if (!load_stack(cpu, stack_offset(cpu, frame, 0), value)) return Next::kAborted;
    const std::uint64_t mask = address_mask(stack_width(cpu));
    const std::uint64_t pointer = (cpu.gpr[kRsp] & ~mask) | (frame & mask);
    cpu.gpr[kRsp] = moved_stack_pointer(cpu, pointer, sizeof(T));
    write_gpr<T>(cpu, kRbp, value);
    return Next::kNext;
  });
}

}  // namespace

std::span<const SemanticEntry> stack_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kPush, push},
      {Op::kPop, pop},
      {Op::kPusha, pusha},
      {Op::kPopa, popa},
      {Op::kPushf, pushf},
      {Op::kPopf, popf},
      {Op::kEnter, enter},
      {Op::kLeave, leave},
  });
  return kEntries;
}

}  // namespace sm::soft
