#include "agent/own_program.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/child_status.h"
#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {

namespace {

using Main = int (*)(const Arguments& arguments);

// is-folder PATH: status 0 or 1.
int is_folder_main(const Arguments& arguments) {
  struct stat st {};
  return ::stat(arguments[0].c_str(), &st) == 0 && S_ISDIR(st.st_mode) ? 0 : 1;
}

// make-folder PATH
int make_folder_main(const Arguments& arguments) {
  if (::mkdir(arguments[0].c_str(), 0755) == 0) return 0;
  complain(arguments[0], errno);
  return 1;
}

struct OwnProgram {
  const char* name;
  Main main;
  std::size_t least;  // arguments
  std::size_t most;
};

constexpr OwnProgram kPrograms[] = {
    {"pack", pack_main, 2, 2},
    {"unpack", unpack_main, 1, 1},
    {"is-folder", is_folder_main, 1, 1},
    {"make-folder", make_folder_main, 1, 1},
    {"processes", processes_main, 1, 64},
};

}  // namespace

void complain(const std::string& what, int errno_value) {
  std::string line = "supermachine: " + what;
  if (errno_value != 0) line += std::string(": ") + std::strerror(errno_value);
  line += "\n";
  static_cast<void>(write_all(STDERR_FILENO, as_byte_span(line)));
}

void run_own_program(const ExecPlan& plan, const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  ::setsid();
  const Arguments arguments(plan.argv.begin() + 1, plan.argv.end());
  for (const OwnProgram& program : kPrograms) {
    if (plan.argv[0] != program.name) continue;
    if (arguments.size() < program.least || arguments.size() > program.most) break;
    // Who reads our output may leave.
    sigset_t none;
    ::sigemptyset(&none);
    ::signal(SIGPIPE, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::umask(0);
    if (::chdir("/") < 0) fail_child(agent::ErrorKind::kWorkdir, errno, "/");
    // To the agent this is what an executed program looks like.
    ::close(kChildStatusFd);
    ::_exit(program.main(arguments));
  }
  fail_child(agent::ErrorKind::kExecNotFound, 0,
             "the agent has no program \"" + plan.argv[0] + "\" of this form");
}

}  // namespace sm::guest
