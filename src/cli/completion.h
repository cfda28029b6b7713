// What a shell may complete: made from the option table while the user types, so that no script can
// be out of date.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/parser.h"

namespace sm {

struct Completion {
  std::string word;
  std::string text;  // what it does, may be empty
};

enum class Paths : std::uint8_t { kNone, kFiles, kFolders };

struct Completions {
  std::vector<Completion> words;
  Paths paths = Paths::kNone;  // which names of the host's files may stand here, too
};

// The words that exist for a placeholder of usage or of an option: "IMAGE", "SNAPSHOT".
using WordLister = std::function<std::vector<std::string>(const std::string& placeholder)>;

// `words`: those behind the program's name, up to the one that is being typed, which may be empty.
Completions complete(Command& root, const std::vector<std::string>& words, const WordLister& list);

// For `bash`, `zsh` or `fish`; empty for another shell. It asks `supermachine __complete`.
std::string completion_script(const std::string& shell);

}  // namespace sm
