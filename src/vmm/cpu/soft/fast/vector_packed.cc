// Packed integer operations of XMM registers, all of them by the host's own instruction.
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
  };
  return kEntries;
}

}  // namespace sm::soft::fast
