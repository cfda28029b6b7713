#include "vmm/cpu/soft/fast/chain.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "vmm/cpu/soft/fast/alu.h"
#include "vmm/cpu/soft/fast/fused.h"
#include "vmm/cpu/soft/fast/last.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

namespace {

using U8 = std::uint8_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;
using Base = SrcMem<Shape::kBase>;

// What chains are made of: the handlers that kernels, and programs while they start, execute most.
using Steps =
    std::tuple<Push<SrcReg>, Pop, Mov<U64, DstReg, Base>, Mov<U64, DstReg, SrcReg>,
               Mov<U64, DstMem<Shape::kBase>, SrcReg>, Mov<U32, DstReg, SrcReg>,
               Lea<U64, Shape::kBase>, Mov<U32, DstReg, Base>, Nothing, Lea<U64, Shape::kIndexed>,
               Mov<U32, DstReg, SrcImm>, Binary<Xor, U32, DstReg, SrcReg, true>,
               Binary<Xor, U32, DstReg, SrcReg, false>, Binary<Add, U64, DstReg, SrcImm, true>,
               Binary<Add, U64, DstReg, SrcImm, false>, Mov<U64, DstReg, SrcImm>,
               Mov<U64, DstReg, SrcMem<Shape::kSegment>>, Extend<U32, U8, Base>,
               Mov<U32, DstMem<Shape::kBase>, SrcReg>, Mov<U64, DstMem<Shape::kBase>, SrcImm>,
               Binary<And, U32, DstReg, SrcImm, false>, Binary<And, U32, DstReg, SrcImm, true>,
               Binary<Add, U64, DstReg, SrcReg, true>, Binary<Sub, U64, DstReg, SrcImm, true>,
               Mov<U64, DstReg, SrcMem<Shape::kIndexed>>,
               Extend<std::int64_t, std::int32_t, SrcReg>, Extend<U32, std::uint16_t, Base>>;
using Exits = std::tuple<Jmp<false>, Ret, Call<true>>;
template <bool kEnds>
using Conditions = std::tuple<CompareAndBranch<fused::Test, U64, DstReg, SrcReg, 4, kEnds>,
                              CompareAndBranch<fused::Test, U64, DstReg, SrcReg, 5, kEnds>,
                              CompareAndBranch<fused::Test, U32, DstReg, SrcReg, 4, kEnds>,
                              CompareAndBranch<fused::Test, U32, DstReg, SrcReg, 5, kEnds>,
                              CompareAndBranch<fused::Test, U8, DstReg, SrcImm, 4, kEnds>,
                              CompareAndBranch<fused::Test, U8, DstReg, SrcImm, 5, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcReg, 2, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcReg, 4, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcReg, 5, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcImm, 4, kEnds>,
                              CompareAndBranch<fused::Cmp, U32, DstReg, SrcImm, 4, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcReg, 3, kEnds>,
                              CompareAndBranch<fused::Test, U32, DstReg, SrcImm, 4, kEnds>,
                              CompareAndBranch<fused::Test, U32, DstReg, SrcImm, 5, kEnds>,
                              CompareAndBranch<fused::Test, U8, Base, SrcImm, 4, kEnds>,
                              CompareAndBranch<fused::Test, U8, Base, SrcImm, 5, kEnds>,
                              Jcc<4, kEnds>, Jcc<5, kEnds>>;

// All of them, by a number: its kind.
using Links = decltype(std::tuple_cat(Steps(), Exits(), Conditions<false>(), Conditions<true>()));
constexpr std::size_t kSteps = std::tuple_size_v<Steps>;
constexpr std::size_t kConditions = std::tuple_size_v<Conditions<false>>;
constexpr std::size_t kFirstCondition = kSteps + std::tuple_size_v<Exits>;
constexpr std::size_t kFirstEnding = kFirstCondition + kConditions;
constexpr std::size_t kLinks = kFirstEnding + kConditions;
enum Kind : U8 { kPush = 0, kPop = 1, kJmp = kSteps, kRet = kSteps + 1, kNone = 0xFF };

template <class First, class... Rest>
[[gnu::always_inline]] inline const Uop* follow(Cpu& cpu, const Uop* uop) {
  if constexpr (requires { First::leave(cpu, uop); }) {
    return First::leave(cpu, uop);
  } else {
    if (!First::run(cpu, uop)) [[unlikely]]
      return run_semantic(cpu, uop, {});
    if constexpr (sizeof...(Rest) == 0) {
      return go_to(cpu, uop + 1);
    } else {
      return follow<Rest...>(cpu, uop + 1);
    }
  }
}
template <class... Link>
const Uop* chain(Cpu& cpu, const Uop* uop, Ahead /*ahead*/) {
  return follow<Link...>(cpu, uop);
}

using ByKind = std::array<Handler, kLinks>;

template <std::size_t... kLink>
constexpr ByKind alone(std::index_sequence<kLink...>) {
  constexpr auto kAlone = []<class Link>() -> Handler {
    if constexpr (requires(Cpu & cpu, const Uop* uop) { Link::leave(cpu, uop); }) {
      return last<Link>;
    } else {
      return one<Link>;
    }
  };
  return {kAlone.template operator()<std::tuple_element_t<kLink, Links>>()...};
}
constexpr ByKind kAlone = alone(std::make_index_sequence<kLinks>());

template <class First, std::size_t... kSecond>
constexpr ByKind pairs_with(std::index_sequence<kSecond...>) {
  return {chain<First, std::tuple_element_t<kSecond, Links>>...};
}
template <std::size_t... kFirst>
constexpr std::array<ByKind, kSteps> pairs(std::index_sequence<kFirst...>) {
  return {pairs_with<std::tuple_element_t<kFirst, Steps>>(std::make_index_sequence<kLinks>())...};
}
constexpr std::array<ByKind, kSteps> kPairs = pairs(std::make_index_sequence<kSteps>());

// Where a function saves and restores registers: kinds, the first one's in the lowest byte, as far
// as the mask goes.
struct Run {
  U32 kinds, mask;
  Handler handler;
};
constexpr U32 in_order(U32 a, U32 b, U32 c, U32 d = 0) { return a | b << 8 | c << 16 | d << 24; }
constexpr U32 kThree = 0xFF'FFFF, kFour = 0xFFFF'FFFF;
constexpr std::array kRuns = std::to_array<Run>({
    {in_order(kPush, kPush, kPush, kPush), kFour,
     chain<Push<SrcReg>, Push<SrcReg>, Push<SrcReg>, Push<SrcReg>>},
    {in_order(kPush, kPush, kPush), kThree, chain<Push<SrcReg>, Push<SrcReg>, Push<SrcReg>>},
    {in_order(kPop, kPop, kPop, kRet), kFour, chain<Pop, Pop, Pop, Ret>},
    {in_order(kPop, kPop, kRet), kThree, chain<Pop, Pop, Ret>},
    {in_order(kPop, kPop, kPop, kPop), kFour, chain<Pop, Pop, Pop, Pop>},
    {in_order(kPop, kPop, kPop), kThree, chain<Pop, Pop, Pop>},
});

// The kind of a handler of one link; kNone for those that are none. Of every instruction that is
// translated, so there is no search: the multiplier is one with which no two share a slot.
class Kinds {
 public:
  Kinds() {
    while (!fill()) multiplier_ += 2;
  }
  U8 of(Handler handler) const {
    const U8 kind = slots_[slot_of(handler)];
    return kAlone[kind] == handler ? kind : U8{kNone};
  }

