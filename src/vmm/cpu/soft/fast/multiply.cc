// Multiplication and division of the double-width accumulator by a register or memory. What would
// fault goes to the semantic functions.
#include <array>
#include <limits>

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

using host::Pair;

constexpr std::uint8_t kLow = kRax * 8, kHigh = kRdx * 8;

struct Mul {
  template <class T>
  static bool may_run(Pair<T> /*accumulator*/, T /*operand*/) {
    return true;
  }
  template <class T>
  static Pair<T> apply(Pair<T> accumulator, T operand, StatusFlags& flags) {
    return host::mul_wide(accumulator.low, operand, flags);
  }
};
struct Imul {
  template <class T>
  static bool may_run(Pair<T> /*accumulator*/, T /*operand*/) {
    return true;
  }
  template <class T>
  static Pair<T> apply(Pair<T> accumulator, T operand, StatusFlags& flags) {
    return host::imul_wide(accumulator.low, operand, flags);
  }
};
struct Div {
  template <class T>
  static bool may_run(Pair<T> accumulator, T operand) {
    return accumulator.high < operand;
  }
  template <class T>
  static Pair<T> apply(Pair<T> accumulator, T operand, StatusFlags& flags) {
    return host::div(accumulator, operand, flags);
  }
};
// Of what CDQ or CQO has extended, as programs do it. The least number by -1 does not fit.
struct Idiv {
  template <class T>
  static bool may_run(Pair<T> accumulator, T operand) {
    constexpr T kLeast = static_cast<T>(T{1} << (std::numeric_limits<T>::digits - 1));
    const T sign = (accumulator.low & kLeast) != 0 ? static_cast<T>(-1) : T{0};
    return accumulator.high == sign && operand != 0 &&
           (operand != static_cast<T>(-1) || accumulator.low != kLeast);
  }
  template <class T>
  static Pair<T> apply(Pair<T> accumulator, T operand, StatusFlags& flags) {
    return host::idiv(accumulator, operand, flags);
  }
};

template <class Operation, class T, class Source>
const Uop* wide(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<T>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  const T operand = load_from<T>(from);
  const Pair<T> accumulator{read_gpr_at<T>(cpu, kLow), read_gpr_at<T>(cpu, kHigh)};
  if (!Operation::may_run(accumulator, operand)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const Pair<T> result = Operation::apply(accumulator, operand, cpu.status);
  write_gpr_at<T>(cpu, kLow, result.low);
  write_gpr_at<T>(cpu, kHigh, result.high);
  return go_on(cpu, uop, ahead);
}

template <class Operation, class T>
Handler select_sized(const Choice& choice) {
  static constexpr std::array<Handler, kShapes> kMemory{
      wide<Operation, T, SrcMem<Shape::kBase>>, wide<Operation, T, SrcMem<Shape::kIndexed>>,
      wide<Operation, T, SrcMem<Shape::kSegment>>};
  if (is_memory(choice.insn.operand[0])) return kMemory[shape_index(choice.insn)];
  choice.uop.src = choice.uop.dst;
  return wide<Operation, T, SrcReg>;
}

template <class Operation>
Handler select_wide(const Choice& choice) {
  switch (choice.insn.operand[0].size) {
    case 4:
      return select_sized<Operation, std::uint32_t>(choice);
    case 8:
      return select_sized<Operation, std::uint64_t>(choice);
    default:
      return nullptr;
  }
}

}  // namespace

Handler select_wide_imul(const Choice& choice) { return select_wide<Imul>(choice); }

std::span<const SelectEntry> multiply_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kMul, select_wide<Mul>},
      {Op::kDiv, select_wide<Div>},
      {Op::kIdiv, select_wide<Idiv>},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
