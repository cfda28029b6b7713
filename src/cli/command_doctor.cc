#include <fmt/format.h>

#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/image_command.h"
#include "cli/output.h"
#include "runtime/doctor.h"

namespace sm {

namespace {

struct Typed {
  std::string format;
  bool quiet = false;
};

void print_json(const Finding& finding) {
  const nlohmann::json line = {{"Subject", finding.subject},
                               {"Ok", finding.ok},
                               {"Text", finding.text},
                               {"Remedy", finding.remedy}};
  fmt::print("{}\n", dump_json(line));
}

void print_text(const Finding& finding) {
  const char* mark = finding.ok ? "ok     " : "MISSING";
  fmt::print("{}  {:<10}  {}\n", mark, finding.subject, finding.text);
  if (!finding.remedy.empty()) fmt::print("         {:<10}  {}\n", "", finding.remedy);
}

int examine(const Typed& typed) {
  const auto json = wants_json(typed.format);
  if (!json) {
    print_error(json.error());
    return kOwnFailure;
  }
  bool healthy = true;
  for (const Finding& finding : examine_host()) {
    healthy = healthy && finding.ok;
    if (typed.quiet && finding.ok) continue;
    *json ? print_json(finding) : print_text(finding);
  }
  return healthy ? 0 : 1;
}

}  // namespace

void add_doctor(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("doctor", "Check whether this machine can run VMs, and say what to do");
  auto typed = std::make_shared<Typed>();
  command->add_option("--format", typed->format, "text, or json: one object per line")
      ->type_name("FORMAT");
  command->add_flag("-q,--quiet", typed->quiet, "Print only what is missing");
  command->footer(
      "Exit status: 0 when VMs can run here, 1 when something is missing.\n"
      "Fields of --format json: Subject, Ok, Text, Remedy.");
  command->callback([&chosen, typed] { chosen = [typed] { return examine(*typed); }; });
}

}  // namespace sm
