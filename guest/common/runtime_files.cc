#include "common/runtime_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "common/hosts_file.h"
#include "common/root_files.h"

namespace sm::guest {

Status write_runtime_files(int root, const BootConfig& config) {
  SM_TRY_STATUS(make_folder(root, "etc", 0755));
  SM_TRY_STATUS(make_folder(root, "run", 0755));
  SM_TRY_STATUS(make_folder(root, "tmp", 01777));
  const UniqueFd etc = open_inside(root, "etc", O_PATH | O_DIRECTORY, Mounts::kStay);
  if (!etc.valid()) return fail_errno("the image's /etc is not a folder", errno);
  if (const auto hosts = read_small(root, "etc/hosts")) {
    SM_TRY_STATUS(
        replace_file(etc.get(), "hosts", complete_hosts(*hosts, config.hostname, config.hosts)));
  }
  SM_TRY_STATUS(replace_file(etc.get(), "hostname", config.hostname + "\n"));
  if (!config.dns.empty()) {
    SM_TRY_STATUS(replace_file(etc.get(), "resolv.conf", resolv_conf(config.dns)));
  }
  if (::symlinkat("/proc/mounts", etc.get(), "mtab") < 0 && errno != EEXIST) {
    return fail_errno("symlink /etc/mtab", errno);
  }
  return {};
}

}  // namespace sm::guest
