#include "cli/run_flags.h"

#include <cstdlib>
#include <utility>

#include "base/file.h"
#include "cli/output.h"

namespace sm {

namespace {

constexpr std::size_t kMaxEnvFile = 1u << 20;

}  // namespace

std::optional<std::string> variable_of_host(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

void add_env_flags(Command& command, std::vector<std::string>& env,
                   std::vector<std::string>& env_files) {
  command.add_option("-e,--env", env, "Set a variable, or pass one on from here")
      ->type_name("K=V|K");
  command.add_option("--env-file", env_files, "Read variables from a file, one per line")
      ->type_name("FILE");
}

void add_command_flags(Command& command, RunOptions& options) {
  add_env_flags(command, options.env, options.env_files);
  command.add_option("-w,--workdir", options.workdir, "Folder to start in")->type_name("DIR");
  command.add_option("-u,--user", options.user, "User (and group) to run as")
      ->type_name("NAME|UID[:GROUP|GID]");
  command.add_option("--engine", options.engine, "CPU engine: auto, kvm or soft")
      ->choices({"auto", "kvm", "soft"})
      ->type_name("ENGINE")
      ->capture_default_str();
}

Result<std::vector<std::string>> read_env_files(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    const std::string text = SM_TRY(read_file(path, kMaxEnvFile));
    auto entries = SM_TRY(parse_env_file(text, path, variable_of_host));
    out.insert(out.end(), entries.begin(), entries.end());
  }
  return out;
}

Status take_subject(std::vector<std::string> words, const Subject& subject, RunOptions& options) {
  const std::string command = std::string("supermachine ") + subject.command;
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  if (words.empty()) {
    return fail(Code::kInvalidArgument, std::string("no ") + subject.what + " given",
                "name one: " + command + " " + subject.placeholder + " [COMMAND...]");
  }
  if (words[0].size() > 1 && words[0][0] == '-') {
    return fail(Code::kInvalidArgument, "unknown option " + words[0],
                "see `" + command + " --help`; options stand before the " + subject.what);
  }
  options.image = words[0];
  options.command.assign(words.begin() + 1, words.end());
  return {};
}

void set_run_action(Command& command, Action& chosen,
                    std::function<Result<int>(std::vector<std::string> words)> action) {
  command.prefix_command();
  auto* self = &command;
  command.callback([&chosen, self, action = std::move(action)] {
    chosen = [self, action] {
      auto status = action(self->remaining());
      if (status) return *status;
      print_error(status.error());
      return kOwnFailure;
    };
  });
}

}  // namespace sm
