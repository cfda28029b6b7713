#include "vmm/cpu/soft/fast/forward.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "vmm/cpu/soft/fast/alu.h"
#include "vmm/cpu/soft/fast/kinds.h"
#include "vmm/cpu/soft/fast/shift.h"

namespace sm::soft::fast {

namespace {

using U32 = std::uint32_t;
using U64 = std::uint64_t;

// What the operands of a step of a pair are.
struct Operands {
  U64 destination, source;
};

// Each step as a function: value() of its operands, which are loaded where it needs them. None of
// them leaves flags.
template <class Step>
struct Pure;

template <class T>
struct Pure<Mov<T, DstReg, SrcReg>> {
  static constexpr bool kReadsDestination = false, kReadsSource = true;
  static U64 value(Cpu& /*cpu*/, const Uop* /*uop*/, Operands operands) {
    return static_cast<T>(operands.source);
  }
};
template <class Operation, class T>
struct Pure<Binary<Operation, T, DstReg, SrcReg, false>> {
  static constexpr bool kReadsDestination = true, kReadsSource = true;
  static U64 value(Cpu& /*cpu*/, const Uop* /*uop*/, Operands operands) {
    return Operation::template plain<T>(static_cast<T>(operands.destination),
                                        static_cast<T>(operands.source));
  }
};
template <class Operation, class T>
struct Pure<Binary<Operation, T, DstReg, SrcImm, false>> {
  static constexpr bool kReadsDestination = true, kReadsSource = false;
  static U64 value(Cpu& /*cpu*/, const Uop* uop, Operands operands) {
    return Operation::template plain<T>(static_cast<T>(operands.destination),
                                        static_cast<T>(uop->imm));
  }
};
template <class Operation, class T>
struct Pure<Shift<Operation, T, SrcImm, false>> {
  static constexpr bool kReadsDestination = true, kReadsSource = false;
  static U64 value(Cpu& /*cpu*/, const Uop* uop, Operands operands) {
    return Operation::template plain<T>(static_cast<T>(operands.destination),
                                        static_cast<unsigned>(uop->imm) % (sizeof(T) * 8));
  }
};
template <Shape kShape>
struct Pure<Lea<U64, kShape>> {
  static constexpr bool kReadsDestination = false, kReadsSource = false;
  static U64 value(Cpu& cpu, const Uop* uop, Operands /*operands*/) {
    return address_of<kShape>(cpu, uop);
  }
};

template <class T>
using Seconds =
    std::tuple<Mov<T, DstReg, SrcReg>, Binary<Add, T, DstReg, SrcReg, false>,
               Binary<Sub, T, DstReg, SrcReg, false>, Binary<Xor, T, DstReg, SrcReg, false>,
               Binary<And, T, DstReg, SrcReg, false>, Binary<Or, T, DstReg, SrcReg, false>,
               Binary<Add, T, DstReg, SrcImm, false>, Binary<And, T, DstReg, SrcImm, false>,
               Shift<Shl, T, SrcImm, false>, Shift<Shr, T, SrcImm, false>,
               Shift<Ror, T, SrcImm, false>, Shift<Rol, T, SrcImm, false>>;
using Steps =
    decltype(std::tuple_cat(Seconds<U64>(), Seconds<U32>(),
                            std::tuple<Lea<U64, Shape::kBase>, Lea<U64, Shape::kIndexed>>()));
constexpr std::size_t kFirsts = std::tuple_size_v<Steps>, kSeconds = kFirsts - 2;

enum class Via : std::uint8_t { kDestination, kSource, kNothing };

template <class Step>
[[gnu::always_inline]] inline Operands load_operands(Cpu& cpu, const Uop* uop) {
  return {Pure<Step>::kReadsDestination ? read_gpr_at<U64>(cpu, uop->dst) : 0,
          Pure<Step>::kReadsSource ? read_gpr_at<U64>(cpu, uop->src) : 0};
}

// By the destination the second overwrites what the first has made, so that nobody else sees it.
template <class First, class Second, Via kVia>
const Uop* both(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  const U64 made = Pure<First>::value(cpu, uop, load_operands<First>(cpu, uop));
  if constexpr (kVia != Via::kDestination) write_gpr_at<U64>(cpu, uop->dst, made);
  const Uop* second = uop + 1;
  Operands operands = load_operands<Second>(cpu, second);
  if constexpr (kVia == Via::kDestination) operands.destination = made;
  if constexpr (kVia == Via::kSource) operands.source = made;
  write_gpr_at<U64>(cpu, second->dst, Pure<Second>::value(cpu, second, operands));
  return go_to(cpu, uop + 2);
}

using ByStep = std::array<Handler, kSeconds>;
template <class First, Via kVia, class Second>
constexpr Handler pair() {
  if constexpr ((kVia == Via::kDestination && !Pure<Second>::kReadsDestination) ||
                (kVia == Via::kSource && !Pure<Second>::kReadsSource)) {
    return nullptr;
  } else {
    return both<First, Second, kVia>;
  }
}
template <class First, Via kVia, std::size_t... kSecond>
constexpr ByStep pairs_with(std::index_sequence<kSecond...>) {
  return {pair<First, kVia, std::tuple_element_t<kSecond, Steps>>()...};
}
template <Via kVia, std::size_t... kFirst>
constexpr std::array<ByStep, kFirsts> pairs(std::index_sequence<kFirst...>) {
  return {pairs_with<std::tuple_element_t<kFirst, Steps>, kVia>(
      std::make_index_sequence<kSeconds>())...};
}
constexpr std::array<ByStep, kFirsts> kByDestination =
    pairs<Via::kDestination>(std::make_index_sequence<kFirsts>());
constexpr std::array<ByStep, kFirsts> kBySource =
    pairs<Via::kSource>(std::make_index_sequence<kFirsts>());
constexpr std::array<ByStep, kFirsts> kBeside =
    pairs<Via::kNothing>(std::make_index_sequence<kFirsts>());

template <std::size_t... kStep>
constexpr std::array<Handler, kFirsts> alone(std::index_sequence<kStep...>) {
  return {one<std::tuple_element_t<kStep, Steps>>...};
}
constexpr std::array<Handler, kFirsts> kAlone = alone(std::make_index_sequence<kFirsts>());

template <std::size_t... kStep>
constexpr std::array<bool, kFirsts> source_readers(std::index_sequence<kStep...>) {
  return {Pure<std::tuple_element_t<kStep, Steps>>::kReadsSource...};
}
constexpr std::array<bool, kFirsts> kReadsSource =
    source_readers(std::make_index_sequence<kFirsts>());

}  // namespace

std::uint8_t forwarding_kind(Handler handler) {
  static const Kinds kKinds(kAlone);
  return kKinds.of(handler);
}

Handler forwarding(const Uop* first, std::uint8_t kind, std::uint8_t second_kind) {
  if (second_kind >= kSeconds) return nullptr;
  const Uop& second = first[1];
  const bool by_source = kReadsSource[second_kind] && second.src == first->dst;
  if (second.dst == first->dst) {
    return by_source ? nullptr : kByDestination[kind][second_kind];
  }
  return by_source ? kBySource[kind][second_kind] : nullptr;
}

Handler beside(std::uint8_t kind, std::uint8_t second_kind) {
  return second_kind < kSeconds ? kBeside[kind][second_kind] : nullptr;
}

}  // namespace sm::soft::fast
