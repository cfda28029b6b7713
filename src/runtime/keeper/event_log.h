// EventLog: what happens to VMs, one JSON object per line in STATE/events, kept in two files of
// kMaxEvents bytes at most. Any process appends.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/keeper/vm_record.h"

namespace sm {

struct VmEvent {
  std::int64_t at_ns = 0;
  std::string action;  // "create", "start", "die", "kill", "pause", "unpause", "rename", "destroy"
  std::string id;
  std::string name;
  std::string image;
  int exit_code = 0;  // of "die"
};

class EventLog {
 public:
  static constexpr std::uint64_t kMaxEvents = 1u << 20;

  explicit EventLog(const std::string& state_folder, std::uint64_t max_events = kMaxEvents)
      : path_(state_folder + "/events"), max_events_(max_events) {}
  // What cannot be written is not: nothing depends on it.
  void add(const VmRecord& record, const std::string& action) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::uint64_t max_events_;
};

// Reads the events from the oldest that is kept, and on while they grow: nothing is missed as long
// as the file is not renamed more than twice between two calls. Thread: one.
class EventReader {
 public:
  explicit EventReader(std::string path) : path_(std::move(path)) {}
  // Calls `take` for each event that is there and was not seen yet.
  Status read(const std::function<void(const VmEvent&)>& take);

 private:
  void read_file(UniqueFd& fd, const std::function<void(const VmEvent&)>& take);

  std::string path_;
  UniqueFd fd_;
  std::string rest_;  // of a line that is not complete yet
};

std::string encode_event(const VmEvent& event);
// One line. kCorrupt.
Result<VmEvent> parse_event(std::string_view line);

}  // namespace sm
