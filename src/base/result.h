// Result<T> and Status: how every function in src/ reports failure. Freestanding: usable in guest/.
//
//   Result<UniqueFd> open_disk(const std::string& path) {
//     UniqueFd fd = SM_TRY(open_file(path, O_RDONLY));
//     SM_TRY_STATUS(check_size(fd));
//     return fd;
//   }
#pragma once

#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace sm {

template <class T>
using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }
inline tl::unexpected<Error> fail(Code code, std::string cause, std::string remedy = {}) {
  return tl::unexpected<Error>(Error(code, std::move(cause), std::move(remedy)));
}
inline tl::unexpected<Error> fail_errno(std::string_view what, int errno_value) {
  return tl::unexpected<Error>(Error::from_errno(what, errno_value));
}

}  // namespace sm

// Evaluates to the value, or returns the error from the enclosing function.
#define SM_TRY(expr) SM_TRY_NAMED_(SM_UNIQUE_(sm_result_), expr, )

// The same with a context in front of the cause.
#define SM_TRY_WITH(expr, context) SM_TRY_NAMED_(SM_UNIQUE_(sm_result_), expr, .with(context))

// The same for a Status.
#define SM_TRY_STATUS(expr)                                            \
  do {                                                                 \
    auto sm_status_ = (expr);                                          \
    if (!sm_status_) return ::sm::fail(std::move(sm_status_).error()); \
  } while (false)

// Each use has a variable of its own, so that uses can be nested.
#define SM_JOIN2_(a, b) a##b
#define SM_JOIN_(a, b) SM_JOIN2_(a, b)
#define SM_UNIQUE_(name) SM_JOIN_(name, __COUNTER__)
#define SM_TRY_NAMED_(name, expr, suffix)                         \
  (__extension__({                                                \
    auto name = (expr);                                           \
    if (!name) return ::sm::fail(std::move(name).error() suffix); \
    *std::move(name);                                             \
  }))
