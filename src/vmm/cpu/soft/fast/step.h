// Steps: what an instruction does to registers and memory, as types. run() does it and is true, or
// it is false and has done nothing: a slow case. A handler is made of one of them (one()) or of a
// few that come together (chain.cc, forward.cc).
// Thread: the vCPU's own.
#pragma once

#include "vmm/cpu/soft/fast/operands.h"

namespace sm::soft::fast {

// The handler of one step.
template <class Step>
const Uop* one(Cpu& cpu, const Uop* uop, Ahead ahead) {
  if (!Step::run(cpu, uop)) [[unlikely]]
    return run_semantic(cpu, uop, ahead);
  return go_on(cpu, uop, ahead);
}

template <class T, class Destination, class Source>
struct Mov {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const std::byte* from = Source::template locate<T>(cpu, uop);
    if constexpr (Source::kIsMemory) {
      if (from == nullptr) [[unlikely]]
        return false;
    }
    std::byte* to = Destination::template locate<T>(cpu, uop);
    if constexpr (Destination::kIsMemory) {
      if (to == nullptr) [[unlikely]]
        return false;
    }
    Destination::template store<T>(to, load_from<T>(from));
    return true;
  }
};

// MOVZX, MOVSX, MOVSXD: From is extended to To.
template <class To, class From, class Source>
struct Extend {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const std::byte* from = Source::template locate<From>(cpu, uop);
    if constexpr (Source::kIsMemory) {
      if (from == nullptr) [[unlikely]]
        return false;
    }
    write_gpr_at<To>(cpu, uop->dst, static_cast<To>(load_from<From>(from)));
    return true;
  }
};

template <class T, Shape kShape>
struct Lea {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    write_gpr_at<T>(cpu, uop->dst, static_cast<T>(address_of<kShape>(cpu, uop)));
    return true;
  }
};

struct Nothing {
  static bool run(Cpu& /*cpu*/, const Uop* /*uop*/) { return true; }
};

template <class Source>
struct Push {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const std::byte* from = Source::template locate<std::uint64_t>(cpu, uop);
    if constexpr (Source::kIsMemory) {
      if (from == nullptr) [[unlikely]]
        return false;
    }
    const std::uint64_t top = cpu.gpr[kRsp] - kStackWord;
    std::byte* to = find_bytes(cpu.write_tlb, top, kStackWord);
    if (to == nullptr) [[unlikely]]
      return false;
    store_to(to, load_from<std::uint64_t>(from));
    cpu.gpr[kRsp] = top;
    return true;
  }
};

// The pointer first, so that POP RSP leaves what was popped.
struct Pop {
  [[gnu::always_inline]] static bool run(Cpu& cpu, const Uop* uop) {
    const std::uint64_t top = cpu.gpr[kRsp];
    const std::byte* from = find_bytes(cpu.read_tlb, top, kStackWord);
    if (from == nullptr) [[unlikely]]
      return false;
    const auto value = load_from<std::uint64_t>(from);
    cpu.gpr[kRsp] = top + kStackWord;
    write_gpr_at(cpu, uop->dst, value);
    return true;
  }
};

}  // namespace sm::soft::fast
