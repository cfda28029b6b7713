#include "tests/cpu/compare.h"

#include <cstdio>
#include <cstring>
#include <string_view>

#include "tests/cpu/host_choices.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_fuzz {

using soft::Op;

namespace {

enum class When : std::uint8_t {
  kAlways,
  kImmediateCount,  // a shift or rotation by an immediate other than 1
};
// Flags that the manuals leave undefined and that the model does not make exactly as this host. To
// leave out more, add a line.
struct Mask {
  Op op;
  When when;
  std::uint32_t ignored_flags;
};
constexpr std::array kMasks = std::to_array<Mask>({
    // The model computes it with the form by CL.
    {Op::kRol, When::kImmediateCount, soft::eflags::kOf},
    {Op::kRor, When::kImmediateCount, soft::eflags::kOf},
    // The model computes it without the host's instruction.
    {Op::kLzcnt, When::kAlways, soft::eflags::kStatus & ~(soft::eflags::kCf | soft::eflags::kZf)},
});

bool applies(When when, const soft::Insn& insn) {
  if (when == When::kAlways) return true;
  const std::int64_t count_mask = insn.operand[0].size == 8 ? 63 : 31;
  return insn.operand[1].kind == soft::OperandKind::kImm && (insn.imm & count_mask) != 1;
}

// Comparisons that fault in the middle restore the flags. Of long ones the model has ended a part,
// as an interrupt would.
bool has_parts(const Case& test, const Outcome& native) {
  const std::uint64_t elements = test.before.gpr[soft::kRcx] - native.after.gpr[soft::kRcx];
  return native.faulted && (test.insn.op == Op::kCmps || test.insn.op == Op::kScas) &&
         (elements & 0xFFFFFFFF) * test.insn.operand_size >= 4096;
}

std::uint64_t compared_flags(const Case& test, const Outcome& native) {
  if (has_parts(test, native)) return kComparedFlags & ~std::uint64_t{soft::eflags::kStatus};
  for (const Mask& mask : kMasks) {
    if (mask.op == test.insn.op && applies(mask.when, test.insn)) {
      return kComparedFlags & ~std::uint64_t{mask.ignored_flags};
    }
  }
  return kComparedFlags;
}

bool has_operand(const soft::Insn& insn, soft::OperandKind kind) {
  for (const soft::Operand& operand : insn.operand) {
    if (operand.kind == kind) return true;
  }
  return false;
}

std::uint32_t unmasked_simd(const soft::FxState& fx) { return ~(fx.mxcsr >> 7) & 0x3F; }

// Forms whose outcome is the processor's own choice, or that nothing uses and the model does as
// their plain twins.
bool is_incomparable(const Case& test, const Outcome& native) {
  const soft::Insn& insn = test.insn;
  if (host_ends_otherwise(insn, test.before, native)) return true;
  switch (insn.op) {
    case Op::kMaskmovq:
    case Op::kMaskmovdqu:  // bytes that are not chosen may fault
      return native.faulted;
    case Op::kDpps:
    case Op::kDppd:  // which of its steps an unmasked exception ends
      return unmasked_simd(test.before.fx) != 0;
    case Op::kFstp:  // D9 /3 takes an empty register without complaint
      return insn.operand[0].kind == soft::OperandKind::kSt && insn.length >= 2 &&
             test.code[insn.length - 2u] == 0xD9;
    case Op::kFnop:  // the forgotten FNENI, FNDISI and FNSETPM do not wait
      return insn.length >= 2 && test.code[insn.length - 2u] == 0xDB;
    default:
      return false;
  }
}

// The x87 and SSE state without what is not part of it: the last instruction's and operand's
// addresses (processors differ in when they keep them), reserved bytes, the mask of MXCSR.
soft::FxState visible(const soft::FxState& fx) {
  soft::FxState result = fx;
  result.reserved = 0;
  result.opcode = 0;
  result.instruction_pointer = result.data_pointer = 0;
  result.mxcsr_mask = 0;
  result.padding = {};
  for (auto& st : result.st) std::memset(st.data() + 10, 0, st.size() - 10);
  return result;
}

// Of MMX instructions that fault the processor may have set TOP to 0 already.
void forget_x87(soft::FxState& fx) {
  fx.status = 0;
  fx.abridged_tag = 0;
  fx.st = {};
}

bool same_fx(const Case& test, const Outcome& native, const Outcome& model) {
  soft::FxState x = visible(native.after.fx), y = visible(model.after.fx);
  if (native.faulted && has_operand(test.insn, soft::OperandKind::kMmx)) {
    forget_x87(x);
    forget_x87(y);
  }
  // Whether a result is inexact that an unmasked overflow or underflow keeps from being delivered:
  // the model says so by the result that a masked one delivers.
  constexpr std::uint32_t kOverflowOrUnderflow = 0x18, kPrecision = 0x20;
  if (native.faulted && (unmasked_simd(test.before.fx) & kOverflowOrUnderflow) != 0) {
    x.mxcsr |= kPrecision;
    y.mxcsr |= kPrecision;
  }
  return std::memcmp(&x, &y, sizeof(x)) == 0;
}

// Of operands that are accessed in pieces (environments, states) the piece that faults is not the
// model's business: only its page.
std::uint64_t address_grain(const Case& test) {
  for (const soft::Operand& operand : test.insn.operand) {
    if (operand.kind == soft::OperandKind::kMem && (operand.size > 16 || operand.size == 14)) {
      return 4096;
    }
  }
  return 1;
}

// FXSAVE and FXRSTOR look at the end of their 512 bytes first on some processors: which of two
// faulty pages they name is not compared.
bool names_any_page(const Case& test, const Outcome& a, const Outcome& b) {
  return (test.insn.op == Op::kFxsave || test.insn.op == Op::kFxrstor) && a.faulted && b.faulted &&
         a.fault.vector == soft::vector::kPage && b.fault.vector == soft::vector::kPage;
}

bool same_fault(const Case& test, const Outcome& a, const Outcome& b) {
  if (names_any_page(test, a, b)) return true;
  const std::uint64_t grain = address_grain(test);
  return a.faulted == b.faulted &&
         (!a.faulted ||
          (a.fault.vector == b.fault.vector && a.fault.error_code == b.fault.error_code &&
           a.fault.address / grain == b.fault.address / grain));
}

std::string hex(const void* bytes, std::size_t size) {
  std::string text;
  for (std::size_t i = size; i-- > 0;) {  // the most significant first
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", static_cast<const std::uint8_t*>(bytes)[i]);
    text += digits;
  }
  return text;
}

class Report {
 public:
  template <class T>
  void add(std::string_view name, const T& before, const T& native, const T& model,
           std::size_t size = sizeof(T)) {
    if (std::memcmp(&native, &model, size) == 0) return;
    add_text(name, hex(&before, size), hex(&native, size), hex(&model, size));
  }
  void add_text(std::string_view name, const std::string& before, const std::string& native,
                const std::string& model) {
    text_ += "  ";
    text_ += name;
    text_ += ": before " + before + "  cpu " + native + "  model " + model + "\n";
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string fault_text(const Outcome& outcome) {
  if (!outcome.faulted) return "none";
  char text[80];
  std::snprintf(text, sizeof(text), "vector %u error %x address %llx", outcome.fault.vector,
                outcome.fault.error_code, static_cast<unsigned long long>(outcome.fault.address));
  return text;
}

void add_fx(Report& report, const soft::FxState& before, const soft::FxState& native,
            const soft::FxState& model) {
  report.add("fcw", before.control, native.control, model.control);
  report.add("fsw", before.status, native.status, model.status);
  report.add("ftw", before.abridged_tag, native.abridged_tag, model.abridged_tag);
  report.add("mxcsr", before.mxcsr, native.mxcsr, model.mxcsr);
  for (std::size_t i = 0; i < before.st.size(); ++i) {
    report.add("st" + std::to_string(i), before.st[i], native.st[i], model.st[i], 10);
  }
  for (std::size_t i = 0; i < before.xmm.size(); ++i) {
    report.add("xmm" + std::to_string(i), before.xmm[i], native.xmm[i], model.xmm[i]);
  }
}

}  // namespace

bool same(const Case& test, const Outcome& native, const Outcome& model) {
  if (is_incomparable(test, native)) return true;
  return native.after.gpr == model.after.gpr && native.after.rip == model.after.rip &&
         ((native.after.rflags ^ model.after.rflags) & compared_flags(test, native)) == 0 &&
         same_fault(test, native, model) && same_fx(test, native, model);
}

std::string differences(const Case& test, const Outcome& native, const Outcome& model) {
  Report report;
  if (!same_fault(test, native, model)) {
    report.add_text("fault", "none", fault_text(native), fault_text(model));
  }
  static constexpr std::array kNames{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    report.add(kNames[i], test.before.gpr[i], native.after.gpr[i], model.after.gpr[i]);
  }
  report.add("rip", test.before.rip, native.after.rip, model.after.rip);
  const std::uint64_t flags = compared_flags(test, native);
  report.add("rflags", test.before.rflags & flags, native.after.rflags & flags,
             model.after.rflags & flags);
  add_fx(report, test.before.fx, native.after.fx, model.after.fx);
  return report.take();
}

// ENTER that faults at the end of its frame has pushed on some processors already; a store of ten
// or more bytes of x87 has stored its first part.
bool memory_counts(const Case& test, const Outcome& native) {
  if (host_stores_otherwise(test.insn, native)) return false;
  if (!native.faulted) return !is_incomparable(test, native);
  const bool stores_in_parts = test.insn.op == Op::kFstp || test.insn.op == Op::kFbstp ||
                               test.insn.op == Op::kFnstenv || test.insn.op == Op::kFnsave;
  return test.insn.op != Op::kEnter && !stores_in_parts && !is_incomparable(test, native);
}

}  // namespace sm::cpu_fuzz
