// Random kernels: any bytes as a program in ring 0, run by the software CPU's two ways to execute
// with time that is counted in instructions. Whatever the program does, both must do the same, and
// run() may only come back with the exits of a guest. For a test and for the fuzz target.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace sm::engine_test {

// `input`: one byte that chooses the mode to start in, the rest is the program. The mode's tables,
// a stack for every exception and handlers that go on with another part of the program are there.
// Empty: nothing was wrong. Otherwise a text that says what.
std::string run_random_guest(std::span<const std::uint8_t> input);

}  // namespace sm::engine_test
