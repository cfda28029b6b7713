// Bit tests and scans.
#include <array>

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

#define SM_SOFT_OPERATION(Name, function, writes)    \
  struct Name {                                      \
    static constexpr bool kWrites = writes;          \
    template <class T>                               \
    static T apply(T a, T bit, StatusFlags& flags) { \
      return host::function(a, bit, flags);          \
    }                                                \
  };
SM_SOFT_OPERATION(Bt, bt, false)
SM_SOFT_OPERATION(Bts, bts, true)
SM_SOFT_OPERATION(Btr, btr, true)
SM_SOFT_OPERATION(Btc, btc, true)
#undef SM_SOFT_OPERATION

template <class T>
constexpr T kBits = sizeof(T) * 8;

template <class Operation, class T, class Bit>
const Uop* bit_register(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const T bit = static_cast<T>(load_from<T>(Bit::template locate<T>(cpu, uop)) % kBits<T>);
  const T value = Operation::apply(read_gpr_at<T>(cpu, uop->dst), bit, cpu.status);
  if constexpr (Operation::kWrites) write_gpr_at<T>(cpu, uop->dst, value);
  return go_on(cpu, uop, ahead);
}

// In memory a register counts bits from the operand on, in both directions.
template <class Operation, class T, class Bit, Shape kShape>
const Uop* bit_memory(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const T bit = load_from<T>(Bit::template locate<T>(cpu, uop));
  std::uint64_t address = address_of<kShape>(cpu, uop);
  if constexpr (std::is_same_v<Bit, SrcReg>) {
    const std::int64_t place = static_cast<std::make_signed_t<T>>(bit);
    constexpr int kLog2Bits = sizeof(T) == 8 ? 6 : 5;
    address += static_cast<std::uint64_t>(place >> kLog2Bits) * sizeof(T);
  }
  std::byte* at = find_bytes(Operation::kWrites ? cpu.write_tlb : cpu.read_tlb, address, sizeof(T));
  if (at == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T value = Operation::apply(load_from<T>(at), static_cast<T>(bit % kBits<T>), cpu.status);
  if constexpr (Operation::kWrites) store_to(at, value);
  return go_on(cpu, uop, ahead);
}

// A zero source leaves the destination as the host does.
#define SM_SOFT_OPERATION(Name, function)                                                 \
  struct Name {                                                                           \
    template <class T>                                                                    \
    static std::uint64_t apply(std::uint64_t destination, T source, StatusFlags& flags) { \
      return host::function(destination, source, flags);                                  \
    }                                                                                     \
  };
SM_SOFT_OPERATION(Bsf, bsf)
SM_SOFT_OPERATION(Bsr, bsr)
#undef SM_SOFT_OPERATION

template <class Operation, class T>
const Uop* scan(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const auto old = read_gpr_at<std::uint64_t>(cpu, uop->dst);
  write_gpr_at(cpu, uop->dst, Operation::apply(old, read_gpr_at<T>(cpu, uop->src), cpu.status));
  return go_on(cpu, uop, ahead);
}

struct Forms {
  Handler by_reg, by_imm;
  std::array<Handler, kShapes> memory_by_reg, memory_by_imm;
};
template <class Operation, class T, class Bit>
constexpr std::array<Handler, kShapes> kMemory{bit_memory<Operation, T, Bit, Shape::kBase>,
                                               bit_memory<Operation, T, Bit, Shape::kIndexed>,
                                               bit_memory<Operation, T, Bit, Shape::kSegment>};
template <class Operation, class T>
constexpr Forms kForms{bit_register<Operation, T, SrcReg>, bit_register<Operation, T, SrcImm>,
                       kMemory<Operation, T, SrcReg>, kMemory<Operation, T, SrcImm>};

template <class Operation>
Handler select_bit(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (insn.operand[0].size < 4) return nullptr;
  const Forms& forms = insn.operand[0].size == 8 ? kForms<Operation, std::uint64_t>
                                                 : kForms<Operation, std::uint32_t>;
  const bool by_imm = is_immediate(insn.operand[1]);
  if (is_register(insn.operand[0])) return by_imm ? forms.by_imm : forms.by_reg;
  return (by_imm ? forms.memory_by_imm : forms.memory_by_reg)[shape_index(insn)];
}

template <class Operation>
Handler select_scan(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_register(insn.operand[1]) || insn.operand[0].size < 4) return nullptr;
  return insn.operand[0].size == 8 ? scan<Operation, std::uint64_t>
                                   : scan<Operation, std::uint32_t>;
}

}  // namespace

std::span<const SelectEntry> bit_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kBt, select_bit<Bt>},
      {Op::kBts, select_bit<Bts>},
      {Op::kBtr, select_bit<Btr>},
      {Op::kBtc, select_bit<Btc>},
      {Op::kBsf, select_scan<Bsf>},
      {Op::kBsr, select_scan<Bsr>},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
