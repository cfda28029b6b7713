// RunOptions: what the user asked for with `supermachine run`, and its translation into the request
// for the guest's agent. Pure: files and the environment are read before (read_env_file, HostEnv).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_config.h"
#include "proto/agent.h"
#include "runtime/health_check.h"
#include "runtime/images.h"

namespace sm {

struct RunOptions {
  std::string image;
  PullPolicy pull = PullPolicy::kMissing;  // --pull
  Platform platform;                       // --platform
  std::vector<std::string> command;
  bool interactive = false;            // -i
  bool tty = false;                    // -t
  std::vector<std::string> env;        // -e, "K=V" or "K"
  std::vector<std::string> env_files;  // --env-file
  std::string workdir;
  std::string user;
  std::optional<std::string> entrypoint;  // --entrypoint; empty text clears the image's
  std::string hostname;                   // empty: the VM's id
  std::string engine = "auto";
  bool no_sandbox = false;
  std::uint64_t memory_bytes = 512ull << 20;
  std::uint32_t cpus = 1;
  std::optional<agent::ContainerSettings> container;  // flags that act in the guest
  HealthFlags health;                                 // --health-*
  std::optional<std::uint32_t> stop_timeout_s;        // restore: from a signal to the kill
  bool snapshot = true;  // go on from a snapshot of a booted VM, made at the first run
};

// A variable of the host's environment, or nothing.
using HostEnv = std::function<std::optional<std::string>(const std::string& name)>;

// Docker's size syntax: bytes, or with b, k, m or g.
std::optional<std::uint64_t> parse_byte_count(const std::string& text);

// The memory of a VM in that syntax. At least 64 MiB, a multiple of 1 MiB after
// rounding up.
Result<std::uint64_t> parse_memory_size(const std::string& text);

// Lines "K=V" or "K" (taken from the host, skipped when unset); blank lines and lines starting with
// '#' are skipped. Errors name file and line. `text` at most 1 MiB.
Result<std::vector<std::string>> parse_env_file(const std::string& text, const std::string& name,
                                                const HostEnv& host);

// The exec request for the image's workload. Later wins: image, env files (in order), -e.
// Spec: OCI image config; Docker's rules for ENTRYPOINT and CMD: a given command replaces CMD, a
// given entrypoint replaces both.
Result<agent::ExecRequest> make_request(const RunOptions& options, const ImageConfig& config,
                                        const std::vector<std::string>& file_env,
                                        const HostEnv& host);

}  // namespace sm
