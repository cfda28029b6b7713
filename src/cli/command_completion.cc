// `completion`, and the hidden `__complete` that the scripts of the shells ask.
#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/image_command.h"
#include "oci/text.h"
#include "runtime/bake/snapshot_cache.h"
#include "runtime/images.h"
#include "runtime/paths.h"

namespace sm {

namespace {

constexpr std::size_t kMostWords = 2000;  // more help nobody

Result<std::vector<std::string>> image_names() {
  const auto store = SM_TRY(ImageStore::open(SM_TRY(ImageFolders::find()).store));
  std::vector<std::string> out;
  for (const auto& entry : SM_TRY(store.entries())) {
    if (entry.name.empty() || out.size() == kMostWords) continue;
    const auto split =
        entry.name.find('@') != std::string::npos ? entry.name.find('@') : entry.name.rfind(':');
    out.push_back(
        printable(familiar_repository(entry.name.substr(0, split)) + entry.name.substr(split)));
  }
  return out;
}

Result<std::vector<std::string>> snapshot_names() {
  std::vector<std::string> out;
  const auto cache = SM_TRY(SnapshotCache::open(SM_TRY(cache_dir()) + "/snapshots"));
  for (const auto& entry : cache.entries()) {
    if (out.size() < kMostWords) out.push_back(printable(entry.name.substr(0, 12)));
  }
  return out;
}

// What cannot be read is not offered; an error would stand in the middle of what the user types.
std::vector<std::string> list_words(const std::string& placeholder) {
  const bool image = placeholder == "IMAGE" || placeholder.starts_with("NAME|ID") ||
                     placeholder.starts_with("NAME[:TAG");
  auto words = image ? image_names()
               : placeholder == "SNAPSHOT"
                   ? snapshot_names()
                   : Result<std::vector<std::string>>(std::vector<std::string>());
  return words ? std::move(*words) : std::vector<std::string>();
}

int print_completions(Command& app, std::vector<std::string> words) {
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  const auto found = complete(app, words, list_words);
  std::string out;
  for (const auto& word : found.words) {
    out += word.word + (word.text.empty() ? "" : "\t" + word.text) + "\n";
  }
  out += found.paths == Paths::kFiles     ? ":files\n"
         : found.paths == Paths::kFolders ? ":folders\n"
                                          : ":\n";
  std::fputs(out.c_str(), stdout);
  return 0;
}

Status print_script(const std::string& shell) {
  const auto script = completion_script(shell);
  if (script.empty()) {
    return fail(Code::kInvalidArgument, "there is no completion for the shell " + printable(shell),
                "name bash, zsh or fish");
  }
  std::fputs(script.c_str(), stdout);
  return {};
}

}  // namespace

void add_completion(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "completion", "Print what makes a shell complete commands: completion bash|zsh|fish");
  command->footer(
      "Commands, options and the names of images and snapshots are completed. An installed "
      "supermachine has\n"
      "its scripts where bash, zsh and fish look for them.");
  command->example("source <(supermachine completion bash)", "for this shell");
  command->example("supermachine completion fish > supermachine.fish", "into a file");
  set_image_action(*command, chosen, {1, 1, "the shell's name"}, {},
                   [](const auto& words) { return print_script(words[0]); });

  Command* hidden =
      app.add_subcommand("__complete", "Print what may stand next: __complete -- WORD...");
  hidden->hide();
  hidden->prefix_command();
  hidden->callback([&app, &chosen, hidden] {
    chosen = [&app, hidden] { return print_completions(app, hidden->remaining()); };
  });
}

}  // namespace sm
