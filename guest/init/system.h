// Kernel settings of the machine: sysctls, limits, hostname.
#pragma once

#include <string_view>

#include "base/result.h"
#include "common/boot_config.h"

namespace sm::guest {

// Writes below /proc/sys; false when the kernel has no such setting or refuses the value.
bool write_sysctl(std::string_view name, std::string_view value);

// What a container runtime's defaults give its containers, and the hostname.
Status apply_system_settings(const BootConfig& config);

}  // namespace sm::guest
