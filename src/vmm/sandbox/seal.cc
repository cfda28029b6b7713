#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vmm/sandbox/sandbox.h"
#include "vmm/sandbox/syscall_filter.h"
#include "vmm/sandbox/violation.h"

namespace sm::sandbox {

namespace {

// The VM's own descriptors and the most connections that the vsock device takes, with room to
// spare.
constexpr rlim_t kMaxDescriptors = 2048;

Status limit(decltype(RLIMIT_CORE) what, rlim_t value) {
  rlimit now{};
  if (::getrlimit(what, &now) != 0) return fail_errno("sandbox: getrlimit", errno);
  now.rlim_max = std::min(now.rlim_max, value);
  now.rlim_cur = std::min(now.rlim_cur, value);
  if (::setrlimit(what, &now) != 0) return fail_errno("sandbox: setrlimit", errno);
  return {};
}

tl::unexpected<Error> unsupported(std::string cause) {
  return fail(Code::kUnsupported, std::move(cause),
              "use a kernel with CONFIG_SECCOMP_FILTER, or run without the sandbox (--no-sandbox)");
}

}  // namespace

Result<std::string> supported() {
  const std::uint32_t trap = SECCOMP_RET_TRAP;
  if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &trap) != 0) {
    return unsupported("this kernel cannot filter system calls");
  }
  const long version = landlock_version();
  if (version < 1) return std::string("system call filter; no Landlock in this kernel");
  return "system call filter, Landlock " + std::to_string(version);
}

Status seal(const SealOptions& options) {
  SM_TRY(supported());
  SM_TRY_STATUS(limit(RLIMIT_CORE, 0));
  SM_TRY_STATUS(limit(RLIMIT_NOFILE, kMaxDescriptors));
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("sandbox: dumpable", errno);
  SM_TRY_STATUS(install_violation_handler());
  return install_filter(options);
}

}  // namespace sm::sandbox
