// `cp`: files and folders into a VM and out of it, as tar streams of the agent's own programs.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <tuple>

#include "base/file.h"
#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/client/tar_tree.h"

namespace sm {

namespace {

namespace fs = std::filesystem;

// `supermachine __agent VM PROGRAM...` with one stream of it as a pipe to us.
class ExecPipe {
 public:
  static Result<ExecPipe> start(const std::string& vm, const std::vector<std::string>& command,
                                bool into) {
    int fds[2] = {-1, -1};
    if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
    UniqueFd ours(fds[into ? 1 : 0]);
    const UniqueFd theirs(fds[into ? 0 : 1]);
    std::vector<std::string> words = {"supermachine", kAgentCommand, into ? "in" : "out", vm};
    words.insert(words.end(), command.begin(), command.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), into ? 0 : 1);
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail_errno("start exec", error);
    return ExecPipe(std::move(ours), pid);
  }
  ExecPipe(ExecPipe&& other) noexcept
      : fd_(std::move(other.fd_)), pid_(std::exchange(other.pid_, -1)) {}
  ExecPipe& operator=(ExecPipe&&) = delete;
  ExecPipe(const ExecPipe&) = delete;
  ExecPipe& operator=(const ExecPipe&) = delete;
  ~ExecPipe() { finish(); }

  int fd() const { return fd_.get(); }
  // What it still has to say or does not end for is of no interest.
  void abandon() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }
  // Closes the pipe and gives the exit status of the command.
  int finish() {
    fd_.reset();
    if (pid_ < 0) return 0;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  ExecPipe(UniqueFd fd, pid_t pid) : fd_(std::move(fd)), pid_(pid) {}
  UniqueFd fd_;
  pid_t pid_;
};

class PipeStream final : public ByteStream {
 public:
  explicit PipeStream(int fd) : fd_(fd) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    for (;;) {
      const ssize_t n = ::read(fd_, out.data(), out.size());
      if (n >= 0) return static_cast<std::size_t>(n);
      if (errno != EINTR) return fail_errno("read from the VM", errno);
    }
  }

 private:
  int fd_;
};

struct Place {
  std::string vm;  // empty: this host
  std::string path;
};

// As Docker has it: a colon names a VM unless a slash or a dot comes first.
Result<Place> parse_place(const std::string& text) {
  const auto colon = text.find(':');
  const bool here = colon == std::string::npos || text[0] == '/' || text[0] == '.';
  Place out{here ? "" : text.substr(0, colon), here ? text : text.substr(colon + 1)};
  if (!here && out.vm.empty()) return fail(Code::kInvalidArgument, "'" + text + "' names no VM");
  if (!here && (out.path.empty() || out.path[0] != '/')) out.path.insert(0, "/");
  return out;
}

// "x/.": what is in the folder x. Gives x.
std::optional<std::string> contents_of(const std::string& path) {
  if (path == ".") return path;
  if (!path.ends_with("/.")) return std::nullopt;
  return path.size() == 2 ? "/" : path.substr(0, path.size() - 2);
}

// Folder and last component; a path that ends in none, such as "/", is refused.
Result<std::pair<std::string, std::string>> split(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const auto slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return fail(Code::kUnsupported, "'" + path + "' has no last name", "name a file or a folder");
  }
  std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  return std::pair(std::move(folder), std::move(name));
}

Status guest_failure(int status) {
  return fail(Code::kGuest, "the copy ended in the VM with status " + std::to_string(status));
}

// The rest of an archive is padding; a guest may go on for ever.
bool ends_soon(PipeStream& stream) {
  constexpr std::size_t kLimit = 1U << 20U;
  std::array<std::byte, 4096> rest;
  for (std::size_t seen = 0; seen < kLimit;) {
    const auto n = stream.read(rest);
    if (!n || *n == 0) return true;
    seen += *n;
  }
  return false;
}

// A folder that exists is copied into; any other path is what the copy is called. With nothing but
// what is in a folder the target is the folder, and is made.
struct Target {
  std::string folder;
  std::string name;
};

Result<Target> target_here(const std::string& to, const std::optional<std::string>& contents,
                           const std::string& name) {
  std::error_code error;
  if (contents) {
    fs::create_directory(to, error);
    if (error) return fail_errno("make " + to, error.value());
    return Target{to, ""};
  }
  if (fs::is_directory(to, error)) return Target{to, name};
  auto [folder, as] = SM_TRY(split(to));
  return Target{std::move(folder), std::move(as)};
}

// The guest's stream as it is.
Status stream_out(const Place& from, const std::string& folder, const std::string& name) {
  auto tar = SM_TRY(ExecPipe::start(from.vm, {"pack", folder, name}, false));
  PipeStream stream(tar.fd());
  std::array<std::byte, 64U << 10U> buffer;
  for (;;) {
    const std::size_t n = SM_TRY(stream.read(buffer));
    if (n == 0) break;
    if (const auto written = write_all(STDOUT_FILENO, std::span(buffer).first(n)); !written) {
      tar.abandon();
      return written;
    }
  }
  const int status = tar.finish();
  return status == 0 ? Status() : guest_failure(status);
}

