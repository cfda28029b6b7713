// Decoder: instruction bytes -> Insn. Pure: no CPU state but the code mode goes in.
// Any thread.
// What CPUID hides is undefined here as well: VEX, EVEX and XOP encodings, XSAVE, VMX, SVM, CET
// (but its hints, which are NOPs), MPX, TSX, BMI1 (F3 0F BC is BSF), 3DNow!. Spec: SDM vol. 2,
// chapter 2 and appendices A and B.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

enum class DecodeResult : std::uint8_t {
  kOk,
  kTruncated,  // the instruction goes on behind `bytes`: call again with more of it
  kUndefined,  // #UD
  kTooLong,    // #GP(0)
};

inline constexpr std::size_t kMaxInsnLength = 15;

// Decodes the instruction at the start of `bytes`. The result depends on the first 15 at most; the
// short way (plain_decoder.h) is taken where there are more. Of `out` nothing but op == kInvalid
// holds unless the result is kOk. More bytes never change a result that is not kTruncated.
DecodeResult decode(std::span<const std::uint8_t> bytes, CodeMode mode, Insn& out);

}  // namespace sm::soft
