// The control protocol between a worker (one VM) and the process that started it, over an inherited
// stream socket: u32 length, then that many bytes of JSON, at most kMaxMessage. Both sides say
// hello first; a different version ends the connection. See docs/reference/control-protocol.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"

namespace sm::control {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kMaxMessage = 64u << 10;

struct Hello {
  std::uint32_t version = kVersion;
  std::string program;  // "supermachine-worker 0.1.0": for people
};

enum class EventName : std::uint8_t {
  kStarted,        // worker: the vCPUs run
  kBooted,         // guest: init's first instructions
  kAgentReady,     // guest: exec connections are accepted now
  kWorkloadStart,  // guest: the workload is about to be executed
  kWorkloadExit,   // guest: it ended; argument = exit status
  kFatal,          // guest: it cannot go on; argument = doorbell::Fatal
  kImageAwaited,   // guest: it has done what needs no image; its disks come now
  kStopped,        // worker: every thread is joined; the last message of a normal end
};
std::string_view event_text(EventName name);

// Worker -> parent. at_ns: CLOCK_MONOTONIC at the moment it happened.
struct Event {
  EventName name = EventName::kStarted;
  std::uint32_t argument = 0;
  std::uint64_t at_ns = 0;
};

// Worker -> parent: it cannot go on and ends.
struct Failure {
  std::string code;
  std::string cause;
  std::string remedy;
};

// Parent -> worker: stop the VM now.
struct Stop {};

// Parent -> worker that waits for it (--pool-worker): go on from a snapshot, as if these were the
// worker's command line. Once; kStarted or Failure follows.
struct RestoreRequest {
  std::vector<std::string> arguments;
};

// Parent -> worker: save the machine. Answered by Done or Refused with the same id. The guest
// stands still while it is saved and goes on afterwards.
struct SnapshotRequest {
  std::uint64_t id = 0;
  bool changed_only = false;  // a diff against the snapshot that this VM was restored from
  // Empty: the message carries two descriptors (kSnapshotDescriptors) to be written, an empty file
  // of the memory's size and one for the CaptureRecord. Else the worker writes the snapshot of that
  // absolute path by itself, which its sandbox does not allow.
  std::string path;
  bool replace = false;  // an existing snapshot at `path`
  // A third descriptor: a file of the size of the disk that the guest may write to, all holes,
  // which gets what is on it. Only with an empty `path`.
  bool disk = false;
};
inline constexpr std::size_t kSnapshotDescriptors = 2;  // and one more with `disk`

// Parent -> worker: takes the guest off the CPU, or lets it go on. Answered likewise.
struct PauseRequest {
  std::uint64_t id = 0;
  bool pause = true;
};

// Worker -> parent.
struct Done {
  std::uint64_t id = 0;
  std::uint64_t pause_ns = 0;  // how long the guest stood still
  std::uint64_t bytes = 0;     // of guest memory written
};
struct Refused {
  std::uint64_t id = 0;
  Failure why;
};

// The id of the answer to the snapshot that the worker's flags asked for.
inline constexpr std::uint64_t kTriggeredSnapshot = 0;

// Parent -> worker: send Stats.
struct GetStats {};

// Worker -> parent: what each vCPU has done so far, by name. Which names there are depends on the
// engine.
struct Stats {
  std::vector<std::map<std::string, std::uint64_t>> vcpus;
};

using Message = std::variant<Hello, Event, Failure, Stop, RestoreRequest, SnapshotRequest,
                             PauseRequest, Done, Refused, GetStats, Stats>;

// The body of a message as the JSON text that is sent.
std::string text_of(const Message& message);

// A whole message, length included.
std::vector<std::byte> encode(const Message& message);
// One message body. kCorrupt, kUnsupported (version) or kLimit.
Result<Message> decode(std::span<const std::byte> body);

// Cuts a byte stream into messages.
class MessageParser {
 public:
  void feed(std::span<const std::byte> bytes);
  Result<std::optional<Message>> next();

 private:
  std::vector<std::byte> buffer_;
};

}  // namespace sm::control
