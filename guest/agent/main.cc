// The agent: the one process of the guest that the host talks to. Started by init, listens on
// vsock, one event loop, one thread. See docs/reference/agent-protocol.md.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "agent/kernel_controls.h"
#include "agent/server.h"
#include "agent/vsock_listener.h"
#include "base/bytes.h"
#include "base/event_loop.h"
#include "common/doorbell_port.h"
#include "common/init_link.h"

namespace sm::guest {

namespace {

constexpr std::size_t kMaxSettings = 8u << 20;
constexpr const char* kCgroupBase = "/sys/fs/cgroup/supermachine";

// A stray signal must not end the agent; faults still do.
void block_signals() {
  sigset_t set;
  ::sigfillset(&set);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    ::sigdelset(&set, signal);
  }
  ::sigprocmask(SIG_SETMASK, &set, nullptr);
}

Result<AgentSettings> load_settings(const UniqueFd& fd) {
  struct stat st {};
  if (::fstat(fd.get(), &st) < 0) return fail_errno("settings", errno);
  const auto size = static_cast<std::size_t>(st.st_size);
  if (size > kMaxSettings) return fail(Code::kLimit, "the settings are too large");
  std::vector<std::byte> bytes(size);
  if (::pread(fd.get(), bytes.data(), size, 0) != st.st_size) {
    return fail_errno("settings", errno);
  }
  return decode_settings(bytes);
}

Status run() {
  block_signals();
  // Secrets pass through this memory: only root may look at it, and no core dump holds it. What is
  // executed for the host gets the kernel's default again.
  ::prctl(PR_SET_DUMPABLE, 0);
  UniqueFd link(kAgentLinkFd);
  const UniqueFd settings_file(kAgentSettingsFd);
  ServerOptions options;
  options.layers = UniqueFd(kAgentLayersFd);
  ::fcntl(kAgentLayersFd, F_SETFD, FD_CLOEXEC);
  options.cgroup_base = kCgroupBase;
  options.settings = SM_TRY(load_settings(settings_file));
  const DoorbellPort bell = DoorbellPort::probe();
  options.generation = [&bell] { return bell.generation(); };
  options.kernel = SM_TRY(open_kernel_controls());

  const auto loop = SM_TRY(EventLoop::create());
  Server server(*loop, std::move(link), std::move(options));
  const auto listener = SM_TRY(VsockListener::open(
      *loop, agent::kPort, [&](UniqueFd socket) { server.adopt(std::move(socket)); }));
  SM_TRY_STATUS(server.report_ready());
  loop->run();
  return {};
}

}  // namespace

}  // namespace sm::guest

int main() {
  const auto status = sm::guest::run();
  if (status) return 0;
  const std::string line = "supermachine-agent: " + status.error().text() + "\n";
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return 2;
  return 1;
}
