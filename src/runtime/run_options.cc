#include "runtime/run_options.h"

#include <cctype>
#include <charconv>

#include "base/checked.h"

namespace sm {

namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kMinMemory = 64 * kMiB;
constexpr std::uint64_t kMaxMemory = 1ull << 40;

std::optional<std::uint64_t> unit_of(std::string_view suffix) {
  if (suffix.empty() || suffix == "b") return 1;
  if (suffix == "k" || suffix == "kb" || suffix == "kib") return 1ull << 10;
  if (suffix == "m" || suffix == "mb" || suffix == "mib") return 1ull << 20;
  if (suffix == "g" || suffix == "gb" || suffix == "gib") return 1ull << 30;
  return std::nullopt;
}

// Sets NAME in a list of "NAME=value", keeping the place of an existing one.
void set_variable(std::vector<std::string>& env, const std::string& entry) {
  const std::string key = entry.substr(0, entry.find('=') + 1);
  for (std::string& existing : env) {
    if (existing.starts_with(key)) {
      existing = entry;
      return;
    }
  }
  env.push_back(entry);
}

// "K=V" as it is; "K" from the host, nothing when the host has none.
Result<std::optional<std::string>> resolve(const std::string& entry, const HostEnv& host) {
  const auto equals = entry.find('=');
  if (entry.empty() || equals == 0) {
    // What stands behind the sign may be a secret.
    return fail(Code::kInvalidArgument,
                "'" + entry.substr(0, equals == 0 ? 1 : 0) + "' is not an environment variable",
                "write NAME=value, or NAME to take it from this environment");
  }
  if (equals != std::string::npos) return entry;
  auto value = host(entry);
  if (!value) return std::nullopt;
  return entry + "=" + *value;
}

}  // namespace

std::optional<std::uint64_t> parse_byte_count(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string suffix(end, text.data() + text.size());
  for (char& c : suffix) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto unit = unit_of(suffix);
  return error == std::errc() && unit ? checked_mul(number, *unit) : std::nullopt;
}

Result<std::uint64_t> parse_memory_size(const std::string& text) {
  const auto bytes = parse_byte_count(text);
  if (!bytes) {
    return fail(Code::kInvalidArgument, "'" + text + "' is not a memory size",
                "write a number with b, k, m or g, such as 512m");
  }
  if (*bytes < kMinMemory || *bytes > kMaxMemory) {
    return fail(Code::kInvalidArgument, "memory of " + text + " is not possible",
                "use between 64m and 1024g");
  }
  return *align_up(*bytes, kMiB);
}

Result<std::vector<std::string>> parse_env_file(const std::string& text, const std::string& name,
                                                const HostEnv& host) {
  std::vector<std::string> out;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    const auto start = line.find_first_not_of(" \t");
    if (start == std::string::npos || line[start] == '#') continue;
    line.erase(0, start);
    const std::string where = name + ", line " + std::to_string(number);
    if (line.find('\0') != std::string::npos) {
      return fail(Code::kInvalidArgument, where + ": a NUL byte", "env files are text");
    }
    if (auto variable = SM_TRY_WITH(resolve(line, host), where)) out.push_back(*variable);
  }
  return out;
}

Result<agent::ExecRequest> make_request(const RunOptions& options, const ImageConfig& config,
                                        const std::vector<std::string>& file_env,
                                        const HostEnv& host) {
  agent::ExecRequest q;
  q.main = true;
  q.tty = options.tty;
  q.keep_stdin = options.interactive;
  q.create_cwd = true;
  q.cwd = !options.workdir.empty() ? options.workdir : config.working_dir;
  if (q.cwd.empty()) q.cwd = "/";
  if (q.cwd[0] != '/') {
    return fail(Code::kInvalidArgument, "the working directory '" + q.cwd + "' is not absolute",
                "use -w with a path that starts with /");
  }
  q.user = !options.user.empty() ? options.user : config.user;
  q.container = options.container;

  if (options.entrypoint) {
    if (!options.entrypoint->empty()) q.argv.push_back(*options.entrypoint);
  } else {
    q.argv = config.entrypoint;
  }
  const auto& rest = options.command.empty() && !options.entrypoint ? config.cmd : options.command;
  q.argv.insert(q.argv.end(), rest.begin(), rest.end());
  if (q.argv.empty()) {
    return fail(Code::kInvalidArgument, "the image has neither a command nor an entrypoint",
                "add the command to run after the image's name");
  }

  for (const std::string& entry : config.env) {
    if (entry.find('=') != std::string::npos) set_variable(q.env, entry);
  }
  for (const std::string& entry : file_env) set_variable(q.env, entry);
  for (const std::string& entry : options.env) {
    if (auto variable = SM_TRY(resolve(entry, host))) set_variable(q.env, *variable);
  }
  return q;
}

}  // namespace sm
