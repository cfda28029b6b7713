#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/result.h"

namespace sm {
namespace {

Result<int> half(int v) {
  if (v % 2 != 0) return fail(Code::kInvalidArgument, "odd");
  return v / 2;
}
Result<int> quarter(int v) { return half(SM_TRY_WITH(half(v), "first half")); }

TEST(Error, errno_maps_to_a_code_and_names_the_object) {
  const Error e = Error::from_errno("open /x", ENOENT);
  EXPECT_EQ(e.code(), Code::kNotFound);
  EXPECT_EQ(e.cause(), "open /x: No such file or directory");
}

TEST(Error, context_goes_in_front_and_the_first_remedy_stays) {
  const Error e = Error(Code::kIo, "disk").with("save").or_remedy("free space").or_remedy("other");
  EXPECT_EQ(e.text(), "save: disk (free space)");
}

TEST(Result, try_returns_the_value_or_the_error_with_context) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().cause(), "odd");
  EXPECT_EQ(quarter(3).error().cause(), "first half: odd");
}

}  // namespace
}  // namespace sm
