// SSE4.2 text operations: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM.
// Their 16 bytes of memory need no alignment. Spec: SDM vol. 1, 12.8 and vol. 2, 4.1.
#include "vmm/cpu/soft/exec/immediate_table.h"
#include "vmm/cpu/soft/exec/vector_common.h"

// std::uint64_t f(rdi: length of the first operand, rsi: where the result goes, rdx: length of the
// second operand, xmm0: first operand, xmm1: second operand) returns StatusFlags::ax.
#define SM_TEXT_TABLE(name, instruction, store_result) \
  SM_IMMEDIATE_TABLE(name, 32,                         \
                     "mov %rdi, %rax\n\t" instruction "\n\t" store_result "\n\tlahf\n\tseto %al")
#define SM_NARROW(text) text " $sm_imm, %xmm1, %xmm0"
// With REX.W, which not every assembler knows for these.
#define SM_WIDE(opcode) ".byte 0x66, 0x48, 0x0F, 0x3A, " #opcode ", 0xC1, sm_imm"
#define SM_STORE_INDEX "mov %ecx, (%rsi)"
#define SM_STORE_MASK "movdqu %xmm0, (%rsi)"

SM_TEXT_TABLE(pcmpistri, SM_NARROW("pcmpistri"), SM_STORE_INDEX)
SM_TEXT_TABLE(pcmpistrm, SM_NARROW("pcmpistrm"), SM_STORE_MASK)
// The lengths are 32-bit registers, or 64-bit ones with REX.W.
SM_TEXT_TABLE(pcmpestri, SM_NARROW("pcmpestri"), SM_STORE_INDEX)
SM_TEXT_TABLE(pcmpestrm, SM_NARROW("pcmpestrm"), SM_STORE_MASK)
SM_TEXT_TABLE(pcmpestri_wide, SM_WIDE(0x61), SM_STORE_INDEX)
SM_TEXT_TABLE(pcmpestrm_wide, SM_WIDE(0x60), SM_STORE_MASK)

namespace sm::soft {

namespace {

using Function = std::uint64_t(std::uint64_t first_length, void* result,
                               std::uint64_t second_length, Vec first, Vec second);

template <const char* kNarrow, const char* kWide, bool kIsIndex>
Next compare_text(Cpu& cpu, const Insn& insn) {
  Vec second;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, second, Alignment::kNone)) {
    return Next::kAborted;
  }
  Vec result{};
  const char* table = insn.operand_size == 8 ? kWide : kNarrow;
  const std::uint64_t flags = immediate_function<Function>(table, 32, insn.imm)(
      cpu.gpr[kRax], &result, cpu.gpr[kRdx], xmm(cpu, insn.operand[0].reg), second);
  if (kIsIndex) {
    cpu.gpr[kRcx] = low_u64(result);
  } else {
    set_xmm(cpu, 0, result);
  }
  cpu.status.ax = static_cast<std::uint16_t>(flags);
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
    {Op::kPcmpistri, compare_text<sm_soft_imm_pcmpistri, sm_soft_imm_pcmpistri, true>},
    {Op::kPcmpistrm, compare_text<sm_soft_imm_pcmpistrm, sm_soft_imm_pcmpistrm, false>},
    {Op::kPcmpestri, compare_text<sm_soft_imm_pcmpestri, sm_soft_imm_pcmpestri_wide, true>},
    {Op::kPcmpestrm, compare_text<sm_soft_imm_pcmpestrm, sm_soft_imm_pcmpestrm_wide, false>},
};

}  // namespace

std::span<const SemanticEntry> vector_text_semantics() { return kEntries; }

}  // namespace sm::soft
