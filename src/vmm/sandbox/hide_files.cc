#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"
#include "vmm/sandbox/descriptors.h"
#include "vmm/sandbox/sandbox.h"

namespace sm::sandbox {

namespace {

constexpr const char* kKvmDevice = "/dev/kvm";

// Everything that the first version of Landlock knows; reading and writing are among it.
constexpr std::uint64_t kAllRights =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM;
constexpr std::uint64_t kUseDevice = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
constexpr std::uint64_t kKeepSocket = LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;

Status allow(int ruleset, const std::string& path, std::uint64_t rights) {
  const UniqueFd at = SM_TRY(open_file(path, O_PATH));
  landlock_path_beneath_attr rule{};
  rule.allowed_access = rights;
  rule.parent_fd = at.get();
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return fail_errno("sandbox: allow " + path, errno);
  }
  return {};
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// One heap for all threads: with several, the C library opens files (to count processors, to learn
// about overcommitment) at moments of its own choice. Nothing on a hot path allocates.
void limit_heaps() { ::mallopt(M_ARENA_MAX, 1); }

// A user other than root has none; with none, root owns its files and no more.
Status drop_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  if (::syscall(SYS_capset, &header, none.data()) != 0) {
    return fail_errno("sandbox: drop capabilities", errno);
  }
  return {};
}

}  // namespace

// The C library of Debian 12 has no functions for Landlock.
long landlock_version() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

Result<Landlock> hide_files(const std::string& socket_path) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno("sandbox: no_new_privs", errno);
  }
  limit_heaps();
  SM_TRY_STATUS(close_inherited());
  SM_TRY_STATUS(drop_capabilities());
  if (landlock_version() < 1) return Landlock::kAbsent;
  const landlock_ruleset_attr attributes{.handled_access_fs = kAllRights};
  const UniqueFd ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0)));
  if (!ruleset.valid()) return fail_errno("sandbox: Landlock", errno);
  if (::access(kKvmDevice, F_OK) == 0) {
    SM_TRY_STATUS(allow(ruleset.get(), kKvmDevice, kUseDevice));
  }
  if (!socket_path.empty()) {
    SM_TRY_STATUS(allow(ruleset.get(), folder_of(socket_path), kKeepSocket));
  }
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return fail_errno("sandbox: Landlock", errno);
  }
  return Landlock::kActive;
}

}  // namespace sm::sandbox
