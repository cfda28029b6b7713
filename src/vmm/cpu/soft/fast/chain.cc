#include "vmm/cpu/soft/fast/chain.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "vmm/cpu/soft/fast/alu.h"
#include "vmm/cpu/soft/fast/forward.h"
#include "vmm/cpu/soft/fast/fused.h"
#include "vmm/cpu/soft/fast/kinds.h"
#include "vmm/cpu/soft/fast/last.h"
#include "vmm/cpu/soft/fast/step.h"

namespace sm::soft::fast {

namespace {

using U8 = std::uint8_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;
using Base = SrcMem<Shape::kBase>;

// What chains are made of: the handlers that kernels, and programs while they start, execute most.
using Steps = std::tuple<
    Push<SrcReg>, Pop, Mov<U64, DstReg, Base>, Mov<U64, DstReg, SrcReg>,
    Mov<U64, DstMem<Shape::kBase>, SrcReg>, Mov<U32, DstReg, SrcReg>, Lea<U64, Shape::kBase>,
    Mov<U32, DstReg, Base>, Nothing, Lea<U64, Shape::kIndexed>, Mov<U32, DstReg, SrcImm>,
    Binary<Xor, U32, DstReg, SrcReg, true>, Binary<Xor, U32, DstReg, SrcReg, false>,
    Binary<Add, U64, DstReg, SrcImm, true>, Binary<Add, U64, DstReg, SrcImm, false>,
    Mov<U64, DstReg, SrcImm>, Mov<U64, DstReg, SrcMem<Shape::kSegment>>, Extend<U32, U8, Base>,
    Mov<U32, DstMem<Shape::kBase>, SrcReg>, Mov<U64, DstMem<Shape::kBase>, SrcImm>,
    Binary<And, U32, DstReg, SrcImm, false>, Binary<And, U32, DstReg, SrcImm, true>,
    Binary<Add, U64, DstReg, SrcReg, true>, Binary<Sub, U64, DstReg, SrcImm, true>,
    Mov<U64, DstReg, SrcMem<Shape::kIndexed>>, Extend<std::int64_t, std::int32_t, SrcReg>,
    Extend<U32, std::uint16_t, Base>, Mov<U64, DstMem<Shape::kIndexed>, SrcReg>>;
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
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcImm, 5, kEnds>,
                              CompareAndBranch<fused::Cmp, U32, DstReg, SrcImm, 5, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcReg, 3, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcImm, 6, kEnds>,
                              CompareAndBranch<fused::Cmp, U64, DstReg, SrcImm, 7, kEnds>,
                              CompareAndBranch<fused::Cmp, U32, DstReg, SrcImm, 6, kEnds>,
                              CompareAndBranch<fused::Cmp, U32, DstReg, SrcImm, 7, kEnds>,
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
enum Kind : U8 { kPush = 0, kPop = 1, kJmp = kSteps, kRet = kSteps + 1 };

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
  // Of the links that are found as such: the ending conditions are put in here.
  static const Kinds kKinds({kAlone.data(), kFirstEnding});
  U32 kinds = ~U32{0};  // four of kNoKind
  U8 next_step = kNoKind;
  const std::size_t exit = uops.size() - 1;
  for (std::size_t i = uops.size(); i-- > 0;) {
    U8 kind = kKinds.of(uops[i].handler);
    const U8 step = forwarding_kind(uops[i].handler);
    if (kind != kNoKind && kind >= kFirstCondition &&
        i + kConditionUops[kind - kFirstCondition] == exit && uops[exit].handler == kAlone[kJmp]) {
      kind += kConditions;
      uops[i].handler = kAlone[kind];
    }
    kinds = kinds << 8 | kind;
    const bool is_chain = kind < kSteps && (kinds >> 8 & 0xFF) != kNoKind;
    if (is_chain) uops[i].handler = chain_of(kinds);
    if (step != kNoKind && next_step != kNoKind) {
      Handler both = forwarding(&uops[i], step, next_step);
      if (both == nullptr && !is_chain) both = beside(step, next_step);
      if (both != nullptr) uops[i].handler = both;
    }
    next_step = step;
  }
}

}  // namespace sm::soft::fast
