// What is said on the control socket of a VM's keeper: u32 length, then that many bytes of JSON
// with a version, at most kMaxKeeperMessage. One request per connection, one reply. After the reply
// to kAttach the connection speaks the agent protocol, the keeper in the place of the agent.
// docs/reference/vm-lifecycle.md describes it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace sm {

inline constexpr std::uint64_t kKeeperVersion = 1;
inline constexpr std::size_t kMaxKeeperMessage = 1u << 20;

enum class KeeperVerb : std::uint8_t {
  kStop,  // signal (0: the VM's own), seconds (none: the VM's own); replied to at the end
  kKill,  // signal
  kPause,
  kUnpause,
  kWait,  // replied to when the VM is over for good: not at the end of a run that another follows
  kStats,
  kRename,  // text: the new name
  kAttach,
  kExec,     // text: an exec frame; runs on without anybody who listens
  kStarted,  // replied to when the command runs, or has failed to start: with the error
  kSave,     // text: absolute path of the new snapshot; replace. Replied to when it is on disk
};

struct KeeperRequest {
  KeeperVerb verb = KeeperVerb::kWait;
  int signal = 0;
  std::optional<std::uint32_t> seconds;
  std::string text;      // any bytes
  bool replace = false;  // kSave: a snapshot that is there
};

// Since the VM's start.
struct KeeperStats {
  std::uint64_t cpu_ns = 0;
  std::uint64_t memory_bytes = 0;  // resident
  std::uint64_t memory_limit = 0;  // of the guest
  std::uint64_t read_bytes = 0;    // by system calls
  std::uint64_t write_bytes = 0;
  std::uint64_t processes = 0;  // threads of the worker
};

struct KeeperReply {
  std::optional<Error> error;
  int status = 0;  // kStop, kWait: of the command
  KeeperStats stats;
  // kSave: bytes of guest memory that were written, and for how long the guest stood still.
  std::uint64_t saved_bytes = 0;
  std::uint64_t pause_ns = 0;
};

// Whole messages, length included.
std::vector<std::byte> encode_request(const KeeperRequest& request);
std::vector<std::byte> encode_reply(const KeeperReply& reply);
// One body. kCorrupt, kLimit, or kUnsupported for another version.
Result<KeeperRequest> decode_request(std::span<const std::byte> body);
Result<KeeperReply> decode_reply(std::span<const std::byte> body);

// The first message of `buffer`, which it is cut from; nothing while it is not complete. kLimit.
Result<std::optional<std::vector<std::byte>>> take_message(std::vector<std::byte>& buffer);

}  // namespace sm
