// The settings of a program: limits, capabilities, no new privileges.

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "agent/child_status.h"
#include "agent/container_child.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;

[[noreturn]] void fail_setting(int error, const std::string& what) {
  fail_child(ErrorKind::kSetting, error, what);
}

rlim_t limit_of(std::uint64_t value) {
  return value == agent::kUnlimited ? RLIM_INFINITY : static_cast<rlim_t>(value);
}

void set_limit(const agent::Ulimit& ulimit) {
  const rlimit limit{limit_of(ulimit.soft), limit_of(ulimit.hard)};
  if (::setrlimit(static_cast<__rlimit_resource_t>(ulimit.resource), &limit) < 0) {
    fail_setting(errno, "limit of " + std::string(agent::resource_name(ulimit.resource)));
  }
}

// Nothing outside the set comes back, not even through setuid programs and file capabilities.
void bound_capabilities(std::uint64_t set) {
  for (int number = 0; number <= agent::kLastCapability; ++number) {
    if ((set >> number & 1) != 0) continue;
    // EINVAL: this kernel does not have it.
    if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0 && errno != EINVAL) {
      fail_setting(errno, "capability " + std::to_string(number));
    }
  }
}

// Permitted and effective the set, inheritable none, which clears the ambient set as well: what
// Docker gives root. The program of another user starts without any, so there is nothing to set.
void set_capabilities(std::uint64_t set) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) < 0) fail_setting(errno, "capabilities");
  for (int half = 0; half < 2; ++half) {
    data[half].permitted &= static_cast<std::uint32_t>(set >> (32 * half));
    data[half].effective = data[half].permitted;
    data[half].inheritable = 0;
  }
  if (::syscall(SYS_capset, &header, data) < 0) fail_setting(errno, "capabilities");
}

}  // namespace

void limit_process(const agent::ProcessSettings& settings) {
  for (const agent::Ulimit& ulimit : settings.ulimits) set_limit(ulimit);
  if (settings.capabilities) bound_capabilities(*settings.capabilities);
}

void give_up_privileges(const agent::ProcessSettings& settings, uid_t uid) {
  if (settings.capabilities && uid == 0) set_capabilities(*settings.capabilities);
  if (settings.no_new_privileges && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    fail_setting(errno, "no new privileges");
  }
}

}  // namespace sm::guest
