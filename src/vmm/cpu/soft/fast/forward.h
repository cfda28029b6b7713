// Pairs of register operations of which the second works on what the first has made: one handler
// that keeps it in a register of the host. Between two handlers it goes through Cpu::gpr, where the
// host needs seven cycles to see a store again: loops that compute are made of such pairs.
// Any thread.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/fast/uop.h"

namespace sm::soft::fast {

// Which step of such pairs a handler is; kNoKind (kinds.h): none.
std::uint8_t forwarding_kind(Handler handler);
// The handler of `first` and the uop behind it, which have these kinds. Null: the second does not
// work on what the first makes, or with both operands.
Handler forwarding(const Uop* first, std::uint8_t kind, std::uint8_t second_kind);
// That of two such steps whatever their operands are. Null: the second is none that may be one.
Handler beside(std::uint8_t kind, std::uint8_t second_kind);

}  // namespace sm::soft::fast
