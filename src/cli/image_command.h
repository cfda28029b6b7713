// What the image commands have in common: their arguments, Docker's flags that they do not have,
// and errors.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/commands.h"

namespace sm {

// How many words a command takes.
struct WordCount {
  std::size_t least = 0;
  std::size_t most = 0;
  const char* what = "";  // "NAME", for the error
};

using ImageAction = std::function<Status(const std::vector<std::string>& words)>;

// Lets `command` run `action` on its words. Options may stand anywhere; `docker_flags` are those of
// Docker that are refused by name. An error is printed; the exit status is then 125.
void set_image_action(Command& command, Action& chosen, WordCount count,
                      std::vector<std::string_view> docker_flags, ImageAction action);

// "", "table" or "json".
Result<bool> wants_json(const std::string& format);

}  // namespace sm
