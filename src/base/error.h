// The project's one error value: a closed code for programs, a cause and a remedy for people.
// Errors travel as values (base/result.h); nothing in src/ throws. Freestanding: usable in guest/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace sm {

// What kind of thing went wrong. Never compare texts; compare this.
enum class Code : std::uint8_t {
  kInvalidArgument,  // the caller's input is not usable as it stands
  kNotFound,         // a file, image, tag or program does not exist
  kPermission,       // the host refused
  kCorrupt,          // untrusted bytes contradict themselves or their digest
  kLimit,            // untrusted bytes ask for more than the documented limit
  kUnsupported,      // well-formed, but this version cannot do it
  kIo,               // the host's file system, socket or ioctl failed
  kTimeout,          // a deadline passed
  kGone,             // the peer (worker, guest, agent) ended
  kGuest,            // the guest misbehaved or failed to start
  kInternal,         // our own mistake
};

std::string_view code_name(Code code);

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string cause, std::string remedy = {})
      : code_(code), cause_(std::move(cause)), remedy_(std::move(remedy)) {}

  // An error whose cause ends with errno's text. `what` names the operation and its object.
  static Error from_errno(std::string_view what, int errno_value);

  Code code() const { return code_; }
  const std::string& cause() const { return cause_; }
  const std::string& remedy() const { return remedy_; }

  // The same error seen one layer up: "context: cause".
  Error with(std::string_view context) &&;
  // The same error with a remedy, unless a lower layer already gave a more precise one.
  Error or_remedy(std::string_view remedy) &&;

  // "cause (remedy)" on one line, for logs.
  std::string text() const;

 private:
  Code code_;
  std::string cause_;
  std::string remedy_;
};

}  // namespace sm
