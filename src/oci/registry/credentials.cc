// Reading auth files; speaking to docker-credential-* helpers.
#include "oci/registry/credentials.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/image_name.h"
#include "oci/json.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::size_t kMaxAuthFile = 4U << 20U;
constexpr std::size_t kMaxHelperAnswer = 1U << 20U;
constexpr std::size_t kMaxBase64 = 1U << 20U;

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > kMaxBase64) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  out.resize(static_cast<std::size_t>(size) - std::min<std::size_t>(padding, out.size()));
  while (!out.empty() && out.back() == '\0') out.pop_back();  // some writers pad with NUL
  return out;
}

// "https://host/v1/" and "host" mean the same; containers' files add a path of the repository.
std::string canonical_key(std::string_view key) {
  if (key == kDefaultRegistryAuthKey || key == "index.docker.io")
    return std::string(kDefaultRegistry);
  bool has_scheme = false;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (!key.starts_with(scheme)) continue;
    key.remove_prefix(scheme.size());
    has_scheme = true;
  }
  if (has_scheme) key = key.substr(0, key.find('/'));
  while (key.ends_with('/')) key.remove_suffix(1);
  return key == "index.docker.io" ? std::string(kDefaultRegistry) : std::string(key);
}

bool is_clean(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

Result<std::optional<Credential>> parse_auth(const Json& entry, const std::string& what) {
  if (!entry.is_object()) return fail(Code::kCorrupt, what + " is not an object");
  Credential out;
  out.user = SM_TRY(json_text(entry, "username", what));
  out.password = SM_TRY(json_text(entry, "password", what));
  out.identity_token = SM_TRY(json_text(entry, "identitytoken", what));
  const auto packed = SM_TRY(json_text(entry, "auth", what));
  if (!packed.empty()) {
    const auto plain = decode_base64(packed);
    const auto colon = plain ? plain->find(':') : std::string::npos;
    if (colon == std::string::npos) {
      return fail(Code::kCorrupt, what + ": its \"auth\" is not the base64 of USER:PASSWORD",
                  "log in again");
    }
    out.user = plain->substr(0, colon);
    out.password = plain->substr(colon + 1);
  }
  if (!is_clean(out.user) || !is_clean(out.password) || !is_clean(out.identity_token)) {
    return fail(Code::kCorrupt, what + " holds control characters", "log in again");
  }
  if (out.user.empty() && out.identity_token.empty()) return std::optional<Credential>();
  return std::optional<Credential>(std::move(out));
}

bool is_helper_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), fits);
}

Status check_helper(const std::string& name, const std::string& path) {
  if (name.empty() || is_helper_name(name)) return {};
  return fail(Code::kInvalidArgument,
              path + ": \"" + printable(name) + "\" cannot be the name of a credential helper");
}

// A helper under way: a socket as its standard input and output. Killed when it is left running.
class Helper {
 public:
  Helper() = default;
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  Helper(Helper&&) = delete;
  Helper& operator=(Helper&&) = delete;
  ~Helper() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }

  Status start(const std::string& program) {
    int in[2] = {-1, -1};
    int out[2] = {-1, -1};
    // A socket for its input: writing to one that was left does not raise SIGPIPE.
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0)
      return fail_errno("socketpair", errno);
    input_ = UniqueFd(in[0]);
    const UniqueFd its_input(in[1]);
    if (::pipe2(out, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
    output_ = UniqueFd(out[0]);
    const UniqueFd its_output(out[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, its_input.get(), 0);
    ::posix_spawn_file_actions_adddup2(&actions, its_output.get(), 1);
    std::string name = program;
    std::string verb = "get";
    const std::array<char*, 3> argv = {name.data(), verb.data(), nullptr};
    const int error =
        ::posix_spawnp(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error == 0) return {};
    pid_ = -1;
    return fail(std::move(Error::from_errno("start " + program, error))
                    .or_remedy("install the helper, or take it out of the file"));
  }

  Status send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(input_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) break;  // it did not want to read; its answer tells
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    input_.reset();
    return {};
  }

  Result<std::string> answer(const Deadline& deadline, const std::string& program) {
    std::string out;
    std::array<char, 4096> buffer;
    while (true) {
      pollfd poll{output_.get(), POLLIN, 0};
      const int ready = ::poll(&poll, 1, deadline.poll_timeout_ms());
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return fail(Code::kTimeout, program + " did not answer in time");
      const ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return out;
      out.append(buffer.data(), static_cast<std::size_t>(n));
      if (out.size() > kMaxHelperAnswer) return fail(Code::kLimit, program + " answers too much");
    }
  }

  // Its exit status; -1 when a signal ended it. It closed its output, so the rest is short; one
  // that goes on is killed at the deadline.
  int finish(const Deadline& deadline) {
    output_.reset();
    while (true) {
      int status = 0;
      const pid_t got = ::waitpid(pid_, &status, WNOHANG);
      if (got == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      }
      if (deadline.passed()) return -1;
      ::poll(nullptr, 0, 5);
    }
  }

 private:
  void wait() {
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  pid_t pid_ = -1;
  UniqueFd input_;
  UniqueFd output_;
};

Result<std::optional<Credential>> ask_helper(const std::string& name, const std::string& server,
                                             Duration limit) {
  const auto program = "docker-credential-" + name;
  const auto deadline = Deadline::after(limit);
  Helper helper;
  SM_TRY_STATUS(helper.start(program));
  SM_TRY_STATUS(helper.send(server + "\n"));
  const auto text = SM_TRY(helper.answer(deadline, program));
  const int status = helper.finish(deadline);
  if (status == 0) return parse_helper_answer(text, program);
  // The protocol's only error texts that mean "none".
  for (const std::string_view none :
       {"credentials not found", "no credentials server URL", "no credentials username"}) {
    if (text.find(none) != std::string::npos) return std::optional<Credential>();
  }
  return fail(Code::kPermission, program + " failed: " + printable(text),
              "log in again, or unlock the helper's store");
}

// "host/a/b", "host/a", "host".
std::vector<std::string> keys_of(const std::string& registry, const std::string& repository) {
  std::vector<std::string> keys;
  auto key = repository.empty() ? registry : registry + "/" + repository;
  while (true) {
    keys.push_back(key);
    const auto slash = key.rfind('/');
    if (slash == std::string::npos) return keys;
    key.resize(slash);
  }
}

std::string server_name(const std::string& registry) {
  return registry == kDefaultRegistry ? std::string(kDefaultRegistryAuthKey) : registry;
}

}  // namespace

