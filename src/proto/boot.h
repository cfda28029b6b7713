// What a worker boots a guest's kernel with, where its parent must know it as well.
#pragma once

#include <string_view>

namespace sm {

// The console is for people and for the text of a fatal error, so it is quiet.
inline constexpr std::string_view kDefaultCommandLine =
    "console=ttyS0 quiet loglevel=4 reboot=t panic=-1";

}  // namespace sm
