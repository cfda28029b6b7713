#include "vmm/cpu/soft/exec/x87_host.h"

#include <array>
#include <cstddef>

#include "vmm/cpu/soft/exec/mxcsr.h"

// Every x87 instruction once, each followed by a return: the register forms D8 C0 .. DF FF and the
// memory forms D8 /0 .. DF /7 with the operand at (%rdx).
asm(R"(
        .pushsection .text
        .balign 64
sm_soft_x87_register_forms:
        .set sm_form, 0
        .rept 512
        .byte 0xD8 + (sm_form >> 6), 0xC0 + (sm_form & 63)
        ret
        .balign 4
        .set sm_form, sm_form + 1
        .endr
sm_soft_x87_memory_forms:
        .set sm_form, 0
        .rept 64
        .byte 0xD8 + (sm_form >> 3), 2 + ((sm_form & 7) << 3)
        ret
        .balign 4
        .set sm_form, sm_form + 1
        .endr

# (rdi: image, rsi: the form, rdx: memory, ecx: StatusFlags::ax) -> StatusFlags::ax
# Follows the calling convention: the x87 registers are empty and the control word is the default
# when it starts and when it ends.
        .balign 16
sm_soft_x87_run:
        fxrstor64 (%rdi)
        movl %ecx, %eax
        addb $127, %al
        sahf
        call *%rsi
        lahf
        seto %al
        fxsave64 (%rdi)
        fninit
        ret
        .popsection
)");

extern "C" {
extern const char sm_soft_x87_register_forms[] __attribute__((visibility("hidden")));
extern const char sm_soft_x87_memory_forms[] __attribute__((visibility("hidden")));
std::uint64_t sm_soft_x87_run(sm::soft::FxState* image, const char* form, void* memory,
                              std::uint32_t flags) __attribute__((visibility("hidden")));
}

