// Moves of XMM registers.
#include <array>

#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/fast/vector.h"

namespace sm::soft::fast {

namespace {

using Part8 = std::array<std::byte, 8>;
using Part16 = std::array<std::byte, 16>;

const Uop* move_register(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_vec(xmm_at(cpu, uop->dst), load_vec(xmm_at(cpu, uop->src)));
  return go_on(cpu, uop, ahead);
}

template <Shape kShape, bool kAligned>
const Uop* load_whole(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = SrcMem<kShape>::template locate<Part16>(cpu, uop);
  if (from == nullptr || !sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  if (kAligned && !is_aligned(from)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_vec(xmm_at(cpu, uop->dst), load_vec(from));
  return go_on(cpu, uop, ahead);
}
template <Shape kShape, bool kAligned>
const Uop* store_whole(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* to = DstMem<kShape>::template locate<Part16>(cpu, uop);
  if (to == nullptr || !sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  if (kAligned && !is_aligned(to)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_vec(to, load_vec(xmm_at(cpu, uop->src)));
  return go_on(cpu, uop, ahead);
}

// Memory to the low part, zeros above.
template <class T, Shape kShape>
const Uop* load_low(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = SrcMem<kShape>::template locate<T>(cpu, uop);
  if (from == nullptr || !sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_vec(xmm_at(cpu, uop->dst), from_u64(load_from<T>(from)));
  return go_on(cpu, uop, ahead);
}
// `kHalf` says which 8 bytes of the register.
template <class T, Shape kShape, unsigned kHalf = 0>
const Uop* store_part(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* to = DstMem<kShape>::template locate<T>(cpu, uop);
  if (to == nullptr || !sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_to(to, load_from<T>(xmm_at(cpu, uop->src) + 8 * kHalf));
  return go_on(cpu, uop, ahead);
}
// Memory to one half, the other stays.
template <Shape kShape, unsigned kHalf>
const Uop* load_half(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = SrcMem<kShape>::template locate<Part8>(cpu, uop);
  if (from == nullptr || !sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_to(xmm_at(cpu, uop->dst) + 8 * kHalf, load_from<Part8>(from));
  return go_on(cpu, uop, ahead);
}

// Between registers: of XMM, MOVSS and MOVSD leave the rest, MOVQ clears it.
template <class T, bool kKeepsRest>
const Uop* move_low(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T value = load_from<T>(xmm_at(cpu, uop->src));
  if constexpr (kKeepsRest) {
    store_to(xmm_at(cpu, uop->dst), value);
  } else {
    store_vec(xmm_at(cpu, uop->dst), from_u64(value));
  }
  return go_on(cpu, uop, ahead);
}
template <class T>
const Uop* from_gpr(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  store_vec(xmm_at(cpu, uop->dst), from_u64(read_gpr_at<T>(cpu, uop->src)));
  return go_on(cpu, uop, ahead);
}
template <class T>
const Uop* to_gpr(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  write_gpr_at(cpu, uop->dst, load_from<T>(xmm_at(cpu, uop->src)));
  return go_on(cpu, uop, ahead);
}

const Uop* byte_mask(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const int mask = _mm_movemask_epi8(load_vec(xmm_at(cpu, uop->src)));
  write_gpr_at(cpu, uop->dst, static_cast<std::uint32_t>(mask));
  return go_on(cpu, uop, ahead);
}

// ---- Choice

using ByShape = std::array<Handler, kShapes>;
template <class Make>
constexpr ByShape by_shape(Make make) {
  return {make.template operator()<Shape::kBase>(), make.template operator()<Shape::kIndexed>(),
          make.template operator()<Shape::kSegment>()};
}

bool is_xmm(const Operand& operand) { return operand.kind == OperandKind::kXmm; }

template <bool kAligned>
Handler select_whole(const Choice& choice) {
  static constexpr ByShape kLoad =
      by_shape([]<Shape s>() -> Handler { return load_whole<s, kAligned>; });
  static constexpr ByShape kStore =
      by_shape([]<Shape s>() -> Handler { return store_whole<s, kAligned>; });
  const Insn& insn = choice.insn;
  if (is_memory(insn.operand[0])) return kStore[shape_index(insn)];
  return is_memory(insn.operand[1]) ? kLoad[shape_index(insn)] : move_register;
}

template <class T>
constexpr ByShape kLoadLow = by_shape([]<Shape s>() -> Handler { return load_low<T, s>; });
template <class T, unsigned kHalf = 0>
constexpr ByShape kStorePart = by_shape([]<Shape s>() -> Handler {
  return store_part<T, s, kHalf>;
});

// MOVSS, MOVSD, and MOVQ of XMM.
template <class T, bool kKeepsRest>
Handler select_low(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_xmm(insn.operand[0]) && !is_xmm(insn.operand[1])) return nullptr;
  if (is_memory(insn.operand[0])) return kStorePart<T>[shape_index(insn)];
  if (is_memory(insn.operand[1])) return kLoadLow<T>[shape_index(insn)];
  return is_xmm(insn.operand[0]) && is_xmm(insn.operand[1]) ? move_low<T, kKeepsRest> : nullptr;
}

template <unsigned kHalf>
Handler select_half(const Choice& choice) {
  static constexpr ByShape kLoad =
      by_shape([]<Shape s>() -> Handler { return load_half<s, kHalf>; });
  const Insn& insn = choice.insn;
  if (is_memory(insn.operand[0])) return kStorePart<std::uint64_t, kHalf>[shape_index(insn)];
  return is_memory(insn.operand[1]) ? kLoad[shape_index(insn)] : nullptr;
}

// MOVD, also of 8 bytes: between XMM and a general register or memory.
template <class T>
Handler select_movd_sized(const Insn& insn) {
  if (is_xmm(insn.operand[0])) {
    return is_memory(insn.operand[1]) ? kLoadLow<T>[shape_index(insn)] : from_gpr<T>;
  }
  return is_memory(insn.operand[0]) ? kStorePart<T>[shape_index(insn)] : to_gpr<T>;
}
Handler select_movd(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_xmm(insn.operand[0]) && !is_xmm(insn.operand[1])) return nullptr;
  const Operand& other = insn.operand[is_xmm(insn.operand[0]) ? 1 : 0];
  return other.size == 8 ? select_movd_sized<std::uint64_t>(insn)
                         : select_movd_sized<std::uint32_t>(insn);
}

Handler select_byte_mask(const Choice& choice) {
  return is_xmm(choice.insn.operand[1]) ? byte_mask : nullptr;
}

}  // namespace

std::span<const SelectEntry> vector_move_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kMovaps, select_whole<true>},
      {Op::kMovapd, select_whole<true>},
      {Op::kMovdqa, select_whole<true>},
      {Op::kMovntps, select_whole<true>},
      {Op::kMovntdq, select_whole<true>},
      {Op::kMovups, select_whole<false>},
      {Op::kMovupd, select_whole<false>},
      {Op::kMovdqu, select_whole<false>},
      {Op::kMovss, select_low<std::uint32_t, true>},
      {Op::kMovsd, select_low<std::uint64_t, true>},
      {Op::kMovq, select_low<std::uint64_t, false>},
      {Op::kMovlps, select_half<0>},
      {Op::kMovlpd, select_half<0>},
      {Op::kMovhps, select_half<1>},
      {Op::kMovhpd, select_half<1>},
      {Op::kMovd, select_movd},
      {Op::kPmovmskb, select_byte_mask},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
