#include "cli/vm_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/output.h"
#include "cli/sizes.h"
#include "runtime/run_session.h"

namespace sm {

Status each_vm(const std::vector<std::string>& words, const VmAction& action, bool quiet) {
  const auto registry = SM_TRY(VmRegistry::open());
  std::vector<Error> errors;
  for (const std::string& word : words) {
    const auto vm = registry.find(word);
    const Status done = vm ? action(registry, *vm) : fail(vm.error());
    if (!done) {
      errors.push_back(done.error());
    } else if (!quiet) {
      fmt::print("{}\n", word);
      std::fflush(stdout);
    }
  }
  if (errors.empty()) return {};
  for (std::size_t i = 0; i + 1 < errors.size(); ++i) print_error(errors[i]);
  return fail(errors.back());
}

Status check_running(const VmRecord& vm) {
  if (vm.state == VmState::kRunning) return {};
  const bool paused = vm.state == VmState::kPaused;
  return fail(
      Code::kInvalidArgument, "the VM " + vm.name + (paused ? " is paused" : " is not running"),
      paused ? "let it go on first: supermachine unpause " + vm.name : "see `supermachine ps -a`");
}

std::string human_span(std::int64_t ns) {
  const std::int64_t seconds = std::max<std::int64_t>(0, ns / 1'000'000'000);
  if (seconds < 1) return "less than a second";
  if (seconds < 60) return fmt::format("{} second{}", seconds, seconds == 1 ? "" : "s");
  std::string age = human_age(rfc3339(unix_now_ns() - ns));
  if (age.ends_with(" ago")) age.resize(age.size() - 4);
  return age;
}

std::string vm_status_text(const VmRecord& vm) {
  const std::int64_t now_ns = unix_now_ns();
  switch (vm.state) {
    case VmState::kCreated:
      return "Created";
    case VmState::kRunning:
    case VmState::kPaused: {
      std::string out = "Up " + human_span(now_ns - vm.started_ns);
      if (!vm.health.empty()) out += " (" + vm.health + ")";
      return vm.state == VmState::kPaused ? out + " (Paused)" : out;
    }
    case VmState::kRestarting:
      return fmt::format("Restarting ({}) {} ago", vm.exit_code,
                         human_span(now_ns - vm.finished_ns));
    case VmState::kExited:
      break;
  }
  if (vm.lost) return fmt::format("Exited ({}) lost", vm.exit_code);
  return fmt::format("Exited ({}) {} ago", vm.exit_code, human_span(now_ns - vm.finished_ns));
}

void set_program_action(Command& command, Action& chosen,
                        std::function<Result<int>(std::vector<std::string> words)> action) {
  command.prefix_command();
  auto* self = &command;
  command.callback([&chosen, self, action = std::move(action)] {
    chosen = [self, action] {
      auto words = self->remaining();
      if (!words.empty() && words[0] == "--") words.erase(words.begin());
      const auto see = "see `supermachine " + self->get_name() + " --help`";
      Result<int> status = 0;
      if (words.empty()) {
        status = fail(Code::kInvalidArgument, "no VM given", see);
      } else if (words[0].size() > 1 && words[0][0] == '-') {
        status = fail(Code::kInvalidArgument, "unknown option " + words[0], see);
      } else {
        status = action(std::move(words));
      }
      if (status) return *status;
      print_error(status.error());
      return kOwnFailure;
    };
  });
}

}  // namespace sm
