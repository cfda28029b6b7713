// Addition, logic, comparison and multiplication.
#include "vmm/cpu/soft/fast/alu.h"

#include <array>

#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

// These read the carry, so that without flags they cost the same.
#define SM_SOFT_OPERATION(Name, function)          \
  struct Name {                                    \
    static constexpr bool kWrites = true;          \
    template <class T>                             \
    static T apply(T a, T b, StatusFlags& flags) { \
      return host::function(a, b, flags);          \
    }                                              \
  };
SM_SOFT_OPERATION(Adc, adc)
SM_SOFT_OPERATION(Sbb, sbb)
#undef SM_SOFT_OPERATION

#define SM_SOFT_OPERATION(Name, expression, with_flags) \
  struct Name {                                         \
    template <class T>                                  \
    static T apply(T a, StatusFlags& flags) {           \
      (void)flags;                                      \
      return static_cast<T>(with_flags);                \
    }                                                   \
    template <class T>                                  \
    static T plain(T a) {                               \
      return static_cast<T>(expression);                \
    }                                                   \
  };
SM_SOFT_OPERATION(Inc, a + 1, host::inc(a, flags))
SM_SOFT_OPERATION(Dec, a - 1, host::dec(a, flags))
SM_SOFT_OPERATION(Neg, -a, host::neg(a, flags))
SM_SOFT_OPERATION(Not, ~a, ~a)
#undef SM_SOFT_OPERATION

// Comparisons read their first operand only.
template <Shape kShape>
struct ReadMem : SrcMem<kShape> {
  template <class T>
  [[gnu::always_inline]] static std::byte* locate(Cpu& cpu, const Uop* uop) {
    return find_bytes(cpu.read_tlb, address_of<kShape>(cpu, uop), sizeof(T));
  }
};

