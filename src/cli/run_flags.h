// Options that run, bake and restore share.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/parser.h"
#include "runtime/run_options.h"

namespace sm {

inline std::optional<std::string> variable_of_host(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

// Environment, folder and user of the command.
inline void add_command_flags(Command& command, RunOptions& o) {
  command.add_option("-e,--env", o.env, "Set a variable, or pass one on from here")
      ->type_name("K=V|K");
  command.add_option("--env-file", o.env_files, "Read variables from a file, one per line")
      ->type_name("FILE");
  command.add_option("-w,--workdir", o.workdir, "Folder to start in")->type_name("DIR");
  command.add_option("-u,--user", o.user, "User (and group) to run as")
      ->type_name("NAME|UID[:GROUP|GID]");
  command.add_option("--engine", o.engine, "CPU engine: auto, kvm or soft")
      ->choices({"auto", "kvm", "soft"})
      ->type_name("ENGINE")
      ->capture_default_str();
}

inline Result<std::vector<std::string>> read_env_files(const std::vector<std::string>& paths) {
  constexpr std::size_t kMaxEnvFile = 1u << 20;
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    const std::string text = SM_TRY(read_file(path, kMaxEnvFile));
    auto entries = SM_TRY(parse_env_file(text, path, variable_of_host));
    out.insert(out.end(), entries.begin(), entries.end());
  }
  return out;
}

// The first word that is no option is what the command works on, the rest is a command of a guest.
inline Status take_subject(std::vector<std::string> words, const std::string& what,
                           RunOptions& options) {
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  if (words.empty()) {
    return fail(Code::kInvalidArgument, "no " + what + " given", "name one behind the options");
  }
  if (words[0].size() > 1 && words[0][0] == '-') {
    return fail(Code::kInvalidArgument, "unknown option " + words[0],
                "see --help; options stand before the " + what);
  }
  options.image = words[0];
  options.command.assign(words.begin() + 1, words.end());
  return {};
}

}  // namespace sm
