// Random values with a liking for those that matter: limits, small numbers, pointers into the
// sandbox, special floating-point numbers.
#pragma once

#include <cstdint>

#include "tests/cpu/machine_state.h"
#include "tests/cpu/random.h"

namespace sm::cpu_fuzz {

std::uint64_t integer_value(Random& random);
// Two floats, a double, or integers.
std::uint64_t packed_value(Random& random);
// An address in the sandbox for an access of `size` bytes: mostly writable memory, also read-only,
// across page ends, partly or wholly unmapped.
std::uint64_t address_value(Random& random, std::uint32_t size);
void fill_fx(Random& random, soft::FxState& fx);

}  // namespace sm::cpu_fuzz
