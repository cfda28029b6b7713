#include <fmt/format.h>

#include "cli/commands.h"
#include "runtime/doctor.h"

namespace sm {

void add_doctor(CLI::App& app, Action& chosen) {
  CLI::App* command =
      app.add_subcommand("doctor", "Check whether this machine can run VMs, and say what to do");
  command->footer("Exit status: 0 when VMs can run here, 1 when something is missing.");
  command->callback([&chosen] {
    chosen = [] {
      bool healthy = true;
      for (const Finding& finding : examine_host()) {
        const char* mark = finding.ok ? "ok     " : "MISSING";
        fmt::print("{}  {:<10}  {}\n", mark, finding.subject, finding.text);
        if (!finding.remedy.empty()) fmt::print("         {:<10}  {}\n", "", finding.remedy);
        healthy = healthy && finding.ok;
      }
      return healthy ? 0 : 1;
    };
  });
}

}  // namespace sm
