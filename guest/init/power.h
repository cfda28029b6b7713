// The end of the machine. Nothing here returns to a caller that could still do something.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "common/doorbell_port.h"

namespace sm::guest {

// One console line, the doorbell's fatal event, and off.
[[noreturn]] void die(const DoorbellPort& bell, doorbell::Fatal kind, const Error& error);

// Ends every other process, writes out what is dirty, reports the workload's status, and off.
[[noreturn]] void finish(const DoorbellPort& bell, std::uint32_t status);

}  // namespace sm::guest
