// MMX and SSE operations that an immediate byte controls: shuffles, blends, comparisons, rounding,
// dot products, cryptography; and single elements to and from general registers.
#include <array>
#include <bit>

#include "vmm/cpu/soft/exec/immediate_table.h"
#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/exec/vector_common.h"

// On XMM registers.
#define SM_IMMEDIATE(name, text) SM_IMMEDIATE_TABLE(text, 16, #text " $sm_imm, %xmm1, %xmm0")
#define SM_IMMEDIATE_FLOAT(name, text, tiny) SM_IMMEDIATE(name, text)
#include "vmm/cpu/soft/exec/vector_ops.def"
SM_IMMEDIATE_TABLE(palignr, 16, "palignr $sm_imm, %xmm1, %xmm0")
SM_IMMEDIATE_TABLE(pslldq, 16, "pslldq $sm_imm, %xmm0")
SM_IMMEDIATE_TABLE(psrldq, 16, "psrldq $sm_imm, %xmm0")

// On MMX registers; EMMS leaves the host's x87 registers empty, as the calling convention says.
#define SM_MMX_TABLE(name, text)                                           \
  SM_IMMEDIATE_TABLE(name, 32,                                             \
                     "movdq2q %xmm0, %mm0\n\tmovdq2q %xmm1, %mm1\n\t" text \
                     " $sm_imm, %mm1, %mm0\n\tmovq2dq %mm0, %xmm0\n\temms")
SM_MMX_TABLE(pshufw, "pshufw")
SM_MMX_TABLE(palignr_mmx, "palignr")

namespace sm::soft {

namespace {

using Function = Vec(Vec value, Vec source);

// A table and the bytes between two of its functions.
struct Table {
  const char* functions;
  unsigned slot;
  Vec operator()(std::int64_t imm, Vec value, Vec source) const {
    return immediate_function<Function>(functions, slot, imm)(value, source);
  }
};

template <const char* kFunctions>
Next plain_operation(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  std::int64_t imm = insn.imm;
  if (insn.op == Op::kInsertps && insn.operand[1].kind == OperandKind::kMem) {
    imm &= 0x3F;  // memory is one element: no source element to choose
  }
  const Vec value = xmm(cpu, insn.operand[0].reg);
  set_xmm(cpu, insn.operand[0].reg, Table{kFunctions, 16}(imm, value, source));
  return Next::kNext;
}

template <const char* kFunctions, TinyResults kTiny>
Next float_operation(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!sse_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  const Vec value = xmm(cpu, insn.operand[0].reg);
  Vec result = value;
  const auto run = [&] { result = Table{kFunctions, 16}(insn.imm, value, source); };
  if (!run_float(cpu, kTiny, result, run)) {
    return Next::kAborted;
  }
  set_xmm(cpu, insn.operand[0].reg, result);
  return Next::kNext;
}

Next mmx_operation(Cpu& cpu, const Insn& insn, const char* functions) {
  Vec source;
  if (!mmx_ready(cpu) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  enter_mmx(cpu);
  const Vec value = mmx(cpu, insn.operand[0].reg);
  set_mmx(cpu, insn.operand[0].reg, Table{functions, 32}(insn.imm, value, source));
  return Next::kNext;
}

Next pshufw(Cpu& cpu, const Insn& insn) { return mmx_operation(cpu, insn, sm_soft_imm_pshufw); }

Next palignr(Cpu& cpu, const Insn& insn) {
  return insn.operand[0].kind == OperandKind::kXmm
             ? plain_operation<sm_soft_imm_palignr>(cpu, insn)
             : mmx_operation(cpu, insn, sm_soft_imm_palignr_mmx);
}

bool elements_ready(Cpu& cpu, const Insn& insn) {
  return has_mmx(insn) ? mmx_ready(cpu) : sse_ready(cpu);
}

// Bytes of the element that PINSR/PEXTR move.
unsigned element_size(const Insn& insn, const Operand& integer) {
  switch (insn.op) {
    case Op::kPinsrb:
    case Op::kPextrb:
      return 1;
    case Op::kPinsrw:
    case Op::kPextrw:
      return 2;
    case Op::kExtractps:
      return 4;
    default:
      return integer.size == 8 ? 8 : 4;
  }
}

// Where in a register of the operand's kind the immediate's element begins.
unsigned element_offset(const Insn& insn, const Operand& vector_operand, unsigned size) {
  const unsigned bytes = vector_operand.kind == OperandKind::kMmx ? 8 : 16;
  return (static_cast<unsigned>(insn.imm) * size) & (bytes - 1);
}

// PINSRB, PINSRW, PINSRD, PINSRQ.
Next insert_element(Cpu& cpu, const Insn& insn) {
  Vec source;
  if (!elements_ready(cpu, insn) || !load_source(cpu, insn, 1, source)) {
    return Next::kAborted;
  }
  const Operand& destination = insn.operand[0];
  const unsigned size = element_size(insn, insn.operand[1]);
  const unsigned offset = element_offset(insn, destination, size);
  if (destination.kind == OperandKind::kXmm) {
    std::memcpy(cpu.fx.xmm[destination.reg & 15].data() + offset, &source, size);
    return Next::kNext;
  }
  enter_mmx(cpu);
  auto bytes = std::bit_cast<std::array<std::uint8_t, 16>>(mmx(cpu, destination.reg));
  std::memcpy(bytes.data() + offset, &source, size);
  set_mmx(cpu, destination.reg, std::bit_cast<Vec>(bytes));
  return Next::kNext;
}

// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS. A register is filled with zeros.
Next extract_element(Cpu& cpu, const Insn& insn) {
  if (!elements_ready(cpu, insn)) {
    return Next::kAborted;
  }
  Vec source;
  load_source(cpu, insn, 1, source);
  const Operand& destination = insn.operand[0];
  const unsigned size = element_size(insn, destination);
  const auto bytes = std::bit_cast<std::array<std::uint8_t, 16>>(source);
  std::uint64_t element = 0;
  std::memcpy(&element, bytes.data() + element_offset(insn, insn.operand[1], size), size);
  if (destination.kind == OperandKind::kMem &&
      !store_vector(cpu, insn, size, Alignment::kNone, from_u64(element))) {
    return Next::kAborted;
  }
  if (has_mmx(insn)) {
    enter_mmx(cpu);
  }
  if (destination.kind != OperandKind::kMem) {
    cpu.gpr[destination.reg & 15] = element;
  }
  return Next::kNext;
}

constexpr SemanticEntry kEntries[] = {
#define SM_IMMEDIATE(name, text) {Op::k##name, plain_operation<sm_soft_imm_##text>},
#define SM_IMMEDIATE_FLOAT(name, text, tiny) \
  {Op::k##name, float_operation<sm_soft_imm_##text, TinyResults::tiny>},
#include "vmm/cpu/soft/exec/vector_ops.def"
    {Op::kPslldq, plain_operation<sm_soft_imm_pslldq>},
    {Op::kPsrldq, plain_operation<sm_soft_imm_psrldq>},
    {Op::kPalignr, palignr},
    {Op::kPshufw, pshufw},
    {Op::kPinsrb, insert_element},
    {Op::kPinsrw, insert_element},
    {Op::kPinsrd, insert_element},
    {Op::kPextrb, extract_element},
    {Op::kPextrw, extract_element},
    {Op::kPextrd, extract_element},
    {Op::kExtractps, extract_element},
};

}  // namespace

std::span<const SemanticEntry> vector_immediate_semantics() { return kEntries; }

}  // namespace sm::soft
