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

// Where a function saves and restores registers.
struct Run {
  std::array<Kind, 4> kinds;
  Handler handler;
};
constexpr std::array kRuns = std::to_array<Run>({
    {{kPush, kPush, kPush, kPush}, chain<Push<SrcReg>, Push<SrcReg>, Push<SrcReg>, Push<SrcReg>>},
    {{kPush, kPush, kPush, kNone}, chain<Push<SrcReg>, Push<SrcReg>, Push<SrcReg>>},
    {{kPop, kPop, kPop, kRet}, chain<Pop, Pop, Pop, Ret>},
    {{kPop, kPop, kRet, kNone}, chain<Pop, Pop, Ret>},
    {{kPop, kPop, kPop, kPop}, chain<Pop, Pop, Pop, Pop>},
    {{kPop, kPop, kPop, kNone}, chain<Pop, Pop, Pop>},
});

// The kind of a handler of one link; kNone for those that are none.
class Kinds {
 public:
  Kinds() {
    for (std::size_t i = 0; i < kFirstEnding; ++i) {
      std::size_t slot = slot_of(kAlone[i]);
      while (slots_[slot].handler != nullptr) slot = (slot + 1) % slots_.size();
      slots_[slot] = {kAlone[i], static_cast<U8>(i)};
    }
  }
  U8 of(Handler handler) const {
    std::size_t slot = slot_of(handler);
    while (slots_[slot].handler != handler && slots_[slot].handler != nullptr) {
      slot = (slot + 1) % slots_.size();
    }
    return slots_[slot].kind;
  }

 private:
  struct Slot {
    Handler handler = nullptr;
    U8 kind = kNone;
  };
  static std::size_t slot_of(Handler handler) {
    constexpr std::uint64_t kSpread = 0x9E37'79B9'7F4A'7C15;
    return static_cast<std::size_t>(reinterpret_cast<std::uintptr_t>(handler) * kSpread >> 56);
  }
  std::array<Slot, 256> slots_{};
};

template <std::size_t... kCondition>
constexpr std::array<U8, kConditions> condition_uops(std::index_sequence<kCondition...>) {
  return {std::tuple_element_t<kCondition, Conditions<false>>::kUops...};
}
constexpr std::array<U8, kConditions> kConditionUops =
    condition_uops(std::make_index_sequence<kConditions>());

// `behind`: the kinds of the uop and of those behind it.
Handler chain_of(const std::array<U8, 4>& behind) {
  if (behind[0] != behind[1] || behind[0] > kPop) return kPairs[behind[0]][behind[1]];
  for (const Run& run : kRuns) {
    bool same = true;
    for (std::size_t i = 0; i < behind.size(); ++i) {
      same = same && (run.kinds[i] == kNone || run.kinds[i] == behind[i]);
    }
    if (same) return run.handler;
  }
  return kPairs[behind[0]][behind[1]];
}

}  // namespace

void make_chains(std::span<Uop> uops) {
  static const Kinds kKinds;
  std::array<U8, 4> behind;
  behind.fill(kNone);
  const std::size_t exit = uops.size() - 1;
  for (std::size_t i = uops.size(); i-- > 0;) {
    U8 kind = kKinds.of(uops[i].handler);
    if (kind != kNone && kind >= kFirstCondition &&
        i + kConditionUops[kind - kFirstCondition] == exit && uops[exit].handler == kAlone[kJmp]) {
      kind += kConditions;
      uops[i].handler = kAlone[kind];
    }
    behind = {kind, behind[0], behind[1], behind[2]};
    if (kind < kSteps && behind[1] != kNone) uops[i].handler = chain_of(behind);
  }
}

}  // namespace sm::soft::fast
