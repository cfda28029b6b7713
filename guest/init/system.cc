#include "init/system.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {

bool write_sysctl(std::string_view name, std::string_view value) {
  const auto fd = open_file("/proc/sys/" + std::string(name), O_WRONLY);
  return fd && write_all(fd->get(), as_byte_span(value)).has_value();
}

Status apply_system_settings(const BootConfig& config) {
  // Ping without privileges for every group, and low ports for every user, as containers have it.
  write_sysctl("net/ipv4/ping_group_range", "0 2147483647");
  write_sysctl("net/ipv4/ip_unprivileged_port_start", "0");
  // Inherited by the agent and everything it starts.
  constexpr rlim_t kMany = 1048576;
  for (const auto resource : {RLIMIT_NOFILE, RLIMIT_NPROC}) {
    const rlimit limit{kMany, kMany};
    if (::setrlimit(resource, &limit) < 0) return fail_errno("setrlimit", errno);
  }
  if (::sethostname(config.hostname.data(), config.hostname.size()) < 0) {
    return fail_errno("sethostname", errno);
  }
  return {};
}

}  // namespace sm::guest
