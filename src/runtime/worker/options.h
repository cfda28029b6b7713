// The command line of supermachine-worker: parsed and checked completely before anything happens.
// See docs/reference/worker.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "vmm/cpu/cpuid_model.h"

namespace sm {

struct WorkerOptions {
  bool help = false;
  bool version = false;
  std::string kernel;
  std::string initramfs;
  std::optional<std::string> cmdline;  // replaces the default
  std::uint64_t memory_mib = 256;
  std::vector<std::string> virtio_blk;
  std::string root_disk;
  // An open file of that name: then the name is for messages only.
  std::optional<int> root_disk_fd;
  // An open file that is copied there first.
  std::optional<int> root_disk_from_fd;
  // Empty disks for layers. 0: the layers are there from the boot on.
  std::uint32_t layer_slots = 0;
  std::uint32_t vcpus = 1;
  std::string log_sink;
  std::string console_input;
  std::vector<std::pair<std::string, std::string>> env;  // --env, in order
  std::string env_file;
  std::string vsock_exec;
  std::uint32_t vsock_exec_guest_port = 1028;
  std::string engine = "auto";
  std::optional<int> control_fd;
  bool pool_worker = false;  // the parent says later what to restore; nothing else is given
  std::string guest_config;
  bool no_sandbox = false;  // for debuggers
  std::string stats;
  std::string trace;

  std::optional<CpuModel> cpu_model;
  std::string restore_from;
  std::string restore_digest;  // empty: any
  std::string snapshot_out;
  bool snapshot_on_pre_exec = false;
  bool snapshot_on_kernel = false;
  bool snapshot_replace = false;
  std::optional<std::uint64_t> snapshot_after_ms;
  std::uint64_t quiesce_ms = 0;
  std::string kernel_digest, initramfs_digest;     // for the manifests of snapshots
  std::map<std::string, std::string> annotations;  // the same
  // Whether --memory and --vcpus or --profile were given: what a snapshot says is the default else.
  bool memory_given = false, vcpus_given = false;
};

inline constexpr std::uint64_t kMinMemoryMib = 32;
inline constexpr std::uint64_t kMaxMemoryMib = 1u << 20;
inline constexpr std::size_t kMaxDisks = 32;

// `words` without argv[0]. An error is a usage error (exit status 2); its cause begins with the
// flag.
Result<WorkerOptions> parse_worker_options(std::span<const std::string> words);

// The arguments of a control::RestoreRequest. Descriptors stay with the command line.
Result<WorkerOptions> parse_restore_request(std::vector<std::string> words, int control_fd);

std::string worker_help();

}  // namespace sm
