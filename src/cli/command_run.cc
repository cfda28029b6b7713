#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/container_options.h"
#include "cli/keep_flags.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/run_flags.h"
#include "cli/transfer_bars.h"
#include "cli/vm_start.h"
#include "runtime/keeper/event_log.h"
#include "runtime/keeper/vm_registry.h"
#include "runtime/run_image.h"

namespace sm {

namespace {

constexpr unsigned long kMaxCpus = 32;

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
  Option* entrypoint_option = nullptr;
  KeepFlags keep;
};

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

// The guest's processor is this machine's.
Result<Platform> parse_run_platform(const std::string& text) {
  auto platform = SM_TRY(parse_platform_text(text));
  if (platform.os == "linux" && platform.architecture == "amd64") return platform;
  return fail(Code::kUnsupported, "--platform " + text + ": VMs run linux/amd64 only",
              "use an image that was built for linux/amd64");
}

// The image behind the options, ready to run.
Result<PreparedRun> prepare(Typed& typed, const Command& command, std::vector<std::string> words,
                            const SessionSignals& signals) {
  RunOptions& o = typed.options;
  SM_TRY_STATUS(take_subject(std::move(words), {command.get_name().c_str(), "IMAGE", "image"}, o));
  o.memory_bytes = SM_TRY(parse_memory_size(typed.memory));
  o.cpus = SM_TRY(parse_cpus(typed.cpus));
  o.pull = SM_TRY(parse_pull_policy(typed.pull));
  o.platform = SM_TRY(parse_run_platform(typed.platform));
  if (typed.entrypoint_option->count() > 0) o.entrypoint = typed.entrypoint;
  SM_TRY_STATUS(check_keep_flags(typed.keep));
  SM_TRY(resolve_health(o.health, {}));
  o.container = SM_TRY(parse_container_flags(typed.container));
  const auto file_env = SM_TRY(read_env_files(o.env_files));
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
  return prepare_run(o, file_env, variable_of_host, signals, observers);
}

// The command line once more, in a form that the same options understand.
std::vector<std::string> words_again(const Command& command) {
  std::vector<std::string> out;
  for (const Option* option : command.get_options()) {
    if (option->count() == 0) continue;
    const auto& names = option->get_lnames();
    const std::string name = names.empty() ? "-" + option->get_snames()[0] : "--" + names[0];
    for (const std::string& value : option->results()) {
      // An empty value must be a word of its own.
      out.push_back(value.empty() ? name : name + "=" + value);
      if (value.empty()) out.emplace_back();
    }
  }
  const auto rest = command.remaining();
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

Result<int> execute(Typed& typed, const Command& command) {
  const SessionSignals signals;
  PreparedRun run = SM_TRY(prepare(typed, command, command.remaining(), signals));
  if (run.image.interrupted_by != 0) return 128 + run.image.interrupted_by;
  const KeepFlags& keep = typed.keep;
  VmRecord record = SM_TRY(make_record(keep, run, words_again(command)));
  const VmRegistry registry = SM_TRY(VmRegistry::open());
  KeeperClaim claim = SM_TRY(claim_new(registry, std::move(record)));
  const std::string id = claim.held.record.id;
  if (!keep.cidfile.empty()) {
    if (auto written = write_file_atomic(keep.cidfile, id); !written) {
      SM_TRY_STATUS(registry.remove(std::move(claim.held)));
      return fail(std::move(written).error());
    }
  }
  EventLog(registry.folder()).add(claim.held.record, "create");
  RunOutcome outcome = start_vm(registry, std::move(claim), std::move(run), !keep.detach, signals);
  if (keep.detach && outcome.status == 0 && !outcome.error) fmt::print("{}\n", id);
  if (outcome.error) print_error(*outcome.error);
  return outcome.status;
}

// The record alone: what `start` needs.
Result<int> create(Typed& typed, const Command& command) {
  const SessionSignals signals;
  const PreparedRun run = SM_TRY(prepare(typed, command, command.remaining(), signals));
  if (run.image.interrupted_by != 0) return 128 + run.image.interrupted_by;
  const KeepFlags& keep = typed.keep;
  const VmRegistry registry = SM_TRY(VmRegistry::open());
  HeldRecord held = SM_TRY(registry.create(SM_TRY(make_record(keep, run, words_again(command)))));
  if (!keep.cidfile.empty()) {
    if (auto written = write_file_atomic(keep.cidfile, held.record.id); !written) {
      SM_TRY_STATUS(registry.remove(std::move(held)));
      return fail(std::move(written).error());
    }
  }
  EventLog(registry.folder()).add(held.record, "create");
  held.release();
  fmt::print("{}\n", held.record.id);
  return 0;
}

void add_options(Command& command, Typed& t, bool detach) {
  RunOptions& o = t.options;
  command.add_flag("-i,--interactive", o.interactive, "Keep standard input open");
  command.add_flag("-t,--tty", o.tty, "Give the command a terminal");
  add_command_flags(command, o);
  t.entrypoint_option =
      command.add_option("--entrypoint", t.entrypoint, "Replace the image's entrypoint")
          ->type_name("PROGRAM");
  command.add_option("-m,--memory", t.memory, "Memory of the VM")
      ->type_name("SIZE")
      ->capture_default_str();
  command.add_option("--cpus", t.cpus, "CPUs of the VM")->type_name("N")->capture_default_str();
  add_keep_flags(command, t.keep, detach);
  add_health_flags(command, o.health);
  command.add_option("-h,--hostname", o.hostname, "Host name in the VM (default: its id)")
      ->type_name("HOST");
  command.add_flag(
      "--no-snapshot{false}", o.snapshot,
      "Boot the VM instead of going on from a snapshot of a booted one, and make none");
  command.add_option("--pull", t.pull, "When to fetch the image: missing, always or never")
      ->type_name("POLICY")
      ->capture_default_str();
  command.add_option("--platform", t.platform, "Which of the image's variants to take")
      ->type_name("OS/ARCH[/VARIANT]")
      ->capture_default_str();
  command.add_flag("-q,--quiet", t.quiet, "Show no progress of a download");
  command.add_flag("--no-sandbox", o.no_sandbox,
                   "Leave the VM's process unconfined, to debug it (not for untrusted guests)");
}

}  // namespace

void add_run(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "run", "Run a command of an image in a new VM: run [OPTIONS] IMAGE [COMMAND...]");
  auto typed = std::make_shared<Typed>();
  command->set_help_flag("--help", "Print this help and exit");
  command->footer(
      "IMAGE is a name such as debian:12 or host:5000/path@sha256:..., an id of the store, or\n"
      "oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME].\n"
      "The exit status is the command's; 128+N when signal N ended it; 127 when the command was\n"
      "not found, 126 when it could not be executed, 125 when supermachine itself failed.\n");
  add_options(*command, *typed, /*detach=*/true);
  add_container_options(*command, typed->container);
  set_run_action(*command, chosen,
                 [command, typed](const auto&) { return execute(*typed, *command); });
}