template <class Operation, class T, class Destination, bool kFlags>
const Uop* unary(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* to = Destination::template locate<T>(cpu, uop);
  if constexpr (Destination::kIsMemory) {
    if (to == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  T a = load_from<T>(to);
  if constexpr (kFlags) {
    a = Operation::apply(a, cpu.status);
  } else {
    a = Operation::plain(a);
  }
  Destination::template store<T>(to, a);
  return go_on(cpu, uop, ahead);
}

// dst = source * imm.
template <class T, class Source, bool kFlags>
const Uop* multiply_immediate(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<T>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  T a = load_from<T>(from);
  const T b = static_cast<T>(uop->imm);
  if constexpr (kFlags) {
    a = host::imul(b, a, cpu.status);
  } else {
    a = static_cast<T>(a * b);
  }
  write_gpr_at<T>(cpu, uop->dst, a);
  return go_on(cpu, uop, ahead);
}

template <class Operation>
concept HasPlain = requires {
  Operation::template plain<std::uint32_t>(0, 0);
};

// One operation in one size. By flags: 0 not needed, 1 needed; by shape.
struct Forms {
  std::array<Handler, 2> reg_reg;
  std::array<Handler, 2> reg_imm;
  std::array<std::array<Handler, kShapes>, 2> reg_mem;
  std::array<Handler, kShapes> mem_reg;
  std::array<Handler, kShapes> mem_imm;
};

template <class Operation, class T, bool kFlags>
constexpr std::array<Handler, kShapes> from_memory() {
  return {one<Binary<Operation, T, DstReg, SrcMem<Shape::kBase>, kFlags>>,
          one<Binary<Operation, T, DstReg, SrcMem<Shape::kIndexed>, kFlags>>,
          one<Binary<Operation, T, DstReg, SrcMem<Shape::kSegment>, kFlags>>};
}
template <class Operation, class T>
constexpr Forms binary_forms() {
  constexpr bool kAlways = !HasPlain<Operation> || !Operation::kWrites;
  const auto by_shape = []<class Source>(Source) {
    if constexpr (Operation::kWrites) {
      return std::array<Handler, kShapes>{
          one<Binary<Operation, T, DstMem<Shape::kBase>, Source, true>>,
          one<Binary<Operation, T, DstMem<Shape::kIndexed>, Source, true>>,
          one<Binary<Operation, T, DstMem<Shape::kSegment>, Source, true>>};
    } else {
      return std::array<Handler, kShapes>{
          one<Binary<Operation, T, ReadMem<Shape::kBase>, Source, true>>,
          one<Binary<Operation, T, ReadMem<Shape::kIndexed>, Source, true>>,
          one<Binary<Operation, T, ReadMem<Shape::kSegment>, Source, true>>};
    }
  };
  return {
      .reg_reg = {one<Binary<Operation, T, DstReg, SrcReg, kAlways>>,
                  one<Binary<Operation, T, DstReg, SrcReg, true>>},
      .reg_imm = {one<Binary<Operation, T, DstReg, SrcImm, kAlways>>,
                  one<Binary<Operation, T, DstReg, SrcImm, true>>},
      .reg_mem = {from_memory<Operation, T, kAlways>(), from_memory<Operation, T, true>()},
      .mem_reg = by_shape(SrcReg{}),
      .mem_imm = by_shape(SrcImm{}),
  };
}

template <class Operation>
constexpr std::array<Forms, kSizes> kBinary{
    binary_forms<Operation, std::uint8_t>(), binary_forms<Operation, std::uint16_t>(),
    binary_forms<Operation, std::uint32_t>(), binary_forms<Operation, std::uint64_t>()};

template <class Operation>
Handler select_binary(const Choice& choice) {
  const Insn& insn = choice.insn;
  const Forms& forms = kBinary<Operation>[size_index(insn.operand[0].size)];
  const bool from_imm = is_immediate(insn.operand[1]);
  if (is_memory(insn.operand[0])) {
    return (from_imm ? forms.mem_imm : forms.mem_reg)[shape_index(insn)];
  }
  const std::size_t flags = choice.flags_needed ? 1 : 0;
  if (is_memory(insn.operand[1])) return forms.reg_mem[flags][shape_index(insn)];
  return (from_imm ? forms.reg_imm : forms.reg_reg)[flags];
}

struct UnaryForms {
  std::array<Handler, 2> reg;
  std::array<Handler, kShapes> mem;
};
template <class Operation, class T>
constexpr UnaryForms unary_forms() {
  return {.reg = {unary<Operation, T, DstReg, false>, unary<Operation, T, DstReg, true>},
          .mem = {unary<Operation, T, DstMem<Shape::kBase>, true>,
                  unary<Operation, T, DstMem<Shape::kIndexed>, true>,
                  unary<Operation, T, DstMem<Shape::kSegment>, true>}};
}
template <class Operation>
constexpr std::array<UnaryForms, kSizes> kUnary{
    unary_forms<Operation, std::uint8_t>(), unary_forms<Operation, std::uint16_t>(),
    unary_forms<Operation, std::uint32_t>(), unary_forms<Operation, std::uint64_t>()};

template <class Operation>
Handler select_unary(const Choice& choice) {
  const UnaryForms& forms = kUnary<Operation>[size_index(choice.insn.operand[0].size)];
  if (is_memory(choice.insn.operand[0])) return forms.mem[shape_index(choice.insn)];
  return forms.reg[choice.flags_needed ? 1 : 0];
}

template <class T>
constexpr std::array<Handler, 2> kMultiply{one<Binary<Imul, T, DstReg, SrcReg, false>>,
                                           one<Binary<Imul, T, DstReg, SrcReg, true>>};
template <class T>
constexpr std::array<Handler, kShapes> kMultiplyMem{
    one<Binary<Imul, T, DstReg, SrcMem<Shape::kBase>, true>>,
    one<Binary<Imul, T, DstReg, SrcMem<Shape::kIndexed>, true>>,
    one<Binary<Imul, T, DstReg, SrcMem<Shape::kSegment>, true>>};
template <class T>
constexpr std::array<Handler, 2> kMultiplyImm{multiply_immediate<T, SrcReg, false>,
                                              multiply_immediate<T, SrcReg, true>};
template <class T>
constexpr std::array<Handler, kShapes> kMultiplyMemImm{
    multiply_immediate<T, SrcMem<Shape::kBase>, true>,
    multiply_immediate<T, SrcMem<Shape::kIndexed>, true>,
    multiply_immediate<T, SrcMem<Shape::kSegment>, true>};

template <class T>
Handler select_multiply_sized(const Choice& choice) {
  const Insn& insn = choice.insn;
  const std::size_t flags = choice.flags_needed ? 1 : 0;
  if (insn.operand_count == 3) {
    return is_memory(insn.operand[1]) ? kMultiplyMemImm<T>[shape_index(insn)]
                                      : kMultiplyImm<T>[flags];
  }
  return is_memory(insn.operand[1]) ? kMultiplyMem<T>[shape_index(insn)] : kMultiply<T>[flags];
}

Handler select_multiply(const Choice& choice) {
  if (choice.insn.operand_count == 1) return select_wide_imul(choice);
  switch (choice.insn.operand[0].size) {
    case 4:
      return select_multiply_sized<std::uint32_t>(choice);
    case 8:
      return select_multiply_sized<std::uint64_t>(choice);
    default:
      return nullptr;
  }
}

}  // namespace

std::span<const SelectEntry> alu_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kAdd, select_binary<Add>},
      {Op::kOr, select_binary<Or>},
      {Op::kAdc, select_binary<Adc>},
      {Op::kSbb, select_binary<Sbb>},
      {Op::kAnd, select_binary<And>},
      {Op::kSub, select_binary<Sub>},
      {Op::kXor, select_binary<Xor>},
      {Op::kCmp, select_binary<Cmp>},
      {Op::kTest, select_binary<Test>},
      {Op::kInc, select_unary<Inc>},
      {Op::kDec, select_unary<Dec>},
      {Op::kNeg, select_unary<Neg>},
      {Op::kNot, select_unary<Not>},
      {Op::kImul, select_multiply},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
