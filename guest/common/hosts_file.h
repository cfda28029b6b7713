// The text of /etc/hosts and /etc/resolv.conf. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proto/names.h"

namespace sm::guest {

// `existing` with the entries that it lacks: localhost for IPv4 and IPv6, those of `hosts`, and the
// machine's own name. What is there stays as it is.
std::string complete_hosts(std::string_view existing, std::string_view hostname,
                           const std::vector<HostEntry>& hosts);
// `existing` without the lines that complete_hosts() wrote for this hostname and these entries.
std::string strip_hosts(std::string_view existing, std::string_view hostname,
                        const std::vector<HostEntry>& hosts);

std::string resolv_conf(const std::vector<std::string>& servers);

}  // namespace sm::guest
