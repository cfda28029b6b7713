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
#define SM_TRY(expr)                                                   \
  (__extension__({                                                     \
    auto sm_result_ = (expr);                                          \
    if (!sm_result_) return ::sm::fail(std::move(sm_result_).error()); \
    *std::move(sm_result_);                                            \
  }))

// The same for a Status.
#define SM_TRY_STATUS(expr)                                            \
  do {                                                                 \
    auto sm_status_ = (expr);                                          \
    if (!sm_status_) return ::sm::fail(std::move(sm_status_).error()); \
  } while (false)

// The same with a context in front of the cause.
#define SM_TRY_WITH(expr, context)                                                   \
  (__extension__({                                                                   \
    auto sm_result_ = (expr);                                                        \
    if (!sm_result_) return ::sm::fail(std::move(sm_result_).error().with(context)); \
    *std::move(sm_result_);                                                          \
  }))