namespace sm::soft {

namespace {

// D8 C0 .. DF FF and D8 /0 .. DF /7 as X87Form has them.
constexpr std::uint16_t reg(unsigned escape, unsigned modrm) {
  return static_cast<std::uint16_t>((escape - 0xD8) * 64 + (modrm - 0xC0) + 1);
}
constexpr std::uint8_t mem(unsigned escape, unsigned extension) {
  return static_cast<std::uint8_t>((escape - 0xD8) * 8 + extension + 1);
}

struct Row {
  Op op;
  X87Form form;
};
// One of the six arithmetic operations: with registers, popping, with integers.
constexpr X87Form real(unsigned st0, unsigned sti, unsigned extension) {
  return {reg(0xD8, st0), reg(0xDC, sti), {0, mem(0xD8, extension), mem(0xDC, extension), 0}};
}
constexpr X87Form integer(unsigned extension) {
  return {0, 0, {mem(0xDE, extension), mem(0xDA, extension), 0, 0}};
}
constexpr X87Form registers(unsigned escape, unsigned modrm) { return {reg(escape, modrm)}; }
constexpr X87Form store(std::uint8_t m16, std::uint8_t m32, std::uint8_t m64, std::uint8_t m80,
                        std::uint16_t to_register = 0) {
  return {to_register, 0, {m16, m32, m64, m80}, true};
}

constexpr Row kRows[] = {
    {Op::kFadd, real(0xC0, 0xC0, 0)},
    {Op::kFmul, real(0xC8, 0xC8, 1)},
    {Op::kFcom, real(0xD0, 0xD0, 2)},
    {Op::kFcomp, real(0xD8, 0xD8, 3)},
    {Op::kFsub, real(0xE0, 0xE8, 4)},
    {Op::kFsubr, real(0xE8, 0xE0, 5)},
    {Op::kFdiv, real(0xF0, 0xF8, 6)},
    {Op::kFdivr, real(0xF8, 0xF0, 7)},
    {Op::kFiadd, integer(0)},
    {Op::kFimul, integer(1)},
    {Op::kFicom, integer(2)},
    {Op::kFicomp, integer(3)},
    {Op::kFisub, integer(4)},
    {Op::kFisubr, integer(5)},
    {Op::kFidiv, integer(6)},
    {Op::kFidivr, integer(7)},
    {Op::kFaddp, registers(0xDE, 0xC0)},
    {Op::kFmulp, registers(0xDE, 0xC8)},
    {Op::kFcompp, registers(0xDE, 0xD9)},
    {Op::kFsubrp, registers(0xDE, 0xE0)},
    {Op::kFsubp, registers(0xDE, 0xE8)},
    {Op::kFdivrp, registers(0xDE, 0xF0)},
    {Op::kFdivp, registers(0xDE, 0xF8)},
    {Op::kFld, {reg(0xD9, 0xC0), 0, {0, mem(0xD9, 0), mem(0xDD, 0), mem(0xDB, 5)}}},
    {Op::kFst, store(0, mem(0xD9, 2), mem(0xDD, 2), 0, reg(0xDD, 0xD0))},
    {Op::kFstp, store(0, mem(0xD9, 3), mem(0xDD, 3), mem(0xDB, 7), reg(0xDD, 0xD8))},
    {Op::kFild, {0, 0, {mem(0xDF, 0), mem(0xDB, 0), mem(0xDF, 5), 0}}},
    {Op::kFist, store(mem(0xDF, 2), mem(0xDB, 2), 0, 0)},
    {Op::kFistp, store(mem(0xDF, 3), mem(0xDB, 3), mem(0xDF, 7), 0)},
    {Op::kFisttp, store(mem(0xDF, 1), mem(0xDB, 1), mem(0xDD, 1), 0)},
    {Op::kFbld, {0, 0, {0, 0, 0, mem(0xDF, 4)}}},
    {Op::kFbstp, store(0, 0, 0, mem(0xDF, 6))},
    {Op::kFxch, registers(0xD9, 0xC8)},
    {Op::kFcmovb, registers(0xDA, 0xC0)},
    {Op::kFcmove, registers(0xDA, 0xC8)},
    {Op::kFcmovbe, registers(0xDA, 0xD0)},
    {Op::kFcmovu, registers(0xDA, 0xD8)},
    {Op::kFcmovnb, registers(0xDB, 0xC0)},
    {Op::kFcmovne, registers(0xDB, 0xC8)},
    {Op::kFcmovnbe, registers(0xDB, 0xD0)},
    {Op::kFcmovnu, registers(0xDB, 0xD8)},
    {Op::kFld1, registers(0xD9, 0xE8)},
    {Op::kFldl2t, registers(0xD9, 0xE9)},
    {Op::kFldl2e, registers(0xD9, 0xEA)},
    {Op::kFldpi, registers(0xD9, 0xEB)},
    {Op::kFldlg2, registers(0xD9, 0xEC)},
    {Op::kFldln2, registers(0xD9, 0xED)},
    {Op::kFldz, registers(0xD9, 0xEE)},
    {Op::kFchs, registers(0xD9, 0xE0)},
    {Op::kFabs, registers(0xD9, 0xE1)},
    {Op::kFtst, registers(0xD9, 0xE4)},
    {Op::kFxam, registers(0xD9, 0xE5)},
    {Op::kF2xm1, registers(0xD9, 0xF0)},
    {Op::kFyl2x, registers(0xD9, 0xF1)},
    {Op::kFptan, registers(0xD9, 0xF2)},
    {Op::kFpatan, registers(0xD9, 0xF3)},
    {Op::kFxtract, registers(0xD9, 0xF4)},
    {Op::kFprem1, registers(0xD9, 0xF5)},
    {Op::kFdecstp, registers(0xD9, 0xF6)},
    {Op::kFincstp, registers(0xD9, 0xF7)},
    {Op::kFprem, registers(0xD9, 0xF8)},
    {Op::kFyl2xp1, registers(0xD9, 0xF9)},
    {Op::kFsqrt, registers(0xD9, 0xFA)},
    {Op::kFsincos, registers(0xD9, 0xFB)},
    {Op::kFrndint, registers(0xD9, 0xFC)},
    {Op::kFscale, registers(0xD9, 0xFD)},
    {Op::kFsin, registers(0xD9, 0xFE)},
    {Op::kFcos, registers(0xD9, 0xFF)},
    {Op::kFnop, registers(0xD9, 0xD0)},
    {Op::kFucom, registers(0xDD, 0xE0)},
    {Op::kFucomp, registers(0xDD, 0xE8)},
    {Op::kFucompp, registers(0xDA, 0xE9)},
    {Op::kFucomi, registers(0xDB, 0xE8)},
    {Op::kFcomi, registers(0xDB, 0xF0)},
    {Op::kFucomip, registers(0xDF, 0xE8)},
    {Op::kFcomip, registers(0xDF, 0xF0)},
    {Op::kFfree, registers(0xDD, 0xC0)},
    {Op::kFfreep, registers(0xDF, 0xC0)},
};

constexpr std::size_t kFirst = static_cast<std::size_t>(Op::kFld);
constexpr std::size_t kCount = static_cast<std::size_t>(Op::kFwait) - kFirst + 1;

constexpr std::array<X87Form, kCount> make_forms() {
  std::array<X87Form, kCount> forms{};
  for (const Row& row : kRows) {
    forms[static_cast<std::size_t>(row.op) - kFirst] = row.form;
  }
  return forms;
}
constexpr std::array<X87Form, kCount> kForms = make_forms();

// The function that executes the instruction, or null.
const char* function_of(const Insn& insn) {
  constexpr unsigned kSlot = 4;
  const X87Form& form = x87_form(insn.op);
  const int memory = x87_memory_operand(insn);
  if (memory >= 0) {
    const unsigned size = insn.operand[static_cast<unsigned>(memory)].size;
    const unsigned column = size == 2 ? 0 : size == 4 ? 1 : size == 8 ? 2 : 3;
    const unsigned index = form.memory[column];
    return index == 0 ? nullptr : sm_soft_x87_memory_forms + (index - 1) * kSlot;
  }
  // One of two registers is always ST(0).
  const unsigned i = (insn.operand[0].reg | insn.operand[1].reg) & 7u;
  const unsigned base = insn.operand[0].reg != 0 && form.to_sti != 0 ? form.to_sti : form.registers;
  return base == 0 ? nullptr : sm_soft_x87_register_forms + (base - 1 + i) * kSlot;
}

}  // namespace

const X87Form& x87_form(Op op) {
  const std::size_t index = static_cast<std::size_t>(op) - kFirst;
  static constexpr X87Form kNone{};
  return index < kCount ? kForms[index] : kNone;
}

StatusFlags x87_execute(const Insn& insn, FxState& image, void* memory, StatusFlags flags) {
  const char* function = function_of(insn);
  if (function == nullptr) {
    return flags;
  }
  image.mxcsr = read_mxcsr();  // the host's stays
  image.mxcsr_mask = 0;
  return {static_cast<std::uint16_t>(sm_soft_x87_run(&image, function, memory, flags.ax))};
}

}  // namespace sm::soft
