// The flags of `run` and `create` that concern the VM's life: its name, its record, its ports, its
// end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "runtime/keeper/vm_record.h"
#include "runtime/run_image.h"

namespace sm {

struct KeepFlags {
  bool detach = false;
  bool remove = false;
  std::string name;
  std::string cidfile;
  std::vector<std::string> labels;
  std::vector<std::string> label_files;
  std::vector<std::string> ports;
  bool all_ports = false;
  std::string restart = "no";
  std::string stop_signal;
  std::optional<std::uint32_t> stop_timeout;
  std::vector<std::string> storage;  // size=SIZE
};

// `detach`: with -d.
void add_keep_flags(Command& command, KeepFlags& flags, bool detach);

void add_health_flags(Command& command, HealthFlags& flags);

// What can be said before the image is there: kInvalidArgument.
Status check_keep_flags(const KeepFlags& flags);

// The record of a VM that is to run this. `words` are those behind `run`.
Result<VmRecord> make_record(const KeepFlags& flags, const PreparedRun& run,
                             std::vector<std::string> words);

}  // namespace sm
