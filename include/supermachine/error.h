// Error and Result<T>: how every function of the library reports failure. The library throws
// nothing; Result::value() does, in the caller's own code, for programs that like exceptions.
//
//   auto vm = image->start();
//   if (!vm) return complain(vm.error().text());
//   vm->run({"true"});
#pragma once

#include <supermachine/export.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace supermachine {

// What kind of thing went wrong. Closed within a major version of the library; compare this, never
// texts. The numbers are those of the C interface.
enum class ErrorCode : int {
  kInvalidArgument = 1,  // the caller's input is not usable as it stands
  kInvalidState = 2,     // not now, such as a blocking call on the library's thread
  kNotFound = 3,         // a file, image, tag, user or folder does not exist
  kPermission = 4,       // the host or the guest's file system refused
  kImageInvalid = 5,     // the image contradicts itself or its digests
  kUnsupported = 6,      // well-formed, but this version or host cannot do it
  kLimit = 7,            // more than the documented limit, or than the host has memory for
  kIo = 8,               // a file system, socket or process of host or guest failed
  kTimeout = 9,          // a deadline that is not one of the following passed
  kStartFailed = 10,     // the VM did not come up; the text has its console's last lines
  kStartTimeout = 11,    // it did not come up in time
  kAcquireTimeout = 12,  // no VM of the pool became free in time
  kExecNotFound = 13,    // the guest has no such program
  kExecDenied = 14,      // the program exists but cannot be executed
  kConnectFailed = 15,   // nothing answers on that port of the guest
  kVmGone = 16,          // the VM has ended, or was stopped
  kClosed = 17,          // the context or the pool is closed
  kInternal = 18,        // the library's own mistake
  kBakeFailed = 19,      // a command ended too early or failed; the text has its last output
};
// "not-found": stable, for logs.
SUPERMACHINE_API std::string_view error_code_name(ErrorCode code);

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string cause, std::string remedy = {})
      : code_(code), cause_(std::move(cause)), remedy_(std::move(remedy)) {}

  ErrorCode code() const { return code_; }
  // One sentence for people that names the object.
  const std::string& cause() const { return cause_; }
  // What to do about it; may be empty.
  const std::string& remedy() const { return remedy_; }
  // "cause (remedy)".
  std::string text() const { return remedy_.empty() ? cause_ : cause_ + " (" + remedy_ + ")"; }

 private:
  ErrorCode code_;
  std::string cause_;
  std::string remedy_;
};

// What Result::value() throws.
class Failure : public std::runtime_error {
 public:
  explicit Failure(Error error) : std::runtime_error(error.text()), error_(std::move(error)) {}
  const Error& error() const { return error_; }

 private:
  Error error_;
};

// A T or an Error. Reading the one that is not there is undefined, but for value(), which throws.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Error error) : error_(std::move(error)) {}

  explicit operator bool() const { return value_.has_value(); }
  bool has_value() const { return value_.has_value(); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  const Error& error() const { return *error_; }

  T& value() & { return check(), *value_; }
  const T& value() const& { return check(), *value_; }
  T&& value() && { return check(), std::move(*value_); }

 private:
  void check() const {
    if (!value_) throw Failure(*error_);
  }
  std::optional<T> value_;
  std::optional<Error> error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  explicit operator bool() const { return !error_; }
  bool has_value() const { return !error_; }
  const Error& error() const { return *error_; }
  void value() const {
    if (error_) throw Failure(*error_);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace supermachine
