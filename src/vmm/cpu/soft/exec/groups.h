// The groups of semantic functions: each file of exec/ contributes one array, semantic.cc joins
// them into the table from Op to function. No operation may stand in two groups.
#pragma once

#include <span>

#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

// Integer.
std::span<const SemanticEntry> move_semantics();      // data movement between registers and memory
std::span<const SemanticEntry> alu_semantics();       // addition, logic, comparison
std::span<const SemanticEntry> multiply_semantics();  // multiplication and division
std::span<const SemanticEntry> shift_semantics();     // shifts and rotations
std::span<const SemanticEntry> bit_semantics();       // bit test, bit scan, counting
std::span<const SemanticEntry> atomic_semantics();    // exchange and compare
std::span<const SemanticEntry> decimal_semantics();   // BCD
std::span<const SemanticEntry> stack_semantics();     // push, pop, frames
std::span<const SemanticEntry> control_semantics();   // near branches, loops, bounds
std::span<const SemanticEntry> flag_semantics();      // single flags, hints, fences
std::span<const SemanticEntry> random_semantics();    // RDRAND, RDSEED
std::span<const SemanticEntry> string_semantics();    // string operations
std::span<const SemanticEntry> port_semantics();      // port I/O, string forms included

// Privileged and segment operations.
std::span<const SemanticEntry> system_semantics();

// MMX, SSE; x87.
std::span<const SemanticEntry> vector_semantics();
std::span<const SemanticEntry> x87_semantics();

}  // namespace sm::soft
