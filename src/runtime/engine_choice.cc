#include "runtime/engine_choice.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/run_command.h"

namespace sm {

namespace {

constexpr Duration kProbePatience = std::chrono::seconds(30);

// Names this boot of the host, its KVM device as this user may use it, and the worker.
std::string host_key(const Assets& assets) {
  std::string key = read_file("/proc/sys/kernel/random/boot_id", 256).value_or("?\n");
  for (const std::string& path : {std::string("/dev/kvm"), assets.worker}) {
    struct stat info {};
    if (::stat(path.c_str(), &info) < 0) {
      key += path + " none\n";
      continue;
    }
    key +=
        fmt::format("{} {} {} {} {}.{} {}\n", path, info.st_dev, info.st_ino, info.st_rdev,
                    info.st_ctim.tv_sec, info.st_ctim.tv_nsec, ::access(path.c_str(), R_OK | W_OK));
  }
  return key;
}

// The first line of the worker's test: "engine NAME: why".
Result<std::string> ask_worker(const Assets& assets) {
  const CommandResult result = SM_TRY(run_command({assets.worker}, kProbePatience));
  for (const char* name : {"kvm", "soft"}) {
    if (result.status == 0 && result.output.starts_with(std::string("engine ") + name + ":")) {
      return std::string(name);
    }
  }
  return fail(Code::kUnsupported, "no engine can run VMs here: " + result.output,
              "see `supermachine doctor`");
}

}  // namespace

Result<std::string> resolve_engine(const std::string& wanted, const Assets& assets,
                                   const std::string& cache_dir) {
  if (wanted != "auto") return wanted;
  const std::string place = cache_dir + "/engine", key = host_key(assets);
  if (auto known = read_file(place, 4096); known && known->starts_with(key)) {
    const std::string name = known->substr(key.size());
    if (name == "kvm" || name == "soft") return name;
  }
  const std::string name = SM_TRY(ask_worker(assets));
  // A cache: when it cannot be written, the next one asks again.
  static_cast<void>(write_file_atomic(place, key + name));
  return name;
}

}  // namespace sm
