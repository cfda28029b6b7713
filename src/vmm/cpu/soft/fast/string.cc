// REP MOVS and REP STOS of up to a page, forwards and inside one page of each operand that the TLB
// knows: kernels copy and fill everything with them, mostly a few words at a time. These handlers
// call the host's routines, so they have frames, which costs less than what they save.
#include <array>
#include <cstdint>

#include "vmm/cpu/soft/exec/block_ops.h"
#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"

namespace sm::soft::fast {

namespace {

// Of the whole repetition; 0: a case for the semantic function.
template <class T>
std::uint32_t bytes_to_do(const Cpu& cpu) {
  const std::uint64_t count = cpu.gpr[kRcx];
  const bool backwards = (cpu.other_flags & eflags::kDf) != 0;
  return count > kPageSize / sizeof(T) || backwards ? 0
                                                    : static_cast<std::uint32_t>(count * sizeof(T));
}

template <class T>
const Uop* rep_movs(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint32_t bytes = bytes_to_do<T>(cpu);
  if (bytes == 0) return run_semantic(cpu, uop, ahead);
  const std::byte* from = find_bytes(cpu.read_tlb, cpu.gpr[kRsi], bytes);
  std::byte* to = find_bytes(cpu.write_tlb, cpu.gpr[kRdi], bytes);
  if (from == nullptr || to == nullptr) return run_semantic(cpu, uop, ahead);
  move_ascending(to, from, bytes, sizeof(T));
  cpu.gpr[kRsi] += bytes;
  cpu.gpr[kRdi] += bytes;
  cpu.gpr[kRcx] = 0;
  return go_on(cpu, uop, ahead);
}

template <class T>
const Uop* rep_stos(Cpu& cpu, const Uop* uop, Ahead ahead) {
  const std::uint32_t bytes = bytes_to_do<T>(cpu);
  if (bytes == 0) return run_semantic(cpu, uop, ahead);
  std::byte* to = find_bytes(cpu.write_tlb, cpu.gpr[kRdi], bytes);
  if (to == nullptr) return run_semantic(cpu, uop, ahead);
  fill(to, bytes, static_cast<T>(cpu.gpr[kRax]));
  cpu.gpr[kRdi] += bytes;
  cpu.gpr[kRcx] = 0;
  return go_on(cpu, uop, ahead);
}

using BySize = std::array<Handler, kSizes>;
Handler select_string(const BySize& handlers, const Insn& insn) {
  const bool has_base = insn.segment >= Segment::kFs;
  if (insn.repeat == Repeat::kNone || insn.address_size != 8 || has_base) return nullptr;
  return handlers[size_index(insn.operand_size)];
}
Handler select_movs(const Choice& choice) {
  static constexpr BySize kHandlers{rep_movs<std::uint8_t>, rep_movs<std::uint16_t>,
                                    rep_movs<std::uint32_t>, rep_movs<std::uint64_t>};
  return select_string(kHandlers, choice.insn);
}
Handler select_stos(const Choice& choice) {
  static constexpr BySize kHandlers{rep_stos<std::uint8_t>, rep_stos<std::uint16_t>,
                                    rep_stos<std::uint32_t>, rep_stos<std::uint64_t>};
  return select_string(kHandlers, choice.insn);
}

}  // namespace

std::span<const SelectEntry> string_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kMovs, select_movs},
      {Op::kStos, select_stos},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
