// What runs in a child between fork and exec. Everything that touches the image's files happens
// here and not in the agent's loop: a file system of the guest's own making may block for ever.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/environment.h"
#include "proto/agent.h"

namespace sm::guest {

// A child reports on its status channel (SOCK_SEQPACKET); end of file means that it was executed.
enum class ChildReport : std::uint8_t {
  kError = 1,     // then an error report as on the wire
  kPrepared = 2,  // waits for one message before it executes
  kSize = 3,      // then u64: the file's size
  kStep = 4,      // then u8 step and u8 result of a resume
};

struct ChildDescriptors {
  int in = -1;  // -1: /dev/null
  int out = -1;
  int err = -1;
  int status = -1;
};

struct ExecPlan {
  Words argv;
  Words env;  // without the defaults that depend on the user
  std::string cwd;
  std::string user;
  std::string hostname;
  bool tty = false;
  bool create_cwd = false;
  bool wait_for_release = false;
  std::string output;  // file that standard output and error are appended to; empty: as given
  std::vector<agent::StagedFile> files;  // written first, as root
  agent::ProcessSettings settings;
  std::optional<agent::MachineSettings> machine;  // made true first; the main workload only
};

// What a resume changes in the files of the machine. Holds no secret.
struct ResumePlan {
  std::string root = "/";
  std::uint32_t generation = 0;
  std::string hostname;      // the new one
  std::string old_hostname;  // as /etc/hosts has it
  bool new_hostname = false;
  std::vector<HostEntry> hosts;      // all that stand in /etc/hosts afterwards
  std::vector<HostEntry> old_hosts;  // those that stand there now
  bool new_hosts = false;
  std::vector<std::string> dns;
  agent::MachineIdPolicy machine_id_policy = agent::MachineIdPolicy::kKeep;
  std::string machine_id;
  // The serial of the disk that becomes the root's before all that; empty: the root stays. Standard
  // input is then the folder of the layers.
  std::string root_disk;
};

// Folders that are missing are made, 0755 as far as the umask lets; what fails shows itself later.
void make_folders(const std::string& path);
// Writes the files as a write request would; the first failure ends the child with its report.
void stage_files(const std::vector<agent::StagedFile>& files);
[[noreturn]] void run_exec_child(const ExecPlan& plan, const ChildDescriptors& descriptors);
[[noreturn]] void run_read_child(const std::string& path, const ChildDescriptors& descriptors);
[[noreturn]] void run_write_child(const agent::FileRequest& request,
                                  const ChildDescriptors& descriptors);
[[noreturn]] void run_resume_child(const ResumePlan& plan, const ChildDescriptors& descriptors);

}  // namespace sm::guest