Result<AuthFile> parse_auth_file(std::string_view text, const std::string& path) {
  const auto json = SM_TRY(parse_json_object(text, path));
  AuthFile out;
  out.path = path;
  out.store = SM_TRY(json_text(json, "credsStore", path));
  SM_TRY_STATUS(check_helper(out.store, path));
  if (const Json* helpers = json_field(json, "credHelpers")) {
    if (!helpers->is_object())
      return fail(Code::kCorrupt, path + ": \"credHelpers\" is not an object");
    for (const auto& [host, value] : helpers->items()) {
      const auto* name = value.get_ptr<const std::string*>();
      if (name == nullptr)
        return fail(Code::kCorrupt, path + ": a helper of \"credHelpers\" is not a text");
      SM_TRY_STATUS(check_helper(*name, path));
      out.helpers[canonical_key(host)] = *name;
    }
  }
  if (const Json* auths = json_field(json, "auths")) {
    if (!auths->is_object()) return fail(Code::kCorrupt, path + ": \"auths\" is not an object");
    for (const auto& [key, value] : auths->items()) {
      auto auth = SM_TRY(parse_auth(value, path + ": the entry \"" + printable(key) + "\""));
      if (auth) out.auths[canonical_key(key)] = *std::move(auth);
    }
  }
  return out;
}

Result<std::optional<Credential>> parse_helper_answer(std::string_view text,
                                                      const std::string& helper) {
  const auto what = "the answer of " + helper;
  const auto json = SM_TRY(parse_json_object(text, what));
  const auto user = SM_TRY(json_text(json, "Username", what));
  auto secret = SM_TRY(json_text(json, "Secret", what));
  if (!is_clean(user) || !is_clean(secret))
    return fail(Code::kCorrupt, what + " holds control characters");
  if (user.empty()) return std::optional<Credential>();
  Credential out;
  if (user == "<token>") {
    out.identity_token = std::move(secret);
  } else {
    out.user = user;
    out.password = std::move(secret);
  }
  return std::optional<Credential>(std::move(out));
}

Result<std::optional<Credential>> CredentialStore::find(const std::string& registry,
                                                        const std::string& repository) const {
  for (const auto& path : paths_) {
    auto text = read_file(path, kMaxAuthFile);
    if (!text && text.error().code() == Code::kNotFound) continue;
    if (!text) return fail(std::move(text).error());
    const auto file = SM_TRY(parse_auth_file(*text, path));
    std::string helper = file.store;
    const auto own = file.helpers.find(registry);
    if (own != file.helpers.end()) helper = own->second;
    if (own == file.helpers.end()) {
      for (const auto& key : keys_of(registry, repository)) {
        const auto found = file.auths.find(key);
        if (found != file.auths.end()) return std::optional(found->second);
      }
    }
    if (helper.empty()) continue;
    auto answer = SM_TRY_WITH(ask_helper(helper, server_name(registry), helper_deadline_), path);
    if (answer) return answer;
  }
  return std::optional<Credential>();
}

}  // namespace sm
