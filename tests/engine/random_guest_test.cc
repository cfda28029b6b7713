// Kernels of random bytes.
#include "engine/random_guest.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sm::engine_test {
namespace {

TEST(RandomGuest, WhateverRunsRunsTheSameBothWays) {
  constexpr std::uint64_t kGuests = 2000;
  for (std::uint64_t seed = 1; seed <= kGuests; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> input(1 + 64 + random() % 4032);
    for (std::uint8_t& byte : input) byte = static_cast<std::uint8_t>(random());
    // Most of them in 64-bit mode.
    input[0] = static_cast<std::uint8_t>(seed % 8 < 5 ? 0 : seed % 4);
    const std::string wrong = run_random_guest(input);
    ASSERT_EQ(wrong, "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace sm::engine_test
