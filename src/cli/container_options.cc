#include "cli/container_options.h"

namespace sm {

namespace {

// One value per occurrence: `--dns 1.1.1.1 IMAGE` must not swallow the image.
void add_list(CLI::App& command, const char* name, std::vector<std::string>& values,
              const char* text, const char* type) {
  command.add_option(name, values, text)->type_name(type)->type_size(1)->allow_extra_args(false);
}

void add_value(CLI::App& command, const char* name, std::string& value, const char* text,
               const char* type) {
  command.add_option(name, value, text)
      ->type_name(type)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

}  // namespace

void add_container_options(CLI::App& command, ContainerFlags& f) {
  add_list(command, "--add-host", f.add_host, "Add a line to /etc/hosts", "NAME:ADDRESS");
  add_list(command, "--dns", f.dns, "Name server, instead of the image's", "ADDRESS");
  add_list(command, "--dns-search", f.dns_search, "Domain to search for short names", "DOMAIN");
  add_list(command, "--dns-option,--dns-opt", f.dns_option, "Option of the resolver", "OPTION");
  add_value(command, "--domainname", f.domainname, "Domain name in the VM", "NAME");
  add_list(command, "--tmpfs", f.tmpfs, "Mount an empty file system in memory", "PATH[:OPTIONS]");
  add_value(command, "--shm-size", f.shm_size, "Size of /dev/shm (default: 64m)", "SIZE");
  command.add_flag("--read-only", f.read_only, "Make the root file system read-only");
  add_list(command, "--sysctl", f.sysctl, "Set a kernel setting of the VM", "NAME=VALUE");
  add_list(command, "--ulimit", f.ulimit, "Limit a resource of each program", "NAME=SOFT[:HARD]");
  add_value(command, "--pids-limit", f.pids_limit, "Most processes at once (-1: no limit)", "N");
  add_value(command, "--oom-score-adj", f.oom_score_adj,
            "Who is ended first when memory runs out, -1000 to 1000", "N");
  add_list(command, "--cap-add", f.cap_add, "Keep a capability that is dropped otherwise", "NAME");
  add_list(command, "--cap-drop", f.cap_drop, "Take a capability from all programs, or ALL",
           "NAME");
  add_list(command, "--group-add", f.group_add, "Further group of the user", "NAME|GID");
  add_list(command, "--security-opt", f.security_opt,
           "no-new-privileges: setuid programs and file capabilities give nothing", "OPTION");
  command.add_flag("--init", f.init, "Run an init process (always the case)");
}

}  // namespace sm
