// Files under flock(2), the way processes of one user take turns. The lock ends with the
// descriptor, so also with the process. Any thread.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

enum class LockKind : std::uint8_t { kShared, kExclusive };

// Opens the file, creates it when missing, and waits for the lock. What comes back is what the path
// names, also when an earlier holder renamed or removed the file. Code::kGone on a stop request.
Result<UniqueFd> lock_file(const std::string& path, LockKind kind,
                           const std::stop_token& stop = {});

// Takes the lock of an open file, at once or not at all.
bool try_lock(int fd, LockKind kind);

// True when `fd` is still what the path names.
bool is_same_file(int fd, const std::string& path);

// Removes files of a folder whose names end so and that nobody has locked.
void remove_unlocked(const std::string& folder, std::string_view suffix);

}  // namespace sm
