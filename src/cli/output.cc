#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace sm {

namespace {

bool use_colour() { return ::isatty(STDERR_FILENO) == 1 && ::getenv("NO_COLOR") == nullptr; }

}  // namespace

void print_error(const Error& error) {
  const bool colour = use_colour();
  fmt::print(stderr, "{}supermachine: error:{} {}\n", colour ? "\x1b[31m" : "",
             colour ? "\x1b[0m" : "", error.cause());
  if (!error.remedy().empty()) fmt::print(stderr, "  {}\n", error.remedy());
}

void print_warning(const std::string& text) {
  fmt::print(stderr, "supermachine: warning: {}\n", text);
}

}  // namespace sm
