// A connection to a unix socket, such as the one that leads to a guest's agent.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

// Never blocks: a listener whose queue is full is kIo. The socket is non-blocking. Any thread.
Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace sm
