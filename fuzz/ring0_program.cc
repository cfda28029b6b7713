// Fuzzes the software CPU with kernels of random bytes: whatever ring 0 does, run() gives the exits
// of a guest and nothing else, and the blocks do what the single instructions do.
#include <fmt/format.h>

#include <cstdint>
#include <span>

#include "base/check.h"
#include "engine/random_guest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string wrong = sm::engine_test::run_random_guest({data, size});
  if (!wrong.empty()) fmt::print(stderr, "{}\n", wrong);
  SM_CHECK(wrong.empty());
  return 0;
}
