// PID 1 of the guest. Sets the machine up (spec section 3.8 without its defects), starts the agent
// and stays as the reaper and the reporter. One thread. See docs/reference/boot-config.md.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/file.h"
#include "common/boot_config.h"
#include "common/doorbell_port.h"
#include "common/runtime_files.h"
#include "init/console.h"
#include "init/image_disks.h"
#include "init/mounts.h"
#include "init/network.h"
#include "init/power.h"
#include "init/root.h"
#include "init/supervisor.h"
#include "init/system.h"

namespace sm::guest {

namespace {

// Without a console the kernel starts init with no descriptors; what is opened later must not
// become standard output.
void ensure_standard_descriptors() {
  for (int fd = ::open("/dev/null", O_RDWR); fd >= 0; fd = ::open("/dev/null", O_RDWR)) {
    if (fd > STDERR_FILENO) {
      ::close(fd);
      return;
    }
  }
}

Result<BootConfig> load_boot_config() {
  const std::string text = SM_TRY(read_file("/config.json", kMaxBootConfig));
  return parse_boot_config(text);
}

// The folder of the layers.
Result<UniqueFd> enter_root(const BootConfig& config, const DoorbellPort& bell) {
  const auto disks = SM_TRY(image_disks(config, bell));
  SM_TRY_STATUS(compose_root(config, disks));
  UniqueFd layers = SM_TRY(open_layers());
  SM_TRY_STATUS(switch_root());
  const UniqueFd root = SM_TRY(open_file("/", O_PATH | O_DIRECTORY));
  SM_TRY_STATUS(write_runtime_files(root.get(), config));
  return layers;
}

// Returns the workload's exit status, or does not return.
std::uint32_t run_machine(const DoorbellPort& bell) {
  using doorbell::Fatal;
  auto views = mount_kernel_views();
  if (!views) die(bell, Fatal::kPseudoFilesystems, views.error());
  ensure_standard_descriptors();

  const auto config = load_boot_config();
  if (!config) die(bell, Fatal::kBootConfig, config.error());
  const auto agent_file = open_file("/agent", O_RDONLY);
  if (!agent_file) die(bell, Fatal::kAgentStart, agent_file.error());

  bring_up_network();
  if (auto devices = mount_device_views(*config); !devices) {
    die(bell, Fatal::kPseudoFilesystems, devices.error());
  }
  if (auto settings = apply_system_settings(*config); !settings) {
    die(bell, Fatal::kPseudoFilesystems, settings.error());
  }
  // What needs no image stands before this.
  const auto layers = enter_root(*config, bell);
  if (!layers) die(bell, Fatal::kRootFilesystem, layers.error());

  auto agent =
      start_agent(agent_file->get(), layers->get(), {config->hostname, config->env, config->hosts});
  if (!agent) die(bell, Fatal::kAgentStart, agent.error());
  Supervisor supervisor(bell, std::move(*agent));
  const auto status = supervisor.run();
  if (!status) die(bell, Fatal::kAgentDied, status.error());
  return *status;
}

}  // namespace

}  // namespace sm::guest

int main() {
  using namespace sm::guest;
  if (::getpid() != 1) {
    console_line("this program is the first process of a virtual machine");
    return 1;
  }
  const DoorbellPort bell = DoorbellPort::probe();
  bell.ring(sm::doorbell::Event::kBooted);
  block_signals();
  ::umask(0);
  finish(bell, run_machine(bell));
}
