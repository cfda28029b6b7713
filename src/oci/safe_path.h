// SafePath: the one place where names from an archive become paths of the image. Pure. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

// Limits of Linux: PATH_MAX and NAME_MAX.
constexpr std::size_t kMaxPathBytes = 4096;
constexpr std::size_t kMaxNameBytes = 255;

// Components without "." and empty ones; none at all names the root. The views point into the name.
using SafePath = std::vector<std::string_view>;

// Refuses absolute names, ".." components and names that are too long.
Result<SafePath> safe_path(std::string_view name);

}  // namespace sm
