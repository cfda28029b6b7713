// The settings of the machine: its names, mounts, kernel settings and the limit of its processes.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "agent/child_status.h"
#include "agent/container_child.h"
#include "base/bytes.h"
#include "base/file.h"
#include "common/name_files.h"
#include "common/root_files.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;
using agent::MachineSettings;
using agent::TmpfsMount;

constexpr const char* kCgroups = "/sys/fs/cgroup";
constexpr const char* kShm = "/dev/shm";

[[noreturn]] void fail_setting(int error, const std::string& what) {
  fail_child(ErrorKind::kSetting, error, what);
}

// A kernel file takes its text in one write.
int write_kernel_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return errno;
  return ::write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

Status write_names(const MachineSettings& s, const std::string& hostname) {
  const bool hosts = !s.hosts.empty() || !s.domainname.empty();
  const bool resolver = !s.dns.empty() || !s.dns_search.empty() || !s.dns_options.empty();
  if (!hosts && !resolver) return {};
  const UniqueFd root = SM_TRY(open_file("/", O_PATH | O_DIRECTORY));
  return write_name_files(root.get(), s, hostname);
}

void set_names(const MachineSettings& s, const std::string& hostname) {
  if (!s.domainname.empty() && ::setdomainname(s.domainname.data(), s.domainname.size()) < 0) {
    fail_setting(errno, "domain name " + s.domainname);
  }
  if (const auto status = write_names(s, hostname); !status) {
    fail_setting(0, status.error().cause());
  }
}

unsigned long mount_flags(std::uint32_t flags) {
  constexpr std::pair<std::uint32_t, unsigned long> kFlags[] = {
      {agent::kTmpfsReadOnly, MS_RDONLY}, {agent::kTmpfsNoExec, MS_NOEXEC},
      {agent::kTmpfsNoSuid, MS_NOSUID},   {agent::kTmpfsNoDev, MS_NODEV},
      {agent::kTmpfsNoAtime, MS_NOATIME}, {agent::kTmpfsSync, MS_SYNCHRONOUS}};
  unsigned long out = 0;
  for (const auto& [ours, theirs] : kFlags) {
    if ((flags & ours) != 0) out |= theirs;
  }
  return out;
}

// The folder below takes its mode along unless the options give one, as Docker has it; a folder
// that is made for the mount gets what the kernel gives a tmpfs: 1777.
void mount_tmpfs(const TmpfsMount& mount) {
  struct stat st {};
  const bool there = ::stat(mount.path.c_str(), &st) == 0;
  std::string options = mount.options;
  if (there && ("," + options).find(",mode=") == std::string::npos) {
    char mode[32];
    ::snprintf(mode, sizeof(mode), "%smode=%o", options.empty() ? "" : ",", st.st_mode & 07777);
    options += mode;
  }
  if (!there) make_folders(mount.path);
  if (::mount("tmpfs", mount.path.c_str(), "tmpfs", mount_flags(mount.flags), options.c_str()) <
      0) {
    fail_setting(errno, "tmpfs on " + mount.path);
  }
}

void resize_shm(std::uint64_t bytes) {
  const std::string options = "size=" + std::to_string(bytes);
  constexpr unsigned long kFlags = MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (::mount("shm", kShm, "tmpfs", kFlags, options.c_str()) < 0) {
    fail_setting(errno, "size of " + std::string(kShm));
  }
}

// The limit stands above the cgroups of all programs. Not at the top, which has none.
void limit_processes(std::uint64_t most) {
  const std::string base = kCgroups;
  int error = write_kernel_file(base + "/cgroup.subtree_control", "+pids");
  if (error == 0) {
    error = write_kernel_file(base + "/supermachine/pids.max", std::to_string(most));
  }
  if (error != 0) fail_setting(error, "limit of processes");
}

}  // namespace

void prepare_machine(const MachineSettings& s, const std::string& hostname) {
  set_names(s, hostname);
  for (const auto& [name, value] : s.sysctls) {
    const int error = write_kernel_file("/proc/sys/" + name, value);
    if (error != 0) fail_setting(error, "kernel setting " + name + " = " + value);
  }
  if (s.max_pids != 0) limit_processes(s.max_pids);
  // Last, since a mount may cover anything.
  if (s.shm_bytes != 0) resize_shm(s.shm_bytes);
  for (const TmpfsMount& mount : s.tmpfs) mount_tmpfs(mount);
}

// The mount and not the file system: what lies above it, /dev and the tmpfs, stays as it is.
void seal_root(const MachineSettings& s) {
  if (!s.read_only_root) return;
  if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) < 0) {
    fail_setting(errno, "read-only root");
  }
}

}  // namespace sm::guest
