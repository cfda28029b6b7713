// The child's end of its status channel and its standard descriptors. Only in a child.
#pragma once

#include <cstdint>
#include <string>

#include "agent/child.h"
#include "base/unique_fd.h"

namespace sm::guest {

inline constexpr int kChildStatusFd = 3;

// Puts the descriptors at 0, 1, 2 and 3 and closes all others: what belongs to other requests must
// not be kept open by this child.
void take_descriptors(const ChildDescriptors& descriptors);

void report_prepared();
void report_size(std::uint64_t size);
void report_step(agent::StepReport report);
// Reports and ends the child.
[[noreturn]] void fail_child(agent::ErrorKind kind, int errno_value, std::string message);

// A regular file for reading, opened so that no FIFO or device can block. Invalid: errno says why.
UniqueFd open_regular(const std::string& path);

}  // namespace sm::guest
