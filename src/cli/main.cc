// supermachine: run OCI images as microVMs. Parses the command line, calls the runtime, translates
// back.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <exception>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/vm_commands.h"

namespace {

constexpr const char* kAbout =
    "Run OCI images as microVMs: own kernel, own memory, isolated by hardware or, where there is "
    "no "
    "usable KVM, by a CPU in software";

// Errors of a command whose output was asked for in JSON are JSON as well, even when the rest of
// its command line cannot be understood.
bool wants_json_errors(const sm::Command& command, const std::vector<std::string>& words) {
  if (command.find_option("--format") == nullptr) return false;
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    if (words[i] == "--format=json") return true;
    if (words[i] == "--format" && i + 1 < words.size() && words[i + 1] == "json") return true;
  }
  return false;
}

int run(const std::vector<std::string>& words) {
  sm::Command app("supermachine", kAbout);
  bool version = false;
  app.add_flag("--version", version, "Print the version and exit");
  sm::Action chosen;
  sm::add_commands(app, chosen);
  sm::set_json_errors(wants_json_errors(*app.named_by(words), words));
  bool help = false;
  const auto command = app.parse(words, help);
  if (version) {
    fmt::print("supermachine {}\n", SM_VERSION);
    return 0;
  }
  if (!command) {
    sm::print_error(command.error());
    return sm::kOwnFailure;
  }
  if (help) {
    fmt::print("{}", sm::help_text(**command));
    return 0;
  }
  return chosen();
}

// Without them, files of ours would get their numbers.
void ensure_standard_streams() {
  int fd = 0;
  while ((fd = ::open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
  }
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  ensure_standard_streams();
  // The library for JSON may throw; nothing of ours does.
  try {
    return run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const std::exception& e) {
    sm::print_error(sm::Error(sm::Code::kInternal, e.what()));
    return sm::kOwnFailure;
  }
}
