// Read-modify-write of memory as locks and counters do it: CMPXCHG, XADD, XCHG, and arithmetic with
// a LOCK prefix. Locked forms are one atomic step on the host's memory.
#include <array>

#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/exec/operand.h"
#include "vmm/cpu/soft/fast/select.h"

namespace sm::soft::fast {

namespace {

constexpr std::uint64_t kCacheLine = 64;

// The bytes of the memory operand, to be written; null in a slow case, which across two cache lines
// is that of a locked operation.
template <class T, Shape kShape, bool kLocked>
[[gnu::always_inline]] inline std::byte* locate_for_update(Cpu& cpu, const Uop* uop) {
  const std::uint64_t address = address_of<kShape>(cpu, uop);
  if (kLocked && address % kCacheLine > kCacheLine - sizeof(T)) return nullptr;
  return find_bytes(cpu.write_tlb, address, sizeof(T));
}

// SAFETY: guest memory is bytes to the compiler; the host's locked instruction is on these.
template <class T>
[[gnu::always_inline]] inline bool compare_exchange(std::byte* at, T& expected, T desired) {
  return host::compare_exchange(reinterpret_cast<T*>(at), expected, desired);
}

template <class T, Shape kShape, bool kLocked>
const Uop* cmpxchg(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* at = locate_for_update<T, kShape, kLocked>(cpu, uop);
  if (at == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T wanted = static_cast<T>(cpu.gpr[kRax]);
  T old = wanted;
  if constexpr (kLocked) {
    compare_exchange(at, old, read_gpr_at<T>(cpu, uop->src));
  } else {
    old = load_from<T>(at);
    store_to(at, old == wanted ? read_gpr_at<T>(cpu, uop->src) : old);
  }
  host::sub(wanted, old, cpu.status);
  if (old != wanted) write_gpr_at<T>(cpu, kRax * 8, old);
  return go_on(cpu, uop, ahead);
}

// CMPXCHG16B without LOCK, as kernels have it for what belongs to one processor.
template <Shape kShape>
const Uop* cmpxchg16b(Cpu& cpu, const Uop* uop, Ahead ahead) {
  using Pair = std::array<std::uint64_t, 2>;
  const std::uint64_t address = address_of<kShape>(cpu, uop);
  std::byte* at = find_bytes(cpu.write_tlb, address, sizeof(Pair));
  if (at == nullptr || address % sizeof(Pair) != 0) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const auto old = load_from<Pair>(at);
  const bool same = old[0] == cpu.gpr[kRax] && old[1] == cpu.gpr[kRdx];
  cpu.status = with_flag(cpu.status, eflags::kZf, same);
  if (same) {
    store_to(at, Pair{cpu.gpr[kRbx], cpu.gpr[kRcx]});
  } else {
    cpu.gpr[kRax] = old[0];
    cpu.gpr[kRdx] = old[1];
  }
  return go_on(cpu, uop, ahead);
}

template <class T, Shape kShape, bool kLocked>
const Uop* xadd(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* at = locate_for_update<T, kShape, kLocked>(cpu, uop);
  if (at == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T addend = read_gpr_at<T>(cpu, uop->src);
  T old = load_from<T>(at);
  StatusFlags flags;
  T sum = host::add(old, addend, flags);
  if constexpr (kLocked) {
    while (!compare_exchange(at, old, sum)) sum = host::add(old, addend, flags);
  } else {
    store_to(at, sum);
  }
  cpu.status = flags;
  write_gpr_at<T>(cpu, uop->src, old);
  return go_on(cpu, uop, ahead);
}

// Always locked.
template <class T, Shape kShape>
const Uop* xchg(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* at = locate_for_update<T, kShape, true>(cpu, uop);
  if (at == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T old = host::exchange(reinterpret_cast<T*>(at), read_gpr_at<T>(cpu, uop->src));
  write_gpr_at<T>(cpu, uop->src, old);
  return go_on(cpu, uop, ahead);
}

// Arithmetic with a LOCK prefix: apply() is called again when somebody else was faster.
#define SM_SOFT_OPERATION(Name, function)          \
  struct Name {                                    \
    template <class T>                             \
    static T apply(T a, T b, StatusFlags& flags) { \
      return host::function(a, b, flags);          \
    }                                              \
  };
SM_SOFT_OPERATION(Add, add)
SM_SOFT_OPERATION(Or, bit_or)
SM_SOFT_OPERATION(And, bit_and)
SM_SOFT_OPERATION(Sub, sub)
SM_SOFT_OPERATION(Xor, bit_xor)
#undef SM_SOFT_OPERATION
struct Inc {
  template <class T>
  static T apply(T a, T /*b*/, StatusFlags& flags) {
    return host::inc(a, flags);
  }
};
struct Dec {
  template <class T>
  static T apply(T a, T /*b*/, StatusFlags& flags) {
    return host::dec(a, flags);
  }
};

template <class Operation, class T, class Source, Shape kShape>
const Uop* locked(Cpu& cpu, const Uop* uop, Ahead ahead) {
  std::byte* at = locate_for_update<T, kShape, true>(cpu, uop);
  if (at == nullptr) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  const T b = load_from<T>(Source::template locate<T>(cpu, uop));
  T old = load_from<T>(at);
  for (;;) {
    StatusFlags flags = cpu.status;
    const T value = Operation::apply(old, b, flags);
    if (!compare_exchange(at, old, value)) continue;
    cpu.status = flags;
    return go_on(cpu, uop, ahead);
  }
}

using ByShape = std::array<Handler, kShapes>;
template <class Make>
constexpr ByShape by_shape(Make make) {
  return {make.template operator()<Shape::kBase>(), make.template operator()<Shape::kIndexed>(),
          make.template operator()<Shape::kSegment>()};
}

template <class T, bool kLocked>
constexpr ByShape kCmpxchg = by_shape([]<Shape s>() -> Handler { return cmpxchg<T, s, kLocked>; });
template <class T, bool kLocked>
constexpr ByShape kXadd = by_shape([]<Shape s>() -> Handler { return xadd<T, s, kLocked>; });
template <class T>
constexpr ByShape kXchg = by_shape([]<Shape s>() -> Handler { return xchg<T, s>; });

template <class Operation, class T, class Source>
constexpr ByShape kLocked = by_shape([]<Shape s>() -> Handler {
  return locked<Operation, T, Source, s>;
});

template <class Operation, class T>
Handler choose_locked_sized(const Insn& insn) {
  return is_register(insn.operand[1]) ? kLocked<Operation, T, SrcReg>[shape_index(insn)]
                                      : kLocked<Operation, T, SrcImm>[shape_index(insn)];
}
template <class Operation>
Handler choose_locked(const Insn& insn) {
  switch (insn.operand[0].size) {
    case 4:
      return choose_locked_sized<Operation, std::uint32_t>(insn);
    case 8:
      return choose_locked_sized<Operation, std::uint64_t>(insn);
    default:
      return nullptr;
  }
}

// [locked][8 bytes instead of 4]
using Family = std::array<std::array<const ByShape*, 2>, 2>;
constexpr Family kCmpxchgFamily{{{&kCmpxchg<std::uint32_t, false>, &kCmpxchg<std::uint64_t, false>},
                                 {&kCmpxchg<std::uint32_t, true>, &kCmpxchg<std::uint64_t, true>}}};
constexpr Family kXaddFamily{{{&kXadd<std::uint32_t, false>, &kXadd<std::uint64_t, false>},
                              {&kXadd<std::uint32_t, true>, &kXadd<std::uint64_t, true>}}};

Handler choose(const Family& family, const Insn& insn) {
  if (!is_memory(insn.operand[0]) || insn.operand[0].size < 4) return nullptr;
  return (*family[insn.lock ? 1 : 0][insn.operand[0].size == 8 ? 1 : 0])[shape_index(insn)];
}
Handler select_cmpxchg(const Choice& choice) { return choose(kCmpxchgFamily, choice.insn); }
Handler select_cmpxchg16b(const Choice& choice) {
  static constexpr ByShape kHandlers = by_shape([]<Shape s>() -> Handler { return cmpxchg16b<s>; });
  return kHandlers[shape_index(choice.insn)];
}
Handler select_xadd(const Choice& choice) { return choose(kXaddFamily, choice.insn); }

}  // namespace

Handler select_locked(const Insn& insn) {
  switch (insn.op) {
    case Op::kAdd:
      return choose_locked<Add>(insn);
    case Op::kOr:
      return choose_locked<Or>(insn);
    case Op::kAnd:
      return choose_locked<And>(insn);
    case Op::kSub:
      return choose_locked<Sub>(insn);
    case Op::kXor:
      return choose_locked<Xor>(insn);
    case Op::kInc:
      return choose_locked<Inc>(insn);
    case Op::kDec:
      return choose_locked<Dec>(insn);
    default:
      return nullptr;
  }
}

Handler select_xchg_memory(const Insn& insn, Uop& uop) {
  const bool memory_first = is_memory(insn.operand[0]);
  if (!memory_first) uop.src = uop.dst;
  switch (insn.operand[0].size) {
    case 4:
      return kXchg<std::uint32_t>[shape_index(insn)];
    case 8:
      return kXchg<std::uint64_t>[shape_index(insn)];
    default:
      return nullptr;
  }
}

std::span<const SelectEntry> atomic_selects() {
  static constexpr std::array kEntries = std::to_array<SelectEntry>({
      {Op::kCmpxchg, select_cmpxchg},
      {Op::kCmpxchg16b, select_cmpxchg16b},
      {Op::kXadd, select_xadd},
  });
  return kEntries;
}

}  // namespace sm::soft::fast