 private:
  static constexpr int kBits = 11;
  bool fill() {
    slots_.fill(0);
    std::array<bool, std::size_t{1} << kBits> taken{};
    for (std::size_t i = 0; i < kFirstEnding; ++i) {
      const std::size_t slot = slot_of(kAlone[i]);
      if (taken[slot]) return false;
      taken[slot] = true;
      slots_[slot] = static_cast<U8>(i);
    }
    return true;
  }
  std::size_t slot_of(Handler handler) const {
    return static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(handler) * multiplier_ >>
                                    (64 - kBits));
  }
  U64 multiplier_ = 0x9E37'79B9'7F4A'7C15;
  std::array<U8, std::size_t{1} << kBits> slots_;
};

template <std::size_t... kCondition>
constexpr std::array<U8, kConditions> condition_uops(std::index_sequence<kCondition...>) {
  return {std::tuple_element_t<kCondition, Conditions<false>>::kUops...};
}
constexpr std::array<U8, kConditions> kConditionUops =
    condition_uops(std::make_index_sequence<kConditions>());

// `kinds`: of the uop and of those behind it, as in Run.
Handler chain_of(U32 kinds) {
  const U8 first = kinds & 0xFF, second = kinds >> 8 & 0xFF;
  if (first == second && first <= kPop) {
    for (const Run& run : kRuns) {
      if (((kinds ^ run.kinds) & run.mask) == 0) return run.handler;
    }
  }
  return kPairs[first][second];
}

}  // namespace

void make_chains(std::span<Uop> uops) {
  static const Kinds kKinds;
  U32 kinds = ~U32{0};  // four of kNone
  const std::size_t exit = uops.size() - 1;
  for (std::size_t i = uops.size(); i-- > 0;) {
    U8 kind = kKinds.of(uops[i].handler);
    if (kind != kNone && kind >= kFirstCondition &&
        i + kConditionUops[kind - kFirstCondition] == exit && uops[exit].handler == kAlone[kJmp]) {
      kind += kConditions;
      uops[i].handler = kAlone[kind];
    }
    kinds = kinds << 8 | kind;
    if (kind < kSteps && (kinds >> 8 & 0xFF) != kNone) uops[i].handler = chain_of(kinds);
  }
}

}  // namespace sm::soft::fast
