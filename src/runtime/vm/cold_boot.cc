#include "runtime/vm/cold_boot.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

#include "base/json.h"

namespace sm {

namespace {

// What the guest's kernel and init need before the image's first program runs.
constexpr std::uint64_t kMinMemoryMib = 64;
constexpr std::uint64_t kMaxMemoryMib = 1u << 20;
constexpr std::uint32_t kMaxVcpus = 32;

Result<std::string> random_machine_id() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return fail_errno("getrandom", errno);
  }
  std::string out;
  for (const unsigned char byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

}  // namespace

Status check_hostname(const std::string& name) {
  const bool ok = !name.empty() && name.size() <= 64 && name.front() != '-' &&
                  name.find_first_not_of(
                      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                      "0123456789.-_") == std::string::npos;
  if (ok) return {};
  return fail(Code::kInvalidArgument, "'" + name + "' cannot be a host name",
              "use up to 64 letters, digits, '.', '-' and '_'");
}

Status check_boot_config(const BootConfig& config) {
  if (config.memory_mib < kMinMemoryMib || config.memory_mib > kMaxMemoryMib) {
    return fail(Code::kInvalidArgument,
                "a VM with " + std::to_string(config.memory_mib) + " MiB of memory",
                "use between 64 and 1048576 MiB");
  }
  if (config.vcpus < 1 || config.vcpus > kMaxVcpus) {
    return fail(Code::kInvalidArgument, "a VM with " + std::to_string(config.vcpus) + " CPUs",
                "use between 1 and 32");
  }
  if (config.engine != "auto" && config.engine != "kvm" && config.engine != "soft") {
    return fail(Code::kInvalidArgument, "'" + config.engine + "' is no CPU engine",
                "use auto, kvm or soft");
  }
  if (!config.hostname.empty()) SM_TRY_STATUS(check_hostname(config.hostname));
  return {};
}

std::string guest_config(const std::string& hostname) {
  return dump_json({{"hostname", hostname}});
}

WorkerCommand base_command(const BootConfig& config, const VmDir& dir,
                           const std::string& hostname) {
  WorkerCommand out;
  out.program = config.assets.worker;
  out.arguments = {"--engine=" + config.engine, "--log-sink=" + dir.console_log(),
                   "--vsock-exec=" + dir.exec_socket()};
  if (config.no_sandbox) out.arguments.emplace_back("--no-sandbox");
  for (const std::string& layer : config.layers) out.arguments.push_back("--virtio-blk=" + layer);
  if (!config.root_disk.path.empty()) {
    out.arguments.push_back("--root-disk=" + config.root_disk.path);
  }
  out.guest_config = guest_config(hostname);
  out.log_file = dir.worker_log();
  return out;
}

WorkerCommand boot_command(const BootConfig& config, const VmDir& dir,
                           const std::string& hostname) {
  WorkerCommand out = base_command(config, dir, hostname);
  out.arguments.push_back("--kernel=" + config.assets.kernel);
  out.arguments.push_back("--initramfs=" + config.assets.initramfs);
  out.arguments.push_back("--memory=" + std::to_string(config.memory_mib));
  out.arguments.push_back("--vcpus=" + std::to_string(config.vcpus));
  return out;
}

std::optional<WorkerCommand> spare_command(const BootConfig& config) {
  if (!config.root_disk.path.empty()) return std::nullopt;
  WorkerCommand out;
  out.program = config.assets.worker;
  out.arguments = {"--pool-worker"};
  return out;
}

Result<agent::ResumeRequest> resume_request(const BootConfig& config, std::uint32_t generation,
                                            const std::string& id) {
  agent::ResumeRequest out;
  out.generation = generation;
  out.hostname = config.hostname.empty() ? id : config.hostname;
  out.secrets = config.secrets;
  if (!config.root_disk.path.empty()) out.root_disk = kRootDiskSerial;
  if (config.new_machine_id) {
    out.machine_id_policy = agent::MachineIdPolicy::kSet;
    out.machine_id = SM_TRY(random_machine_id());
  }
  return out;
}

Result<VmLaunch> ColdBoot::launch(const VmDir& dir, const std::string& id) {
  VmLaunch out;
  out.worker = boot_command(config_, dir, config_.hostname.empty() ? id : config_.hostname);
  if (!config_.root_disk.path.empty()) out.resume = SM_TRY(resume_request(config_, 0, id));
  return out;
}

}  // namespace sm
