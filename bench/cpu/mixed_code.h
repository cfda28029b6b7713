// Straight code of random common instructions, as cold as code can be: longer than what any branch
// predictor remembers. Returns bytes for `at` that end with a RET.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sm::cpu_bench {

// Instructions use rbx as a pointer into 4 KiB of data and rax, rcx, rdx, rsi, rdi, r8.
std::vector<std::uint8_t> mixed_code(std::size_t instructions, std::uint64_t seed);

}  // namespace sm::cpu_bench
