// The files that a resume renews, as root, in a process of its own.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "agent/child.h"
#include "agent/child_status.h"
#include "agent/root_disk.h"
#include "base/file.h"
#include "common/hosts_file.h"
#include "common/root_files.h"
#include "common/runtime_files.h"

namespace sm::guest {

namespace {

using agent::MachineIdPolicy;
using agent::ResumeStep;
using agent::StepResult;

constexpr mode_t kReadOnly = 0444;

bool exists(int folder, const char* name) {
  struct stat st {};
  return ::fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

// One step is one of these; an error ends the resume.
using Step = Result<StepResult> (*)(const ResumePlan& plan, int root);

Result<UniqueFd> open_etc(int root) {
  SM_TRY_STATUS(make_folder(root, "etc", 0755));
  UniqueFd etc = open_inside(root, "etc", O_PATH | O_DIRECTORY, Mounts::kStay);
  if (!etc.valid()) return fail_errno("/etc is not a folder", errno);
  return etc;
}

Result<StepResult> write_hostname(const ResumePlan& plan, int root) {
  if (!plan.new_hostname) return StepResult::kKept;
  const UniqueFd etc = SM_TRY(open_etc(root));
  SM_TRY_STATUS(replace_file(etc.get(), "hostname", plan.hostname + "\n"));
  return StepResult::kDone;
}

Result<StepResult> write_hosts(const ResumePlan& plan, int root) {
  if (!plan.new_hostname && !plan.new_hosts) return StepResult::kKept;
  const UniqueFd etc = SM_TRY(open_etc(root));
  const auto old = read_small(root, "etc/hosts");
  if (!old) return StepResult::kSkipped;
  const std::string rest = strip_hosts(*old, plan.old_hostname, plan.old_hosts);
  SM_TRY_STATUS(replace_file(etc.get(), "hosts", complete_hosts(rest, plan.hostname, plan.hosts)));
  return StepResult::kDone;
}

Result<StepResult> write_resolver(const ResumePlan& plan, int root) {
  if (plan.dns.empty()) return StepResult::kKept;
  const UniqueFd etc = SM_TRY(open_etc(root));
  SM_TRY_STATUS(replace_file(etc.get(), "resolv.conf", resolv_conf(plan.dns)));
  return StepResult::kDone;
}

// Many images have a link to /etc/machine-id there, which then needs nothing; others have a copy.
Result<StepResult> write_dbus_id(const ResumePlan& plan, int root) {
  constexpr const char* kFolder = "var/lib/dbus";
  constexpr const char* kPath = "var/lib/dbus/machine-id";
  const UniqueFd folder = open_inside(root, kFolder, O_PATH | O_DIRECTORY, Mounts::kStay);
  if (!folder.valid() || !exists(folder.get(), "machine-id")) return StepResult::kKept;
  const std::string text = plan.machine_id + "\n";
  if (read_small(root, kPath) == text) return StepResult::kDone;
  SM_TRY_STATUS(replace_file(folder.get(), "machine-id", text, kReadOnly));
  return StepResult::kDone;
}

Result<StepResult> write_machine_id(const ResumePlan& plan, int root) {
  if (plan.machine_id_policy == MachineIdPolicy::kKeep) return StepResult::kKept;
  const UniqueFd etc = SM_TRY(open_etc(root));
  const bool wanted =
      plan.machine_id_policy == MachineIdPolicy::kSet || exists(etc.get(), "machine-id");
  if (wanted) {
    SM_TRY_STATUS(replace_file(etc.get(), "machine-id", plan.machine_id + "\n", kReadOnly));
  }
  const StepResult dbus = SM_TRY(write_dbus_id(plan, root));
  return wanted ? StepResult::kDone : dbus;
}

// Programs may trust the file only as far as nobody but root can have put it there.
bool is_roots_own(int folder) {
  struct stat st {};
  return ::fstat(folder, &st) == 0 && st.st_uid == ::geteuid() && (st.st_mode & 022) == 0;
}

// An image without a usable /run does without: a service's own /run may be a mount or anything.
Result<StepResult> write_generation(const ResumePlan& plan, int root) {
  const UniqueFd run = open_inside(root, "run", O_RDONLY | O_DIRECTORY, Mounts::kCross);
  if (!run.valid() || !make_folder(run.get(), "supermachine", 0755)) return StepResult::kSkipped;
  const UniqueFd ours(
      ::openat(run.get(), "supermachine", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!ours.valid() || !is_roots_own(ours.get())) return StepResult::kSkipped;
  const std::string text = std::to_string(plan.generation) + "\n";
  const bool written = replace_file(ours.get(), "generation", text, kReadOnly).has_value();
  return written ? StepResult::kDone : StepResult::kSkipped;
}

// The new root has had nothing of what init does with one.
Status change_root(const ResumePlan& plan) {
  SM_TRY_STATUS(switch_to_root_disk(STDIN_FILENO, plan.root_disk));
  const UniqueFd root = SM_TRY(open_file("/", O_PATH | O_DIRECTORY));
  BootConfig config;
  config.hostname = plan.hostname;
  config.hosts = plan.hosts;
  config.dns = plan.dns;
  return write_runtime_files(root.get(), config);
}

// A root that seal_root() has closed is open in a mount namespace of this process's own: the copy
// gets its names all the same, and the guest's programs get no way to write. What does not work
// shows when the files are written.
void open_sealed_root(const std::string& root) {
  struct statvfs st {};
  if (::statvfs(root.c_str(), &st) < 0 || (st.f_flag & ST_RDONLY) == 0) return;
  if (::unshare(CLONE_NEWNS) < 0) return;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return;
  if (::mount(nullptr, root.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr) < 0) return;
}

[[noreturn]] void fail_step(ResumeStep step, const Error& error) {
  fail_child(agent::ErrorKind::kResume, 0,
             std::string(agent::step_name(step)) + ": " + error.cause());
}

}  // namespace

void run_resume_child(const ResumePlan& plan, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  ::setsid();
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0);
  if (!plan.root_disk.empty()) {
    if (const auto status = change_root(plan); !status) {
      fail_child(agent::ErrorKind::kRootDisk, 0, "root disk: " + status.error().cause());
    }
  }
  open_sealed_root(plan.root);
  const auto root = open_file(plan.root, O_PATH | O_DIRECTORY);
  if (!root) fail_step(ResumeStep::kHostname, root.error());
  constexpr std::pair<ResumeStep, Step> kSteps[] = {{ResumeStep::kHostname, write_hostname},
                                                    {ResumeStep::kHosts, write_hosts},
                                                    {ResumeStep::kResolver, write_resolver},
                                                    {ResumeStep::kMachineId, write_machine_id},
                                                    {ResumeStep::kGeneration, write_generation}};
  for (const auto& [step, act] : kSteps) {
    const auto result = act(plan, root->get());
    if (!result) fail_step(step, result.error());
    report_step({step, *result});
  }
  ::_exit(0);
}

}  // namespace sm::guest
