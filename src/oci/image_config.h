// ImageConfig: what an image says about how to run it. A pure function of the config document;
// users and groups stay text, since only the guest can look them up. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"
#include "oci/manifest.h"

namespace sm {

// Limit: a Linux guest cannot take more than this as arguments and environment anyway.
constexpr std::size_t kMaxConfigItems = 4096;

struct Healthcheck {
  std::vector<std::string> test;  // {"NONE"}, {"CMD", ...} or {"CMD-SHELL", command}
  std::uint64_t interval_ns = 0;  // 0: inherited default
  std::uint64_t timeout_ns = 0;
  std::uint64_t start_period_ns = 0;
  std::uint64_t retries = 0;
};

struct ImageConfig {
  std::string user;              // "name|uid[:group|gid]", empty: root
  std::vector<std::string> env;  // "NAME=value"
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::string stop_signal;
  std::string hostname;
  std::vector<std::string> exposed_ports;  // "80/tcp"
  std::vector<std::string> volumes;        // absolute paths
  std::map<std::string, std::string> labels;
  std::optional<Healthcheck> healthcheck;
  std::string created;
  Platform platform;
  std::vector<Digest> diff_ids;  // base first
};

Result<ImageConfig> parse_image_config(std::string_view text);

}  // namespace sm
