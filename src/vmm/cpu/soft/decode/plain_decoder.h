// The short way of the decoder: instructions without prefixes but REX and FS or GS, see
// plain_form.h. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

// So many bytes have to be there: more than an instruction has, since it reads eight at a time.
inline constexpr std::size_t kPlainBytes = 24;

// Decodes in 64-bit mode. False: the general decoder has to look; of `out` nothing holds.
bool decode_plain(const std::uint8_t* bytes, Insn& out);

}  // namespace sm::soft
