// Data movement between registers and memory, address arithmetic, conditional moves.
#include <array>
#include <utility>

#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

namespace {

template <class T, class Source, std::uint8_t kCondition>
const Uop* cmov(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<T>(cpu, uop);
  if constexpr (Source::kIsMemory) {
    if (from == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  const T value = load_from<T>(from);
  const T old = read_gpr_at<T>(cpu, uop->dst);
  write_gpr_at<T>(cpu, uop->dst, condition_holds(cpu.status, kCondition) ? value : old);
  return go_on(cpu, uop, ahead);
}

template <class Destination, std::uint8_t kCondition>
const Uop* setcc(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* to = Destination::template locate<std::uint8_t>(cpu, uop);
  if constexpr (Destination::kIsMemory) {
    if (to == nullptr) [[unlikely]]
      return run_semantic(cpu, uop, ahead);
  }
  store_to<std::uint8_t>(to, condition_holds(cpu.status, kCondition) ? 1 : 0);
  return go_on(cpu, uop, ahead);
}

// CWDE, CDQE; CDQ, CQO.
template <class To, class From>
const Uop* extend_accumulator(Cpu& cpu, const Uop* uop, Ahead ahead) {
  write_gpr_at<To>(cpu, kRax * 8, static_cast<From>(cpu.gpr[kRax]));
  return go_on(cpu, uop, ahead);
}
template <class T>
const Uop* spread_sign(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const T sign = static_cast<T>(static_cast<T>(cpu.gpr[kRax]) >> (sizeof(T) * 8 - 1));
  write_gpr_at<T>(cpu, kRdx * 8, sign);
  return go_on(cpu, uop, ahead);
}

template <class T>
const Uop* bswap(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const T value = read_gpr_at<T>(cpu, uop->dst);
  write_gpr_at<T>(
      cpu, uop->dst,
      static_cast<T>(sizeof(T) == 8 ? __builtin_bswap64(value)
                                    : __builtin_bswap32(static_cast<std::uint32_t>(value))));
  return go_on(cpu, uop, ahead);
}

template <class T>
const Uop* xchg(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const T a = read_gpr_at<T>(cpu, uop->dst), b = read_gpr_at<T>(cpu, uop->src);
  write_gpr_at<T>(cpu, uop->dst, b);
  write_gpr_at<T>(cpu, uop->src, a);
  return go_on(cpu, uop, ahead);
}

// ---- Tables

using ByShape = std::array<Handler, kShapes>;

// `Make::make<Operand>()` for the memory operand type `Memory` in each shape.
template <template <Shape> class Memory, class Make>
constexpr ByShape by_shape(Make make) {
  return {make.template operator()<Memory<Shape::kBase>>(),
          make.template operator()<Memory<Shape::kIndexed>>(),
          make.template operator()<Memory<Shape::kSegment>>()};
}

struct MovForms {
  Handler reg_reg, reg_imm;
  ByShape reg_mem, mem_reg, mem_imm;
};
template <class T>
constexpr MovForms mov_forms() {
  return {
      .reg_reg = one<Mov<T, DstReg, SrcReg>>,
      .reg_imm = one<Mov<T, DstReg, SrcImm>>,
      .reg_mem = by_shape<SrcMem>([]<class M>() -> Handler { return one<Mov<T, DstReg, M>>; }),
      .mem_reg = by_shape<DstMem>([]<class M>() -> Handler { return one<Mov<T, M, SrcReg>>; }),
      .mem_imm = by_shape<DstMem>([]<class M>() -> Handler { return one<Mov<T, M, SrcImm>>; }),
  };
}
constexpr std::array<MovForms, kSizes> kMov{mov_forms<std::uint8_t>(), mov_forms<std::uint16_t>(),
                                            mov_forms<std::uint32_t>(), mov_forms<std::uint64_t>()};

Handler select_mov(const Choice& choice) {
  const Insn& insn = choice.insn;
  const MovForms& forms = kMov[size_index(insn.operand[0].size)];
  const bool from_imm = is_immediate(insn.operand[1]);
  if (is_memory(insn.operand[0])) {
    return (from_imm ? forms.mem_imm : forms.mem_reg)[shape_index(insn)];
  }
  if (is_memory(insn.operand[1])) return forms.reg_mem[shape_index(insn)];
  return from_imm ? forms.reg_imm : forms.reg_reg;
}

struct ExtendForms {
  Handler reg;
  ByShape mem;
};
template <class To, class From>
constexpr ExtendForms kExtend{
    one<Extend<To, From, SrcReg>>,
    by_shape<SrcMem>([]<class M>() -> Handler { return one<Extend<To, From, M>>; })};

Handler choose(const ExtendForms& forms, const Insn& insn) {
  return is_memory(insn.operand[1]) ? forms.mem[shape_index(insn)] : forms.reg;
}

Handler select_movzx(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (insn.operand[0].size == 2) return nullptr;
  return insn.operand[1].size == 1 ? choose(kExtend<std::uint32_t, std::uint8_t>, insn)
                                   : choose(kExtend<std::uint32_t, std::uint16_t>, insn);
}

// To 64 bits, by the source's size; to 32 bits.
Handler select_movsx(const Choice& choice) {
  static constexpr std::array kTo64{kExtend<std::int64_t, std::int8_t>,
                                    kExtend<std::int64_t, std::int16_t>,
                                    kExtend<std::int64_t, std::int32_t>};
  static constexpr std::array kTo32{kExtend<std::uint32_t, std::int8_t>,
                                    kExtend<std::uint32_t, std::int16_t>,
                                    kExtend<std::uint32_t, std::int32_t>};
  const Insn& insn = choice.insn;
  if (insn.operand[0].size == 2) return nullptr;
  return choose((insn.operand[0].size == 8 ? kTo64 : kTo32)[size_index(insn.operand[1].size)],
                insn);
}

// Without segment.
Handler select_lea(const Choice& choice) {
  const bool indexed = choice.insn.index != kNoRegister;
  switch (choice.insn.operand[0].size) {
    case 4:
      return indexed ? one<Lea<std::uint32_t, Shape::kIndexed>>
                     : one<Lea<std::uint32_t, Shape::kBase>>;
    case 8:
      return indexed ? one<Lea<std::uint64_t, Shape::kIndexed>>
                     : one<Lea<std::uint64_t, Shape::kBase>>;
    default:
      return nullptr;
  }
}

struct CmovForms {
  Handler reg;
  ByShape mem;
};
template <class T, std::size_t... kConditions>
constexpr std::array<CmovForms, 16> cmov_forms(std::index_sequence<kConditions...>) {
  return {CmovForms{cmov<T, SrcReg, kConditions>, by_shape<SrcMem>([]<class M>() -> Handler {
                      return cmov<T, M, kConditions>;
                    })}...};
}

Handler select_cmov(const Choice& choice) {
  static constexpr auto k32 = cmov_forms<std::uint32_t>(std::make_index_sequence<16>());
  static constexpr auto k64 = cmov_forms<std::uint64_t>(std::make_index_sequence<16>());
  const Insn& insn = choice.insn;
  if (insn.operand[0].size == 2) return nullptr;
  const CmovForms& forms = (insn.operand[0].size == 8 ? k64 : k32)[insn.condition];
  return is_memory(insn.operand[1]) ? forms.mem[shape_index(insn)] : forms.reg;
}

struct SetccForms {
  Handler reg;
  ByShape mem;
};
template <std::size_t... kConditions>
constexpr std::array<SetccForms, 16> setcc_forms(std::index_sequence<kConditions...>) {
  return {SetccForms{setcc<DstReg, kConditions>, by_shape<DstMem>([]<class M>() -> Handler {
                       return setcc<M, kConditions>;
                     })}...};
}
Handler select_setcc(const Choice& choice) {
  static constexpr auto kForms = setcc_forms(std::make_index_sequence<16>());
  const Insn& insn = choice.insn;
  const SetccForms& forms = kForms[insn.condition];
  return is_memory(insn.operand[0]) ? forms.mem[shape_index(insn)] : forms.reg;
}

// A pair of handlers for operands of 4 and 8 bytes.
Handler by_size(std::uint8_t size, Handler of_4, Handler of_8) {
  return size == 4 ? of_4 : size == 8 ? of_8 : nullptr;
}
Handler select_cbw(const Choice& choice) {
  return by_size(choice.insn.operand_size, extend_accumulator<std::int32_t, std::int16_t>,
                 extend_accumulator<std::int64_t, std::int32_t>);
}
Handler select_cwd(const Choice& choice) {
  return by_size(choice.insn.operand_size, spread_sign<std::int32_t>, spread_sign<std::int64_t>);
}
Handler select_bswap(const Choice& choice) {
  return by_size(choice.insn.operand[0].size, bswap<std::uint32_t>, bswap<std::uint64_t>);
}
Handler select_xchg(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (is_memory(insn.operand[0]) || is_memory(insn.operand[1])) {
    return select_xchg_memory(insn, choice.uop);
  }
  return by_size(insn.operand[0].size, xchg<std::uint32_t>, xchg<std::uint64_t>);
}
Handler select_nothing(const Choice& /*choice*/) { return one<Nothing>; }

}  // namespace

std::span<const SelectEntry> move_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kMov, select_mov},
      {Op::kMovnti, select_mov},
      {Op::kMovzx, select_movzx},
      {Op::kMovsx, select_movsx},
      {Op::kMovsxd, select_movsx},
      {Op::kLea, select_lea},
      {Op::kCmovcc, select_cmov},
      {Op::kSetcc, select_setcc},
      {Op::kCbw, select_cbw},
      {Op::kCwd, select_cwd},
      {Op::kBswap, select_bswap},
      {Op::kXchg, select_xchg},
      {Op::kNop, select_nothing},
      {Op::kPrefetch, select_nothing},
      {Op::kEndbr64, select_nothing},
      {Op::kLfence, select_nothing},
      {Op::kSfence, select_nothing},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
