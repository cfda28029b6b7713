// /config.json: what the worker tells init about the machine. Written by the worker into its own
// cpio segment, read once, removed before the image is reachable. docs/reference/boot-config.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "proto/names.h"

namespace sm::guest {

inline constexpr std::size_t kMaxBootConfig = 4u << 20;
inline constexpr std::size_t kMaxLayers = 256;

struct BootConfig {
  std::vector<std::string> layers;  // virtio-blk serials, base first; empty: an empty tmpfs root
  // The machine is made before its image. `layers` names more disks than there may be layers: those
  // that get a file are the first of them. These others get one as well.
  std::optional<std::vector<std::string>> late_disks;
  std::string hostname = "supermachine";
  std::vector<std::string> env;  // "K=V"
  std::uint64_t shm_bytes = 64u << 20;
  std::uint64_t upper_bytes = 0;  // 0: half of the memory
  std::vector<std::string> dns;   // addresses; empty: the image's resolv.conf stays
  std::vector<HostEntry> hosts;   // further lines of /etc/hosts
};

// Strict: an unknown key, a wrong type or a value out of range is an error that names it.
Result<BootConfig> parse_boot_config(std::string_view text);

}  // namespace sm::guest
