// `bake`: a VM of an image, made ready and saved.
#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/run_flags.h"
#include "cli/sizes.h"
#include "cli/transfer_bars.h"
#include "oci/text.h"
#include "runtime/bake/bake_image.h"

namespace sm {

namespace {

struct Typed {
  BakeOptions options;
  std::string memory = "512m";
  std::uint64_t quiesce_ms = 0;
  std::uint64_t limit_seconds = 300;
};

Result<int> execute(Typed& typed, std::vector<std::string> words) {
  BakeOptions& o = typed.options;
  SM_TRY_STATUS(take_subject(std::move(words), {"bake", "IMAGE", "image"}, o.run));
  if (o.folder.empty() == o.tag.empty()) {
    return fail(Code::kInvalidArgument, "a snapshot needs either a folder or a tag",
                "give -o DIR or --tag NAME");
  }
  o.run.memory_bytes = SM_TRY(parse_memory_size(typed.memory));
  o.quiesce = std::chrono::milliseconds(typed.quiesce_ms);
  o.limit = std::chrono::seconds(typed.limit_seconds);
  const auto file_env = SM_TRY(read_env_files(o.run.env_files));
  TransferBars transfers("pulling " + o.run.image, false);
  LayerProgressBar bar;
  const BakeOutcome outcome =
      SM_TRY(bake_image(o, file_env, variable_of_host, {transfers.observer(), bar.observer()}));
  if (outcome.interrupted_by != 0) return 128 + outcome.interrupted_by;
  if (outcome.linked.empty()) {
    fmt::print("{}: {} of memory\n", printable(outcome.path), human_size(outcome.bytes));
  } else {
    fmt::print("{}: the same as {}\n", printable(outcome.path), printable(outcome.linked));
  }
  return 0;
}

void add_options(Command& command, Typed& t) {
  BakeOptions& o = t.options;
  add_command_flags(command, o.run);
  command.add_option("-o,--output", o.folder, "Folder for the snapshot")->type_name("DIR");
  command.add_option("--tag", o.tag, "Keep it in the cache under this name")->type_name("NAME");
  command.add_option("-m,--memory", t.memory, "Memory of the VM")
      ->type_name("SIZE")
      ->capture_default_str();
  command.add_option("--cpus", o.run.cpus, "CPUs of the VM")
      ->range(1u, 32u)
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--ready", o.ready,
                  "When to save: pre-exec (no command runs), listener[:PORT], heartbeat (the "
                  "command writes to $SUPERMACHINE_READY_FILE), after-ms:N")
      ->type_name("WHEN")
      ->capture_default_str();
  command.add_option("--warmup", o.warmup, "Shell command to run before saving; repeatable")
      ->type_name("COMMAND");
  command.add_option("--log", o.output, "File in the guest for the command's output")
      ->type_name("FILE");
  command.add_option("--quiesce-ms", t.quiesce_ms, "Wait so long before saving")
      ->range(0, 3'600'000)
      ->type_name("MS");
  command.add_option("--timeout", t.limit_seconds, "Give up when it is not ready after so long")
      ->range(1, 86'400)
      ->type_name("SECONDS")
      ->capture_default_str();
  command.add_flag("--no-cache", o.no_cache, "Bake even if a tag has the same already");
}

}  // namespace

void add_bake(Command& app, Action& chosen) {
  Command* command = app.add_subcommand(
      "bake", "Save a VM of an image, ready to be restored: bake [OPTIONS] IMAGE [COMMAND...]");
  auto typed = std::make_shared<Typed>();
  add_options(*command, *typed);
  set_run_action(*command, chosen,
                 [typed](auto words) { return execute(*typed, std::move(words)); });
}

}  // namespace sm
