#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/container_options.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/transfer_bars.h"
#include "runtime/run_image.h"
#include "runtime/vm_dir.h"

namespace sm {

namespace {

constexpr unsigned long kMaxCpus = 32;
constexpr std::size_t kMaxEnvFile = 1u << 20;

// The options as they were typed.
struct Typed {
  RunOptions options;
  ContainerFlags container;
  std::string memory = "512m";
  std::string cpus = "1";
  std::string pull = "missing";
  std::string platform = "linux/amd64";
  bool quiet = false;
  std::string entrypoint;
  CLI::Option* entrypoint_option = nullptr;
  bool remove = false;
};

std::optional<std::string> host_env(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

Result<std::uint32_t> parse_cpus(const std::string& text) {
  char* end = nullptr;
  const unsigned long n = std::strtoul(text.c_str(), &end, 10);
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || n < 1 || n > kMaxCpus) {
    return fail(Code::kInvalidArgument, "--cpus " + text + ": a VM has 1 to 32 whole CPUs",
                "give a number such as 2");
  }
  return static_cast<std::uint32_t>(n);
}

// The first word that is no option is the image; everything after it belongs to the command.
Status take_image(std::vector<std::string> words, RunOptions& options) {
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  if (words.empty()) {
    return fail(Code::kInvalidArgument, "no image given",
                "name one: supermachine run IMAGE [COMMAND...]");
  }
  if (words[0].size() > 1 && words[0][0] == '-') {
    return fail(Code::kInvalidArgument, "unknown option " + words[0],
                "see `supermachine run --help`; options stand before the image");
  }
  options.image = words[0];
  options.command.assign(words.begin() + 1, words.end());
  return {};
}

// The guest's processor is this machine's.
Result<Platform> parse_run_platform(const std::string& text) {
  auto platform = SM_TRY(parse_platform_text(text));
  if (platform.os == "linux" && platform.architecture == "amd64") return platform;
  return fail(Code::kUnsupported, "--platform " + text + ": VMs run linux/amd64 only",
              "use an image that was built for linux/amd64");
}

Result<RunOutcome> execute(Typed& typed, std::vector<std::string> words) {
  RunOptions& o = typed.options;
  SM_TRY_STATUS(take_image(std::move(words), o));
  o.memory_bytes = SM_TRY(parse_memory_size(typed.memory));
  o.cpus = SM_TRY(parse_cpus(typed.cpus));
  o.pull = SM_TRY(parse_pull_policy(typed.pull));
  o.platform = SM_TRY(parse_run_platform(typed.platform));
  if (typed.entrypoint_option->count() > 0) o.entrypoint = typed.entrypoint;
  if (!o.name.empty()) SM_TRY_STATUS(check_name(o.name));
  o.container = SM_TRY(parse_container_flags(typed.container));
  std::vector<std::string> file_env;
  for (const std::string& path : o.env_files) {
    const std::string text = SM_TRY(read_file(path, kMaxEnvFile));
    auto entries = SM_TRY(parse_env_file(text, path, host_env));
    file_env.insert(file_env.end(), entries.begin(), entries.end());
  }
  TransferBars transfers("pulling " + o.image, typed.quiet);
  LayerProgressBar bar;
  ImageObservers observers{transfers.observer(), bar.observer()};
  // The first converted byte ends the download's lines.
  if (observers.layers) {
    observers.layers = [&transfers, inner = observers.layers](auto... progress) {
      transfers.clear();
      inner(progress...);
    };
  }
  return run_image(o, file_env, host_env, observers);
}

int act(Typed& typed, std::vector<std::string> words) {
  auto outcome = execute(typed, std::move(words));
  if (!outcome) {
    print_error(outcome.error());
    return kOwnFailure;
  }
  if (outcome->error) print_error(*outcome->error);
  return outcome->status;
}

void add_options(CLI::App& command, Typed& t) {
  RunOptions& o = t.options;
  command.add_flag("-i,--interactive", o.interactive, "Keep standard input open");
  command.add_flag("-t,--tty", o.tty, "Give the command a terminal");
  command.add_flag("--rm", t.remove, "Leave nothing behind (always the case at present)");
  const auto one = CLI::MultiOptionPolicy::TakeLast;
  // One value per occurrence: `-e A=1 IMAGE` must not swallow the image.
  command.add_option("-e,--env", o.env, "Set a variable, or pass one on from here")
      ->type_name("K=V|K")
      ->type_size(1)
      ->allow_extra_args(false);
  command.add_option("--env-file", o.env_files, "Read variables from a file, one per line")
      ->type_name("FILE")
      ->type_size(1)
      ->allow_extra_args(false);
  command.add_option("-w,--workdir", o.workdir, "Folder to start in")
      ->type_name("DIR")
      ->multi_option_policy(one);
  command.add_option("-u,--user", o.user, "User (and group) to run as")
      ->type_name("NAME|UID[:GROUP|GID]")
      ->multi_option_policy(one);
  t.entrypoint_option =
      command.add_option("--entrypoint", t.entrypoint, "Replace the image's entrypoint")
          ->type_name("PROGRAM")
          ->multi_option_policy(one);
  command.add_option("-m,--memory", t.memory, "Memory of the VM")
      ->type_name("SIZE")
      ->capture_default_str()
      ->multi_option_policy(one);
  command.add_option("--cpus", t.cpus, "CPUs of the VM")
      ->type_name("N")
      ->capture_default_str()
      ->multi_option_policy(one);
  command.add_option("--name", o.name, "Name of the VM")
      ->type_name("NAME")
      ->multi_option_policy(one);
  command.add_option("-h,--hostname", o.hostname, "Host name in the VM (default: its id)")
      ->type_name("HOST")
      ->multi_option_policy(one);
  command.add_flag(
      "--no-snapshot{false}", o.snapshot,
      "Boot the VM instead of going on from a snapshot of a booted one, and make none");
  command.add_option("--pull", t.pull, "When to fetch the image: missing, always or never")
      ->type_name("POLICY")
      ->capture_default_str()
      ->multi_option_policy(one);
  command.add_option("--platform", t.platform, "Which of the image's variants to take")
      ->type_name("OS/ARCH[/VARIANT]")
      ->capture_default_str()
      ->multi_option_policy(one);
  command.add_flag("-q,--quiet", t.quiet, "Show no progress of a download");
  command.add_option("--engine", o.engine, "CPU engine: auto, kvm or soft")
      ->check(CLI::IsMember({"auto", "kvm", "soft"}))
      ->type_name("ENGINE")
      ->capture_default_str()
      ->multi_option_policy(one);
  command.add_flag("--no-sandbox", o.no_sandbox,
                   "Leave the VM's process unconfined, to debug it (not for untrusted guests)");
}

}  // namespace

void add_run(CLI::App& app, Action& chosen) {
  CLI::App* command = app.add_subcommand(
      "run", "Run a command of an image in a new VM: run [OPTIONS] IMAGE [COMMAND...]");
  auto typed = std::make_shared<Typed>();
  command->set_help_flag("--help", "Print this help and exit");
  command->footer(
      "IMAGE is a name such as debian:12 or host:5000/path@sha256:..., an id of the store, or\n"
      "oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME].\n"
      "The exit status is the command's; 128+N when signal N ended it; 127 when the command was\n"
      "not found, 126 when it could not be executed, 125 when supermachine itself failed.\n\n"
      "Examples:\n"
      "  supermachine run busybox echo hello\n"
      "  supermachine run -it -m 1g --cpus 2 oci:./debian:12 bash\n"
      "  tar c . | supermachine run -i oci:./debian:12 tar t\n");
  add_options(*command, *typed);
  add_container_options(*command, typed->container);
  command->prefix_command();
  command->callback([&chosen, command, typed] {
    chosen = [command, typed] { return act(*typed, command->remaining()); };
  });
}

}  // namespace sm
