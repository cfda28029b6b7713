// `logs`: what a VM's command has written.
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <deque>
#include <memory>

#include "base/file.h"
#include "cli/image_command.h"
#include "cli/times.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/keeper/log_file.h"

namespace sm {

namespace {

// A keeper that was killed changes no file: so often is looked whether it lives.
constexpr int kLookAgainMs = 1000;

struct Typed {
  bool follow = false;
  bool times = false;
  std::string tail = "all";
  std::string since;
  std::string until;
};

struct Kept {
  std::int64_t at_ns = 0;
  bool error_stream = false;
  bool whole = true;
  std::string text;
};

struct Wanted {
  std::int64_t since = 0;
  std::int64_t until = INT64_MAX;
  std::size_t tail = SIZE_MAX;
};

Result<Wanted> wanted_of(const Typed& typed) {
  Wanted out;
  const std::int64_t now_ns = unix_now_ns();
  if (!typed.since.empty()) out.since = SM_TRY(parse_time(typed.since, now_ns));
  if (!typed.until.empty()) out.until = SM_TRY(parse_time(typed.until, now_ns));
  if (typed.tail == "all") return out;
  char* end = nullptr;
  const long long n = std::strtoll(typed.tail.c_str(), &end, 10);
  if (typed.tail.empty() || *end != '\0') {
    return fail(Code::kInvalidArgument, "--tail " + typed.tail + " is no number",
                "give how many lines, or all");
  }
  if (n >= 0) out.tail = static_cast<std::size_t>(n);
  return out;
}

class Printer {
 public:
  explicit Printer(bool times) : times_(times) {}
  void print(std::int64_t at_ns, bool error_stream, bool whole, std::string_view text) {
    FILE* const to = error_stream ? stderr : stdout;
    bool& goes_on = goes_on_[error_stream ? 1 : 0];
    if (times_ && !goes_on) fmt::print(to, "{} ", rfc3339(at_ns));
    std::fwrite(text.data(), 1, text.size(), to);
    if (whole) std::fputc('\n', to);
    goes_on = !whole;
  }

 private:
  bool times_;
  bool goes_on_[2] = {false, false};
};

// What is there already: the last so many lines of it.
Status print_past(LogReader& reader, const Wanted& wanted, Printer& printer) {
  std::deque<Kept> kept;
  std::size_t whole = 0;
  SM_TRY_STATUS(reader.read([&](const LogLine& line) {
    if (line.at_ns < wanted.since || line.at_ns > wanted.until || wanted.tail == 0) return;
    if (wanted.tail == SIZE_MAX) {
      return printer.print(line.at_ns, line.error_stream, line.whole, line.text);
    }
    kept.push_back({line.at_ns, line.error_stream, line.whole, std::string(line.text)});
    if (line.whole) ++whole;
    while (whole > wanted.tail || (whole == wanted.tail && !kept.back().whole)) {
      if (kept.front().whole) --whole;
      kept.pop_front();
    }
  }));
  for (const auto& line : kept) printer.print(line.at_ns, line.error_stream, line.whole, line.text);
  return {};
}

Status follow(const VmRegistry& registry, const std::string& id, LogReader& reader,
              const Wanted& wanted, Printer& printer) {
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch.valid()) return fail_errno("inotify", errno);
  const std::string folder = registry.folder_of(id);
  ::inotify_add_watch(watch.get(), folder.c_str(),
                      IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF);
  for (;;) {
    // The end first: what was written before it is then read for certain.
    const auto vm = registry.find(id);
    const bool over = !vm || !is_live(vm->state);
    SM_TRY_STATUS(reader.read([&](const LogLine& line) {
      if (line.at_ns >= wanted.since && line.at_ns <= wanted.until) {
        printer.print(line.at_ns, line.error_stream, line.whole, line.text);
      }
    }));
    std::fflush(stdout);
    if (over || unix_now_ns() > wanted.until) return {};
    pollfd one{watch.get(), POLLIN, 0};
    ::poll(&one, 1, kLookAgainMs);
    char buffer[4096];
    while (::read(watch.get(), buffer, sizeof(buffer)) > 0) {
    }
  }
}

Status logs(const Typed& typed, const std::string& word) {
  const auto registry = SM_TRY(VmRegistry::open());
  const VmRecord vm = SM_TRY(registry.find(word));
  const Wanted wanted = SM_TRY(wanted_of(typed));
  LogReader reader(registry.folder_of(vm.id));
  Printer printer(typed.times);
  SM_TRY_STATUS(print_past(reader, wanted, printer));
  std::fflush(stdout);
  if (!typed.follow) return {};
  return follow(registry, vm.id, reader, wanted, printer);
}

}  // namespace

void add_logs(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("logs", "Print what a VM's command has written: logs [OPTIONS] VM");
  auto typed = std::make_shared<Typed>();
  command->add_flag("-f,--follow", typed->follow, "Go on until the VM ends");
  command->add_flag("-t,--timestamps", typed->times, "Show when each line was written");
  command->add_option("-n,--tail", typed->tail, "Of what is there already, the last N lines")
      ->type_name("N|all")
      ->capture_default_str();
  command->add_option("--since", typed->since, "Only lines from then on")->type_name("TIME|SPAN");
  command->add_option("--until", typed->until, "Only lines up to then")->type_name("TIME|SPAN");
  command->footer("TIME is 2026-01-31T12:00:00Z or seconds since 1970, SPAN such as 10m: ago.");
  set_image_action(*command, chosen, {1, 1, "the VM's name or id"}, {"--details"},
                   [typed](const auto& words) { return logs(*typed, words[0]); });
}

}  // namespace sm
