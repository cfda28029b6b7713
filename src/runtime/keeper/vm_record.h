// VmRecord: what is known of one VM, from its creation until `rm`: the content of its record.json.
// Encoding and parsing only; see vm_registry.h for the files. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

enum class VmState : std::uint8_t { kCreated, kRunning, kPaused, kRestarting, kExited };
std::string_view vm_state_text(VmState state);
// Somebody must hold the record's lock in this state.
bool is_live(VmState state);

struct PortBinding {
  std::string ip = "127.0.0.1";
  std::uint16_t host = 0;  // 0: none, while the VM does not run
  std::uint16_t guest = 0;
  bool any = false;         // the port of the host is one that is free, another at each start
  std::uint16_t first = 0;  // ... of those from here
  std::uint16_t last = 0;   // to here; 0: of all
};

enum class RestartKind : std::uint8_t { kNo, kOnFailure, kAlways, kUnlessStopped };
struct RestartPolicy {
  RestartKind kind = RestartKind::kNo;
  std::uint32_t most = 0;  // restarts of kOnFailure; 0: any number
};
std::string restart_text(const RestartPolicy& policy);
// "no", "on-failure[:N]", "always", "unless-stopped".
Result<RestartPolicy> parse_restart(const std::string& text);

struct VmRecord {
  std::string id;  // 64 hexadecimal digits
  std::string name;
  std::string image;         // as the user named it
  std::string image_digest;  // "sha256:..."
  std::vector<std::string> command;
  std::map<std::string, std::string> labels;
  std::vector<PortBinding> ports;
  bool detached = false;
  bool tty = false;
  bool interactive = false;
  bool auto_remove = false;
  bool has_disk = false;         // what it writes to its root is kept (root_disk.h)
  std::uint64_t disk_bytes = 0;  // how large that looks to the guest; 0: the usual size
  RestartPolicy restart;
  int stop_signal = 15;
  std::uint32_t stop_timeout_s = 10;
  std::uint64_t memory_bytes = 0;
  std::uint32_t cpus = 1;
  std::string engine;

  VmState state = VmState::kCreated;
  std::int64_t created_ns = 0;  // since 1970, as all times here; 0: never
  std::int64_t started_ns = 0;
  std::int64_t finished_ns = 0;
  int exit_code = 0;
  std::string error;  // why there is no exit status of the command
  std::uint32_t restarts = 0;
  bool stopped = false;               // by the user: no restart
  std::string health;                 // "", "starting", "healthy", "unhealthy"
  std::uint32_t health_failures = 0;  // in a row
  pid_t keeper_pid = 0;               // while it lives, from before the start
  pid_t worker_pid = 0;
  std::string exec_socket;
  std::string keeper_socket;

  // What `start` begins again from: the words behind `run`, the folder they were typed in, and the
  // request for the agent as it was (a whole frame). Any bytes: hexadecimal digits in the file.
  std::vector<std::string> words;
  std::string folder;
  std::string request;

  // Not stored: the record says that the VM lives, but nobody holds its lock.
  bool lost = false;
};

// Somebody must hold the record's lock: the VM lives or is about to start.
bool is_kept(const VmRecord& record);

inline constexpr std::size_t kMaxRecord = 16u << 20;

std::string encode_record(const VmRecord& record);
// kLimit, kCorrupt; kUnsupported for a version of the future. `what` names the file in the error.
Result<VmRecord> parse_record(std::string_view text, std::string_view what);

// CLOCK_REALTIME.
std::int64_t unix_now_ns();
// "2026-01-31T12:00:00.123456789Z"
std::string rfc3339(std::int64_t ns);

std::string to_hex(std::string_view bytes);
Result<std::string> from_hex(std::string_view text);

}  // namespace sm
