#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace sm {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "invalid-argument";
    case Code::kNotFound:
      return "not-found";
    case Code::kPermission:
      return "permission";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kLimit:
      return "limit";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kIo:
      return "io";
    case Code::kTimeout:
      return "timeout";
    case Code::kGone:
      return "gone";
    case Code::kGuest:
      return "guest";
    case Code::kInternal:
      return "internal";
  }
  return "unknown";
}

namespace {

Code code_of_errno(int e) {
  switch (e) {
    case ENOENT:
    case ENOTDIR:
      return Code::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::kPermission;
    case ETIMEDOUT:
      return Code::kTimeout;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
      return Code::kGone;
    default:
      return Code::kIo;
  }
}

}  // namespace

Error Error::from_errno(std::string_view what, int errno_value) {
  char buffer[128] = {};
  // The GNU form returns the text, which need not be in the buffer.
  const char* text = ::strerror_r(errno_value, buffer, sizeof(buffer));
  return {code_of_errno(errno_value), std::string(what) + ": " + text};
}

Error Error::with(std::string_view context) && {
  cause_ = std::string(context) + ": " + cause_;
  return std::move(*this);
}

Error Error::or_remedy(std::string_view remedy) && {
  if (remedy_.empty()) remedy_ = remedy;
  return std::move(*this);
}

std::string Error::text() const { return remedy_.empty() ? cause_ : cause_ + " (" + remedy_ + ")"; }

}  // namespace sm
