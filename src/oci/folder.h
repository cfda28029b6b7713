// The names in a folder. Any thread.
#pragma once

#include <string>
#include <vector>

namespace sm {

// Without "." and "..", in no order; none when the folder cannot be read.
std::vector<std::string> folder_names(const std::string& path);

}  // namespace sm
