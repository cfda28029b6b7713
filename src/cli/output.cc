#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace sm {

namespace {

// Set once, before the command begins and any thread of its.
bool json_errors = false;

// As no-color.org has it: set, to anything but the empty word.
bool no_colour_wanted() {
  const char* value = ::getenv("NO_COLOR");
  return value != nullptr && value[0] != '\0';
}

bool use_colour() { return ::isatty(STDERR_FILENO) == 1 && !no_colour_wanted(); }

// What a guest or a registry has said may be in it: no terminal is to obey that.
std::string plain(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool control = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    out += control ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return out;
}

}  // namespace

void set_json_errors(bool on) { json_errors = on; }

void print_error(const Error& error) {
  if (json_errors) {
    const nlohmann::ordered_json line = {
        {"code", code_name(error.code())}, {"cause", error.cause()}, {"remedy", error.remedy()}};
    fmt::print(stderr, "{}\n",
               line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return;
  }
  const bool colour = use_colour();
  fmt::print(stderr, "{}supermachine: error:{} {}\n", colour ? "\x1b[31m" : "",
             colour ? "\x1b[0m" : "", plain(error.cause()));
  if (!error.remedy().empty()) fmt::print(stderr, "  {}\n", plain(error.remedy()));
}

void print_warning(const std::string& text) {
  fmt::print(stderr, "supermachine: warning: {}\n", plain(text));
}

}  // namespace sm
