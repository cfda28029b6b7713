#include "base/checked.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

static_assert(checked_add<std::uint64_t>(1, 2) == 3);
static_assert(!checked_add<std::uint64_t>(~0ull, 1));
static_assert(checked_mul<std::uint32_t>(65536, 65535) == 4294901760u);
static_assert(!checked_mul<std::uint32_t>(65536, 65536));
static_assert(narrow<std::uint8_t>(255) == 255);
static_assert(!narrow<std::uint8_t>(256));
static_assert(!narrow<std::uint8_t>(-1));
static_assert(!narrow<std::int32_t>(0x80000000u));
static_assert(align_up(4097, 4096) == 8192);
static_assert(align_up(4096, 4096) == 4096);
static_assert(!align_up(~0ull, 4096));
static_assert(fits(0, 10, 10));
static_assert(!fits(1, 10, 10));
static_assert(!fits(11, 0, 10));
static_assert(!fits(~0ull, 2, 10));
static_assert(is_power_of_two(256) && !is_power_of_two(0) && !is_power_of_two(6));

TEST(Checked, holds_at_compile_time) { SUCCEED(); }

}  // namespace
}  // namespace sm
