// Packed integer operations of XMM registers, by the host's own instruction where that does not
// have an immediate.
#include <array>

#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/fast/vector.h"

namespace sm::soft::fast {

namespace {

// The host's instructions, by the name of their Op.
namespace host {
#define SM_PACKED(name, text)                                                                     \
  struct name {                                                                                   \
    static void run(Vec& value, Vec source) { asm(#text " %1, %0" : "+x"(value) : "x"(source)); } \
  };
#define SM_XMM(name, text) SM_PACKED(name, text)
#include "vmm/cpu/soft/exec/vector_ops.def"
}  // namespace host

using Part16 = std::array<std::byte, 16>;

template <class Host>
const Uop* packed_register(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!sse_usable(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  std::byte* to = xmm_at(cpu, uop->dst);
  Vec value = load_vec(to);
  Host::run(value, load_vec(xmm_at(cpu, uop->src)));
  store_vec(to, value);
  return go_on(cpu, uop, ahead);
}

template <class Host, Shape kShape>
const Uop* packed_memory(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = SrcMem<kShape>::template locate<Part16>(cpu, uop);
  if (from == nullptr || !sse_usable(cpu) || !is_aligned(from)) [[unlikely]] {
    return run_semantic(cpu, uop, ahead);
  }
  std::byte* to = xmm_at(cpu, uop->dst);
  Vec value = load_vec(to);
  Host::run(value, load_vec(from));
  store_vec(to, value);
  return go_on(cpu, uop, ahead);
}

// Four words from where the immediate says, which string functions spread a character with.
template <class Source>
const Uop* pshufd(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::byte* from = Source::template locate<Part16>(cpu, uop);
  if (from == nullptr || !sse_usable(cpu) || !is_aligned(from)) [[unlikely]] {
    return run_semantic(cpu, uop, ahead);
  }
  const auto order = static_cast<std::uint8_t>(uop->imm);
  const auto part = [=](int place) {
    return std::uint64_t{load_from<std::uint32_t>(from + (order >> 2 * place & 3) * 4)};
  };
  const std::uint64_t low = part(0) | part(1) << 32, high = part(2) | part(3) << 32;
  std::byte* to = xmm_at(cpu, uop->dst);
  store_to(to, low);
  store_to(to + 8, high);
  return go_on(cpu, uop, ahead);
}
struct SrcXmm {
  template <class T>
  static const std::byte* locate(Cpu& cpu, const Uop* uop) {
    return xmm_at(cpu, uop->src);
  }
};
Handler select_pshufd(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (insn.operand[1].kind == OperandKind::kXmm) return pshufd<SrcXmm>;
  return shape_of(insn) == Shape::kBase ? pshufd<SrcMem<Shape::kBase>> : nullptr;
}

template <class Host>
Handler select_packed(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (insn.operand[0].kind != OperandKind::kXmm) return nullptr;
  if (insn.operand[1].kind == OperandKind::kXmm) return packed_register<Host>;
  // Memory is mostly at hand by one register; operands shorter than 16 bytes are rare.
  if (insn.operand[1].size != 16) return nullptr;
  switch (shape_of(insn)) {
    case Shape::kBase:
      return packed_memory<Host, Shape::kBase>;
    case Shape::kIndexed:
      return packed_memory<Host, Shape::kIndexed>;
    default:
      return nullptr;
  }
}

}  // namespace

std::span<const SelectEntry> vector_packed_selects() {
  static constexpr SelectEntry kEntries[] = {
#define SM_PACKED(name, text) {Op::k##name, select_packed<host::name>},
#define SM_XMM(name, text) {Op::k##name, select_packed<host::name>},
#include "vmm/cpu/soft/exec/vector_ops.def"
      {Op::kPshufd, select_pshufd},
  };
  return kEntries;
}

}  // namespace sm::soft::fast
