// SSE floating-point operations under MXCSR's default control bits, with which the host runs as
// well; everything else is the semantic functions'. See exec/mxcsr.h.
#include <array>
#include <type_traits>

#include "vmm/cpu/soft/exec/mxcsr.h"
#include "vmm/cpu/soft/fast/select.h"
#include "vmm/cpu/soft/fast/vector.h"

namespace sm::soft::fast {

namespace {

// The host's instructions, by the name of their Op. T is the general register of conversions.
namespace host {
#define SM_FLOAT(name, text, tiny)                               \
  struct name {                                                  \
    static void run(Vec& value, Vec source) {                    \
      asm volatile(#text " %1, %0" : "+x"(value) : "x"(source)); \
    }                                                            \
  };
#define SM_COMPARE(name, text)                                                              \
  struct name {                                                                             \
    static void run(Vec first, Vec second, std::uint32_t& flags) {                          \
      flags = 0;                                                                            \
      asm volatile(#text " %2, %1\n\tlahf" : "+a"(flags) : "x"(first), "x"(second) : "cc"); \
    }                                                                                       \
  };
#define SM_FROM_INTEGER(name, text)                              \
  struct name {                                                  \
    template <class T>                                           \
    static void run(Vec& value, T source) {                      \
      asm volatile(#text " %1, %0" : "+x"(value) : "r"(source)); \
    }                                                            \
  };
#define SM_TO_INTEGER(name, text)                                \
  struct name {                                                  \
    template <class T>                                           \
    static void run(T& value, Vec source) {                      \
      asm volatile(#text " %1, %0" : "=r"(value) : "x"(source)); \
    }                                                            \
  };
#include "vmm/cpu/soft/exec/vector_ops.def"
}  // namespace host

using Part4 = std::uint32_t;
using Part8 = std::uint64_t;
using Part16 = std::array<std::byte, 16>;

// Whether the host executes as the guest wants it, and its exception flags say no more than the
// guest's: then those it has afterwards can be added.
[[gnu::always_inline]] inline bool is_plain(const Cpu& cpu) {
  const std::uint32_t guest = cpu.fx.mxcsr, host = read_mxcsr();
  return ((guest ^ mxcsr::kDefault) & ~mxcsr::kFlags) == 0 &&
         ((host ^ guest) & ~(guest & mxcsr::kFlags)) == 0 && sse_usable(cpu);
}
[[gnu::always_inline]] inline void keep_flags(Cpu& cpu) {
  cpu.fx.mxcsr |= read_mxcsr() & mxcsr::kFlags;
}

// The value of the second operand: an XMM register, or T in memory. False: a slow case.
struct FromXmm {
  [[gnu::always_inline]] static bool load(Cpu& cpu, const Uop* uop, Vec& value) {
    value = load_vec(xmm_at(cpu, uop->src));
    return true;
  }
};
template <class T, Shape kShape>
struct FromMemory {
  [[gnu::always_inline]] static bool load(Cpu& cpu, const Uop* uop, Vec& value) {
    const std::byte* from = SrcMem<kShape>::template locate<T>(cpu, uop);
    if (from == nullptr) return false;
    if constexpr (sizeof(T) == 16) {
      if (!is_aligned(from)) return false;
      value = load_vec(from);
    } else {
      value = from_u64(load_from<T>(from));
    }
    return true;
  }
};

template <class Host, class Source>
const Uop* operation(Cpu& cpu, const Uop* uop, Ahead ahead) {
  Vec source;
  if (!Source::load(cpu, uop, source) || !is_plain(cpu)) [[unlikely]] {
    return run_semantic(cpu, uop, ahead);
  }
  Vec value = load_vec(xmm_at(cpu, uop->dst));
  Host::run(value, source);
  keep_flags(cpu);
  store_vec(xmm_at(cpu, uop->dst), value);
  return go_on(cpu, uop, ahead);
}

template <class Host, class Source>
const Uop* comparison(Cpu& cpu, const Uop* uop, Ahead ahead) {
  Vec source;
  if (!Source::load(cpu, uop, source) || !is_plain(cpu)) [[unlikely]] {
    return run_semantic(cpu, uop, ahead);
  }
  std::uint32_t flags = 0;
  Host::run(load_vec(xmm_at(cpu, uop->dst)), source, flags);
  keep_flags(cpu);
  cpu.status.ax = static_cast<std::uint16_t>(flags);
  return go_on(cpu, uop, ahead);
}

template <class Host, class T>
const Uop* from_integer(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!is_plain(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  Vec value = load_vec(xmm_at(cpu, uop->dst));
  Host::run(value, read_gpr_at<T>(cpu, uop->src));
  keep_flags(cpu);
  store_vec(xmm_at(cpu, uop->dst), value);
  return go_on(cpu, uop, ahead);
}

template <class Host, class T>
const Uop* to_integer(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!is_plain(cpu)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  T value = 0;
  Host::run(value, load_vec(xmm_at(cpu, uop->src)));
  keep_flags(cpu);
  write_gpr_at<T>(cpu, uop->dst, value);
  return go_on(cpu, uop, ahead);
}

// ---- Choice

bool is_xmm(const Operand& operand) { return operand.kind == OperandKind::kXmm; }

template <class Host>
struct OperationOf {
  template <class Source>
  static constexpr Handler kHandler = operation<Host, Source>;
};
template <class Host>
struct ComparisonOf {
  template <class Source>
  static constexpr Handler kHandler = comparison<Host, Source>;
};

// Of memory, that which is reached without a segment.
template <class Family, class T>
Handler select_memory(const Insn& insn) {
  switch (shape_of(insn)) {
    case Shape::kBase:
      return Family::template kHandler<FromMemory<T, Shape::kBase>>;
    case Shape::kIndexed:
      return Family::template kHandler<FromMemory<T, Shape::kIndexed>>;
    default:
      return nullptr;
  }
}
template <class Family>
Handler select_float(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_xmm(insn.operand[0])) return nullptr;
  if (is_xmm(insn.operand[1])) return Family::template kHandler<FromXmm>;
  if (!is_memory(insn.operand[1])) return nullptr;
  switch (insn.operand[1].size) {
    case 4:
      return select_memory<Family, Part4>(insn);
    case 8:
      return select_memory<Family, Part8>(insn);
    case 16:
      return select_memory<Family, Part16>(insn);
    default:
      return nullptr;
  }
}

template <class Host>
Handler select_from_integer(const Choice& choice) {
  const Operand& source = choice.insn.operand[1];
  if (!is_register(source)) return nullptr;
  return source.size == 8 ? from_integer<Host, std::uint64_t> : from_integer<Host, std::uint32_t>;
}
template <class Host>
Handler select_to_integer(const Choice& choice) {
  const Insn& insn = choice.insn;
  if (!is_xmm(insn.operand[1])) return nullptr;
  return insn.operand[0].size == 8 ? to_integer<Host, std::uint64_t>
                                   : to_integer<Host, std::uint32_t>;
}

}  // namespace

std::span<const SelectEntry> vector_float_selects() {
  static constexpr SelectEntry kEntries[] = {
#define SM_FLOAT(name, text, tiny) {Op::k##name, select_float<OperationOf<host::name>>},
#define SM_COMPARE(name, text) {Op::k##name, select_float<ComparisonOf<host::name>>},
#define SM_FROM_INTEGER(name, text) {Op::k##name, select_from_integer<host::name>},
#define SM_TO_INTEGER(name, text) {Op::k##name, select_to_integer<host::name>},
#include "vmm/cpu/soft/exec/vector_ops.def"
  };
  return kEntries;
}

}  // namespace sm::soft::fast
