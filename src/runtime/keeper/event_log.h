// EventLog: what happens to VMs, one JSON object per line in STATE/events, kept in two files of
// kMaxEvents bytes at most. Any process appends.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
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

  explicit EventLog(const std::string& state_folder) : path_(state_folder + "/events") {}
  // What cannot be written is not: nothing depends on it.
  void add(const VmRecord& record, const std::string& action) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string encode_event(const VmEvent& event);
// One line. kCorrupt.
Result<VmEvent> parse_event(std::string_view line);

}  // namespace sm
