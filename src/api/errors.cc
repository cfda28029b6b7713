#include "api/errors.h"

#include <array>

namespace supermachine {

namespace {

constexpr std::array<std::string_view, 20> kNames = {"",
                                                     "invalid-argument",
                                                     "invalid-state",
                                                     "not-found",
                                                     "permission",
                                                     "image-invalid",
                                                     "unsupported",
                                                     "limit",
                                                     "io",
                                                     "timeout",
                                                     "start-failed",
                                                     "start-timeout",
                                                     "acquire-timeout",
                                                     "exec-not-found",
                                                     "exec-denied",
                                                     "connect-failed",
                                                     "vm-gone",
                                                     "closed",
                                                     "internal",
                                                     "bake-failed"};

ErrorCode special(sm::Code code, Operation operation, ErrorCode otherwise) {
  using sm::Code;
  switch (operation) {
    case Operation::kImage:
      return code == Code::kCorrupt ? ErrorCode::kImageInvalid : otherwise;
    case Operation::kStart:
      if (code == Code::kTimeout) return ErrorCode::kStartTimeout;
      if (code == Code::kCorrupt) return ErrorCode::kImageInvalid;
      return code == Code::kGone ? ErrorCode::kClosed : otherwise;
    case Operation::kAcquire:
      if (code == Code::kTimeout) return ErrorCode::kAcquireTimeout;
      if (code == Code::kCorrupt) return ErrorCode::kImageInvalid;
      return code == Code::kGone ? ErrorCode::kClosed : otherwise;
    case Operation::kExec:
      if (code == Code::kNotFound) return ErrorCode::kExecNotFound;
      return code == Code::kPermission ? ErrorCode::kExecDenied : otherwise;
    case Operation::kConnect:
      return code == Code::kIo ? ErrorCode::kConnectFailed : otherwise;
    case Operation::kSnapshot:
      return code == Code::kCorrupt ? ErrorCode::kImageInvalid : otherwise;
    case Operation::kBake:
      if (code == Code::kGuest) return ErrorCode::kBakeFailed;
      if (code == Code::kNotFound) return ErrorCode::kExecNotFound;
      return code == Code::kCorrupt ? ErrorCode::kImageInvalid : otherwise;
    case Operation::kFile:
    case Operation::kOther:
      break;
  }
  return otherwise;
}

ErrorCode general(sm::Code code) {
  switch (code) {
    case sm::Code::kInvalidArgument:
      return ErrorCode::kInvalidArgument;
    case sm::Code::kNotFound:
      return ErrorCode::kNotFound;
    case sm::Code::kPermission:
      return ErrorCode::kPermission;
    case sm::Code::kLimit:
      return ErrorCode::kLimit;
    case sm::Code::kUnsupported:
      return ErrorCode::kUnsupported;
    case sm::Code::kCorrupt:
    case sm::Code::kIo:
      return ErrorCode::kIo;
    case sm::Code::kTimeout:
      return ErrorCode::kTimeout;
    case sm::Code::kGone:
      return ErrorCode::kVmGone;
    case sm::Code::kGuest:
      return ErrorCode::kStartFailed;
    case sm::Code::kInternal:
      break;
  }
  return ErrorCode::kInternal;
}

}  // namespace

std::string_view error_code_name(ErrorCode code) {
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : std::string_view();
}

Error to_public(const sm::Error& error, Operation operation) {
  return Error(special(error.code(), operation, general(error.code())), error.cause(),
               error.remedy());
}

}  // namespace supermachine
