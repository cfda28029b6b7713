// Compares what the real CPU and the model made of a case.
#pragma once

#include <string>

#include "tests/cpu/generator.h"
#include "tests/cpu/machine_state.h"

namespace sm::cpu_fuzz {

// One line for each part that differs, with its value before; empty when nothing does. Memory is
// not looked at.
std::string differences(const Case& test, const Outcome& native, const Outcome& model);
// False when memory is undefined after the case.
bool memory_counts(const Case& test, const Outcome& native);
// The quick answer.
bool same(const Case& test, const Outcome& native, const Outcome& model);

}  // namespace sm::cpu_fuzz
