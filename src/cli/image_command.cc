#include "cli/image_command.h"

#include <algorithm>

#include "cli/output.h"

namespace sm {

namespace {

Status check_words(const CLI::App& command, const std::vector<std::string>& words,
                   const WordCount& count, const std::vector<std::string_view>& docker_flags) {
  const auto see = "see `supermachine " + command.get_name() + " --help`";
  for (const auto& word : words) {
    if (word.size() < 2 || word[0] != '-' || word == "--") continue;
    const auto name = word.substr(0, word.find('='));
    if (std::find(docker_flags.begin(), docker_flags.end(), name) != docker_flags.end()) {
      return fail(Code::kUnsupported,
                  "Docker's " + name + " is not supported by `" + command.get_name() + "`", see);
    }
    return fail(Code::kInvalidArgument, "unknown option " + name, see);
  }
  if (words.size() < count.least) {
    return fail(Code::kInvalidArgument,
                std::string("too few arguments: ") + count.what + " is missing", see);
  }
  if (words.size() > count.most) {
    return fail(Code::kInvalidArgument, "too many arguments: '" + words[count.most] + "'", see);
  }
  return {};
}

}  // namespace

void set_image_action(CLI::App& command, Action& chosen, WordCount count,
                      std::vector<std::string_view> docker_flags, ImageAction action) {
  command.allow_extras();
  auto* self = &command;
  command.callback(
      [&chosen, self, count, flags = std::move(docker_flags), action = std::move(action)] {
        chosen = [self, count, flags, action] {
          auto words = self->remaining();
          auto done = check_words(*self, words, count, flags);
          std::erase(words, "--");
          if (done) done = action(words);
          if (done) return 0;
          print_error(done.error());
          return kOwnFailure;
        };
      });
}

Result<bool> wants_json(const std::string& format) {
  if (format.empty() || format == "table") return false;
  if (format == "json" || format == "{{json .}}") return true;
  return fail(Code::kUnsupported, "--format " + format + ": templates are not supported",
              "use --format json and a tool such as jq");
}

}  // namespace sm