Status stream_in(const Place& to) {
  auto tar = SM_TRY(ExecPipe::start(to.vm, {"unpack", to.path}, true));
  ::signal(SIGPIPE, SIG_IGN);
  PipeStream input(STDIN_FILENO);
  std::array<std::byte, 64U << 10U> buffer;
  Status written;
  while (written) {
    const std::size_t n = SM_TRY(input.read(buffer));
    if (n == 0) break;
    written = write_all(tar.fd(), std::span(buffer).first(n));
  }
  const int status = tar.finish();
  return status == 0 ? written : guest_failure(status);
}

Status copy_out(const Place& from, const std::string& to) {
  const auto contents = contents_of(from.path);
  std::string folder = contents.value_or("");
  std::string name = ".";
  if (!contents) std::tie(folder, name) = SM_TRY(split(from.path));
  if (to == "-") return stream_out(from, folder, name);
  const Target target = SM_TRY(target_here(to, contents, name));
  auto tar = SM_TRY(ExecPipe::start(from.vm, {"pack", folder, name}, false));
  PipeStream stream(tar.fd());
  auto done = unpack_tree(stream, target.folder, target.name);
  // What is wrong with the archive may be because the guest failed; then its status says more.
  const bool ours = !done && done.error().code() != Code::kCorrupt;
  const bool whole = !ours && ends_soon(stream);
  if (!whole) tar.abandon();
  const int status = tar.finish();
  if (whole && status != 0) return guest_failure(status);
  if (!done) return fail(std::move(done).error());
  if (!whole) return fail(Code::kGuest, "the VM's archive does not end");
  if (done->skipped > 0) {
    print_warning(fmt::format("{} entries that are neither files, folders nor links were left out",
                              done->skipped));
  }
  return {};
}

// The exit status of a command in the VM.
Result<int> ask_guest(const std::string& vm, const std::vector<std::string>& command) {
  return SM_TRY(ExecPipe::start(vm, command, false)).finish();
}

Result<Target> target_there(const Place& to, const std::optional<std::string>& contents,
                            const std::string& name) {
  const int is_folder = SM_TRY(ask_guest(to.vm, {"is-folder", to.path}));
  if (is_folder != 0 && is_folder != 1) return fail(Code::kGuest, "the VM cannot be asked");
  if (contents) {
    const int made = is_folder == 0 ? 0 : SM_TRY(ask_guest(to.vm, {"make-folder", to.path}));
    if (made != 0) return fail(Code::kGuest, "the VM cannot make " + to.path);
    return Target{to.path, ""};
  }
  if (is_folder == 0) return Target{to.path, name};
  auto [folder, as] = SM_TRY(split(to.path));
  return Target{std::move(folder), std::move(as)};
}

Status copy_in(const std::string& from, const Place& to) {
  if (from == "-") return stream_in(to);
  const auto contents = contents_of(from);
  std::string path;
  std::string name;
  if (contents) {
    path = *contents;
  } else {
    std::tie(path, name) = SM_TRY(split(from));
    path += "/" + name;
  }
  struct stat st {};
  if (::lstat(path.c_str(), &st) < 0) return fail_errno(from, errno);
  const Target target = SM_TRY(target_there(to, contents, name));
  auto tar = SM_TRY(ExecPipe::start(to.vm, {"unpack", target.folder}, true));
  // A guest that ends early must not end us.
  ::signal(SIGPIPE, SIG_IGN);
  auto packed = pack_tree(path, target.name, tar.fd());
  const int status = tar.finish();
  return status == 0 ? packed : guest_failure(status);
}

Status copy(const std::vector<std::string>& words) {
  const Place from = SM_TRY(parse_place(words[0]));
  const Place to = SM_TRY(parse_place(words[1]));
  if (from.vm.empty() == to.vm.empty()) {
    return fail(Code::kInvalidArgument, "one of the two must be in a VM, the other here",
                "write VM:PATH for the one in the VM");
  }
  const auto registry = SM_TRY(VmRegistry::open());
  SM_TRY_STATUS(check_running(SM_TRY(registry.find(from.vm.empty() ? to.vm : from.vm))));
  return to.vm.empty() ? copy_out(from, to.path) : copy_in(words[0], to);
}

}  // namespace

void add_cp(Command& app, Action& chosen) {
  Command* command =
      app.add_subcommand("cp", "Copy files and folders: cp VM:PATH PATH, or cp PATH VM:PATH");
  command->footer(
      "PATH/. is what is in a folder, - a tar stream on standard input or output. Owners stay "
      "behind, and in the VM all is root's; but for tar streams, which are unpacked as they are.");
  set_image_action(*command, chosen, {2, 2, "from where, and to where"},
                   {"-a", "--archive", "-L", "--follow-link", "-q", "--quiet"},
                   [](const auto& words) { return copy(words); });
}

}  // namespace sm
