#include "cli/docker_flags.h"

namespace sm {

namespace {

// Reasons that several have.
constexpr const char* kNoNetwork = "VMs have no network of their own yet";
constexpr const char* kNoShares = "VMs do not see the host's files";
constexpr const char* kOwnKernel = "a VM has a kernel of its own and shares nothing with the host";
constexpr const char* kWholeCpus = "a VM has whole CPUs, and shares them by the host's scheduler";
constexpr const char* kFixedMemory = "a VM's memory has one fixed size";

constexpr const char* kLeaveOut = "leave it out";
constexpr const char* kUseStreams =
    "send files in as `tar c . | supermachine run -i IMAGE tar x`, or put them into the image";
constexpr const char* kUseCpus = "use --cpus N";
constexpr const char* kUseMemory = "use -m SIZE";

}  // namespace

const std::vector<RefusedOption>& refused_run_options() {
  static const std::vector<RefusedOption> kOptions = {
      {"--network,--net", kNoNetwork, kLeaveOut},
      {"--network-alias,--net-alias", kNoNetwork, kLeaveOut},
      {"--ip", kNoNetwork, kLeaveOut},
      {"--ip6", kNoNetwork, kLeaveOut},
      {"--link", kNoNetwork, kLeaveOut},
      {"--link-local-ip", kNoNetwork, kLeaveOut},
      {"--mac-address", kNoNetwork, kLeaveOut},
      {"--expose", "a port needs no announcement here", "use -p to publish it"},
      {"-v,--volume", kNoShares, kUseStreams},
      {"--mount", kNoShares, kUseStreams},
      {"--volumes-from", kNoShares, kUseStreams},
      {"--volume-driver", kNoShares, kUseStreams},
      {"--device", "VMs have no devices of the host", kLeaveOut},
      {"--device-cgroup-rule", "VMs have no devices of the host", kLeaveOut},
      {"--device-read-bps", "disks of VMs are not throttled", kLeaveOut},
      {"--device-read-iops", "disks of VMs are not throttled", kLeaveOut},
      {"--device-write-bps", "disks of VMs are not throttled", kLeaveOut},
      {"--device-write-iops", "disks of VMs are not throttled", kLeaveOut},
      {"--blkio-weight", "disks of VMs are not throttled", kLeaveOut},
      {"--blkio-weight-device", "disks of VMs are not throttled", kLeaveOut},
      {"--io-maxbandwidth", "disks of VMs are not throttled", kLeaveOut},
      {"--io-maxiops", "disks of VMs are not throttled", kLeaveOut},
      {"--gpus", "VMs have no devices of the host, graphics processors among them", kLeaveOut},
      {"--privileged", "no command gets rights on the host, whatever it is told",
       "leave it out; root in the VM is root of that VM"},
      {"--ipc", kOwnKernel, kLeaveOut},
      {"--pid", kOwnKernel, kLeaveOut},
      {"--uts", kOwnKernel, "use -h HOST for another host name"},
      {"--userns", kOwnKernel, "leave it out; no user of the VM is one of the host's"},
      {"--cgroupns", kOwnKernel, kLeaveOut},
      {"--cgroup-parent", kOwnKernel, "start supermachine itself in that control group"},
      {"--runtime", "every image runs as a microVM", "use --engine to choose what runs its CPU"},
      {"--isolation", "every image runs as a microVM", kLeaveOut},
      {"--cpuset-cpus", kWholeCpus, "start supermachine with `taskset`"},
      {"--cpuset-mems", kWholeCpus, "start supermachine with `numactl`"},
      {"-c,--cpu-shares", kWholeCpus, kUseCpus},
      {"--cpu-period", kWholeCpus, kUseCpus},
      {"--cpu-quota", kWholeCpus, kUseCpus},
      {"--cpu-rt-period", kWholeCpus, kUseCpus},
      {"--cpu-rt-runtime", kWholeCpus, kUseCpus},
      {"--cpu-count", kWholeCpus, kUseCpus},
      {"--cpu-percent", kWholeCpus, kUseCpus},
      {"--memory-reservation", kFixedMemory, kUseMemory},
      {"--memory-swap", kFixedMemory, kUseMemory},
      {"--memory-swappiness", kFixedMemory, kUseMemory},
      {"--kernel-memory", kFixedMemory, kUseMemory},
      {"--oom-kill-disable", "the VM's own kernel decides when memory runs out", kUseMemory},
      {"--log-driver", "output is kept beside the VM", "see `supermachine logs`"},
      {"--log-opt", "output is kept beside the VM", "see `supermachine logs`"},
      {"--annotation", "there is nobody who would read it", kLeaveOut},
      {"--disable-content-trust", "there are no signatures that could be checked", kLeaveOut},
      {"-a,--attach", "all streams of the command are attached", "redirect what you do not want"},
      {"--detach-keys", "the keys that leave a terminal are Ctrl-P Ctrl-Q", kLeaveOut},
      {"--sig-proxy", "signals go to the command in any case", kLeaveOut},
      {"--use-api-socket", "there is no service with a socket", kLeaveOut},
  };
  return kOptions;
}

}  // namespace sm
