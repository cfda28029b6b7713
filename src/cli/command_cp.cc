// `cp`: files and folders into a VM and out of it, as tar streams through the guest's `tar`.
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
#include <span>
#include <tuple>

#include "cli/image_command.h"
#include "cli/output.h"
#include "cli/vm_command.h"
#include "cli/vm_commands.h"
#include "runtime/client/tar_tree.h"

namespace sm {

namespace {

namespace fs = std::filesystem;

// `supermachine exec VM COMMAND...` with one stream of it as a pipe to us.
class ExecPipe {
 public:
  static Result<ExecPipe> start(const std::string& vm, const std::vector<std::string>& command,
                                bool into) {
    int fds[2] = {-1, -1};
    if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
    UniqueFd ours(fds[into ? 1 : 0]);
    const UniqueFd theirs(fds[into ? 0 : 1]);
    std::vector<std::string> words = {"supermachine", "exec"};
    if (into) words.emplace_back("-i");
    words.insert(words.end(), {"-u", "0", "-w", "/", vm});
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
  if (out.path == "-") {
    return fail(Code::kUnsupported, "tar streams on standard streams are not supported",
                "use `supermachine exec VM tar ...`");
  }
  return out;
}

// Folder and last component; a path that ends in none, such as "/" or "x/.", is refused.
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

Status copy_out(const Place& from, const std::string& to) {
  const auto [folder, name] = SM_TRY(split(from.path));
  std::string into = to;
  std::string as = name;
  std::error_code ignored;
  if (!fs::is_directory(to, ignored)) std::tie(into, as) = SM_TRY(split(to));
  auto tar = SM_TRY(ExecPipe::start(from.vm, {"tar", "-C", folder, "-cf", "-", "--", name}, false));
  PipeStream stream(tar.fd());
  auto done = unpack_tree(stream, into, as);
  const int status = tar.finish();
  if (status != 0) {
    return fail(Code::kGuest, "the VM's tar ended with status " + std::to_string(status));
  }
  if (!done) return fail(std::move(done).error());
  if (done->skipped > 0) {
    print_warning(fmt::format("{} entries that are neither files, folders nor links were left out",
                              done->skipped));
  }
  return {};
}

Status copy_in(const std::string& from, const Place& to) {
  const auto source = SM_TRY(split(from));
  const std::string path = source.first + "/" + source.second;
  struct stat st {};
  if (::lstat(path.c_str(), &st) < 0) return fail_errno(from, errno);
  auto probe = SM_TRY(ExecPipe::start(to.vm, {"test", "-d", to.path}, false));
  const int is_folder = probe.finish();
  if (is_folder != 0 && is_folder != 1) return fail(Code::kGuest, "the VM cannot be asked");
  std::string into = to.path;
  std::string as = source.second;
  if (is_folder == 1) std::tie(into, as) = SM_TRY(split(to.path));
  auto tar = SM_TRY(ExecPipe::start(to.vm, {"tar", "-C", into, "-xf", "-"}, true));
  // A tar that ends early must not end us.
  ::signal(SIGPIPE, SIG_IGN);
  auto packed = pack_tree(path, as, tar.fd());
  const int status = tar.finish();
  if (status != 0) {
    return fail(Code::kGuest, "the VM's tar ended with status " + std::to_string(status));
  }
  return packed;
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
  command->footer("The image needs a `tar`. Owners stay behind; in the VM all is root's.");
  set_image_action(*command, chosen, {2, 2, "from where, and to where"},
                   {"-a", "--archive", "-L", "--follow-link", "-q", "--quiet"},
                   [](const auto& words) { return copy(words); });
}

}  // namespace sm
