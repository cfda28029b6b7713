// supermachine: run OCI images as microVMs. Parses the command line, calls the runtime, translates
// back.
#include <exception>
#include <string>

#include "cli/commands.h"
#include "cli/output.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{
      "Run OCI images as microVMs: own kernel, own memory, isolated by hardware\n"
      "or, where there is no usable KVM, by a CPU in software."};
  app.name("supermachine");
  app.set_version_flag("--version", "supermachine " SM_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  sm::Action chosen;
  sm::add_run(app, chosen);
  sm::add_images(app, chosen, "images");
  sm::add_pull(app, chosen);
  sm::add_push(app, chosen);
  sm::add_rmi(app, chosen, "rmi");
  sm::add_tag(app, chosen);
  sm::add_inspect(app, chosen);
  sm::add_history(app, chosen);
  sm::add_save(app, chosen);
  sm::add_load(app, chosen);
  sm::add_image(app, chosen);
  sm::add_system(app, chosen);
  sm::add_doctor(app, chosen);
  sm::add_bake(app, chosen);
  sm::add_restore(app, chosen);
  sm::add_pool(app, chosen);
  sm::add_snapshot(app, chosen);
  sm::add_version(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help and --version
  } catch (const CLI::ParseError& e) {
    const bool known = !app.get_subcommands().empty();
    const std::string command =
        known ? "supermachine " + app.get_subcommands().front()->get_name() : "supermachine";
    const bool misnamed = !known && argc > 1 && argv[1][0] != '-';
    const std::string cause =
        misnamed ? "there is no command '" + std::string(argv[1]) + "'" : std::string(e.what());
    sm::print_error(sm::Error(sm::Code::kInvalidArgument, cause, "see `" + command + " --help`"));
    return sm::kOwnFailure;
  }
  return chosen();
}

}  // namespace

int main(int argc, char** argv) {
  // The libraries for options and JSON may throw; nothing of ours does.
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    sm::print_error(sm::Error(sm::Code::kInternal, e.what()));
    return sm::kOwnFailure;
  }
}
