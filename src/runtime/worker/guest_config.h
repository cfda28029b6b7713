// The guest's /config.json, composed from what the parent process asked for and the worker's own
// flags. The schema is docs/reference/boot-config.md.
#pragma once

#include <string>

#include "base/result.h"
#include "runtime/worker/options.h"

namespace sm {

// `requested`: the text behind --guest-config, a JSON object that may hold hostname, shm_bytes,
// upper_bytes, dns and hosts; empty for none. `env_file`: the text behind --env-file; empty for
// none.
Result<std::string> make_guest_config(const WorkerOptions& options, const std::string& requested,
                                      const std::string& env_file);

// The serial number of layer disk `index`, by which the guest finds it.
std::string layer_serial(std::size_t index);

}  // namespace sm
