#include "cli/image_command.h"

#include "cli/output.h"

namespace sm {

namespace {

Status check_words(const Command& command, const std::vector<std::string>& words,
                   const WordCount& count) {
  const auto see = "see `" + command.path() + " --help`";
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

void set_image_action(Command& command, Action& chosen, WordCount count,
                      std::vector<std::string_view> docker_flags, ImageAction action) {
  command.allow_extras();
  std::vector<RefusedOption> refused;
  for (const auto& name : docker_flags) refused.push_back({name, "", ""});
  command.refuse(refused);
  auto* self = &command;
  command.callback([&chosen, self, count, action = std::move(action)] {
    chosen = [self, count, action] {
      auto words = self->remaining();
      std::erase(words, "--");
      auto done = check_words(*self, words, count);
      if (done) done = action(words);
      if (done) return 0;
      print_error(done.error());
      return kOwnFailure;
    };
  });
}

Result<bool> wants_json(const std::string& format) {
  if (format.empty() || format == "table" || format == "text") return false;
  if (format == "json" || format == "{{json .}}") return true;
  return fail(Code::kUnsupported, "--format " + format + ": templates are not supported",
              "use --format json and a tool such as jq");
}

}  // namespace sm