void add_create(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "create", "Make a VM that `start` will run: create [OPTIONS] IMAGE [COMMAND...]");
  auto typed = std::make_shared<Typed>();
  command->set_help_flag("--help", "Print this help and exit");
  command->footer(
      "Prints the VM's id. IMAGE and options are those of `run`; the image is fetched now.\n");
  add_options(*command, *typed, /*detach=*/false);
  add_container_options(*command, typed->container);
  set_run_action(*command, chosen,
                 [command, typed](const auto&) { return create(*typed, *command); });
}

Result<PreparedRun> prepare_again(const VmRecord& record, const SessionSignals& signals) {
  Command command("run", "");
  command.set_help_flag("--help", "");
  Typed typed;
  add_options(command, typed, /*detach=*/true);
  add_container_options(command, typed.container);
  command.prefix_command();
  bool help = false;
  const auto parsed = command.parse(record.words, help);
  if (!parsed || help) {
    return fail(Code::kUnsupported,
                "the options of the VM are not understood: " +
                    (parsed ? std::string("--help") : parsed.error().cause()),
                "start it with the supermachine that made it, or make a new one");
  }
  // What it was made with exists: neither a new --cidfile nor an --env-file is meant.
  typed.keep = {};
  typed.options.env_files.clear();
  auto words = command.remaining();
  if (!words.empty() && words[0] == "--") words.erase(words.begin());
  const bool stored = !record.image.starts_with("oci:") &&
                      !record.image.starts_with("oci-archive:") &&
                      !record.image.starts_with("docker-archive:");
  // Paths of images were typed there.
  if (!stored && ::chdir(record.folder.c_str()) < 0) {
    return fail_errno("enter " + record.folder, errno);
  }
  const auto colon = record.image_digest.find(':');
  if (stored && !words.empty()) words[0] = record.image_digest.substr(colon + 1);
  typed.pull = stored ? "never" : typed.pull;
  PreparedRun run = SM_TRY(prepare(typed, command, std::move(words), signals));
  if (run.image.interrupted_by != 0) return run;
  if (run.image.digest != record.image_digest) {
    return fail(Code::kNotFound,
                record.image + " is not the image any more that the VM was made of",
                "make a new VM");
  }
  agent::FrameParser parser;
  parser.feed(as_byte_span(record.request));
  const auto frame = SM_TRY(parser.next());
  if (!frame) return fail(Code::kCorrupt, "the record holds no request");
  run.request = SM_TRY(agent::decode_exec(frame->payload));
  return run;
}

}  // namespace sm
