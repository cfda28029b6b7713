// supermachine-worker: the process that is one VM.
#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "runtime/worker/worker.h"

namespace {

sm::LogLevel log_level() {
  const char* text = ::getenv("SUPERMACHINE_LOG");
  return sm::parse_log_level(text == nullptr ? "warning" : text).value_or(sm::LogLevel::kWarning);
}

int run(const std::vector<std::string>& words) {
  const auto options = sm::parse_worker_options(words);
  if (!options) {
    fmt::print(stderr, "{}\n  {}\n", options.error().cause(), options.error().remedy());
    return 2;
  }
  if (options->version) {
    fmt::print("supermachine-worker {}\n", SM_VERSION);
    return 0;
  }
  if (options->help) {
    fmt::print("{}", sm::worker_help());
    return 0;
  }
  const bool has_vm = !options->kernel.empty() || !options->restore_from.empty();
  if (!has_vm && !options->pool_worker) return sm::prove_engine();
  sm::Log log("supermachine-worker", log_level());
  return sm::run_worker(*options, log);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    fmt::print(stderr, "supermachine-worker: {}\n", e.what());
    return 2;
  }
}
