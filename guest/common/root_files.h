// Files of a root folder that others have filled: reached without ever leaving that folder, and
// put in place by rename, so that a link there is replaced and never written through.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm::guest {

inline constexpr std::size_t kMaxSmallFile = 1u << 20;

// kStay: never into another mount such as /proc.
enum class Mounts : std::uint8_t { kStay, kCross };
// Resolves inside `root` as if it were "/". Invalid: errno says why.
UniqueFd open_inside(int root, const char* path, std::uint64_t flags, Mounts mounts);

// Content of a regular file: empty when there is none, nothing when it is above kMaxSmallFile.
std::optional<std::string> read_small(int root, const char* path);

// Writes `name` in `folder` under a temporary name and renames it into place.
Status replace_file(int folder, const char* name, std::string_view text, mode_t mode = 0644);

// Makes `name` in `folder` unless something is there already.
Status make_folder(int folder, const char* name, mode_t mode);

}  // namespace sm::guest
