// `events`: what happens to VMs.
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "cli/image_command.h"
#include "cli/times.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "oci/text.h"
#include "runtime/keeper/event_log.h"

namespace sm {

namespace {

struct Typed {
  std::string since;
  std::string until;
  std::vector<std::string> filters;
  std::string format;
};

struct Wanted {
  bool json = false;
  std::int64_t since = 0;
  std::int64_t until = INT64_MAX;
  std::vector<std::pair<std::string, std::string>> filters;
};

Result<Wanted> wanted_of(const Typed& typed) {
  Wanted out;
  out.json = SM_TRY(wants_json(typed.format));
  const std::int64_t now_ns = unix_now_ns();
  // Like Docker's: without --since only what is still to come.
  out.since = typed.since.empty() ? now_ns : SM_TRY(parse_time(typed.since, now_ns));
  if (!typed.until.empty()) out.until = SM_TRY(parse_time(typed.until, now_ns));
  for (const std::string& text : typed.filters) {
    const auto equals = text.find('=');
    const std::string key = text.substr(0, equals);
    const bool known = key == "event" || key == "container" || key == "vm" || key == "image";
    if (!known || equals == std::string::npos) {
      return fail(Code::kUnsupported, "--filter " + text + " is not supported",
                  "use event=, vm= (or container=) or image=");
    }
    out.filters.emplace_back(key, text.substr(equals + 1));
  }
  return out;
}

bool passes(const VmEvent& e, const Wanted& wanted) {
  if (e.at_ns < wanted.since || e.at_ns > wanted.until) return false;
  for (const auto& [key, value] : wanted.filters) {
    if (key == "event" && e.action != value) return false;
    if (key == "image" && e.image != value) return false;
    const bool of_vm = key == "vm" || key == "container";
    if (of_vm && e.name != value && (value.empty() || !e.id.starts_with(value))) return false;
  }
  return true;
}

void print(const VmEvent& e, bool json) {
  if (json) return fmt::print("{}", encode_event(e));
  const std::string status = e.action == "die" ? fmt::format("exitCode={}, ", e.exit_code) : "";
  fmt::print("{} vm {} {} ({}image={}, name={})\n", rfc3339(e.at_ns), printable(e.action),
             printable(e.id), status, printable(e.image), printable(e.name));
}

Status events(const Typed& typed) {
  const Wanted wanted = SM_TRY(wanted_of(typed));
  const auto registry = SM_TRY(VmRegistry::open());
  const std::string path = EventLog(registry.folder()).path();
  const auto show = [&](const VmEvent& e) {
    if (passes(e, wanted)) print(e, wanted.json);
  };
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch.valid()) return fail_errno("inotify", errno);
  ::inotify_add_watch(watch.get(), registry.folder().c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO);
  EventReader reader(path);
  for (;;) {
    SM_TRY_STATUS(reader.read(show));
    std::fflush(stdout);
    const std::int64_t left = wanted.until - unix_now_ns();
    if (left <= 0) return {};
    pollfd one{watch.get(), POLLIN, 0};
    // Rounded up; at most an hour, since the clock may be set.
    ::poll(&one, 1, static_cast<int>(std::min<std::int64_t>(left / 1'000'000 + 1, 3'600'000)));
    std::array<char, 4096> buffer;
    while (::read(watch.get(), buffer.data(), buffer.size()) > 0) {
    }
  }
}

}  // namespace

void add_events(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("events", "Show what happens to VMs as it happens: events [OPTIONS]");
  auto typed = std::make_shared<Typed>();
  command->add_option("--since", typed->since, "From then on, instead of now")
      ->type_name("TIME|SPAN");
  command->add_option("--until", typed->until, "And end then")->type_name("TIME|SPAN");
  command->add_option("-f,--filter", typed->filters, "event=, vm= or image=")
      ->type_name("KEY=VALUE");
  command->add_option("--format", typed->format, "text, or json: one object per line")
      ->type_name("FORMAT");
  set_image_action(*command, chosen, {0, 0, ""}, {},
                   [typed](const auto&) { return events(*typed); });
}

}  // namespace sm
