// /etc/hosts and /etc/resolv.conf with a container's settings in them. The texts are pure
// functions.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "proto/container.h"

namespace sm::guest {

// `existing` behind the lines of the settings: the first line that has a name decides. A domain
// name gives the machine's own name its full form.
std::string container_hosts(std::string_view existing, const agent::MachineSettings& settings,
                            std::string_view hostname);
// `existing` with name servers, search domains and options replaced where the settings have some.
std::string container_resolver(std::string_view existing, const agent::MachineSettings& settings);

// Puts both into the root folder `root`, each only when a setting asks for it.
Status write_name_files(int root, const agent::MachineSettings& settings,
                        const std::string& hostname);

}  // namespace sm::guest
