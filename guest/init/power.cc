#include "init/power.h"

#include <poll.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "init/console.h"

namespace sm::guest {

namespace {

using std::chrono::seconds;

// The board has no power switch: a reset is what the VMM takes as the end. A host that stopped the
// machine at the doorbell never gets here.
[[noreturn]] void power_off() {
  ::reboot(RB_AUTOBOOT);
  for (;;) ::pause();
}

UniqueFd child_events() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// Reaps until no child is left (or `pid` is gone, when given) or the deadline passes.
void reap_until(pid_t pid, Deadline deadline) {
  const UniqueFd events = child_events();
  while (!deadline.passed()) {
    const pid_t reaped = ::waitpid(-1, nullptr, WNOHANG);
    if (reaped < 0 || (reaped > 0 && reaped == pid)) return;
    if (reaped > 0) continue;
    pollfd waiting{events.get(), POLLIN, 0};
    ::poll(&waiting, 1, deadline.poll_timeout_ms());
    signalfd_siginfo info{};
    while (::read(events.get(), &info, sizeof(info)) > 0) {
    }
  }
}

// sync(2) has no deadline of its own, so a child does it.
void sync_disks() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::sync();
    ::_exit(0);
  }
  if (pid > 0) reap_until(pid, Deadline::after(seconds(10)));
}

}  // namespace

void die(const DoorbellPort& bell, doorbell::Fatal kind, const Error& error) {
  console_line("fatal: " + error.text());
  bell.ring(doorbell::Event::kFatal, static_cast<std::uint32_t>(kind));
  power_off();
}

void finish(const DoorbellPort& bell, std::uint32_t status) {
  ::kill(-1, SIGKILL);
  reap_until(0, Deadline::after(seconds(5)));
  sync_disks();
  bell.ring(doorbell::Event::kWorkloadExit, status);
  power_off();
}

}  // namespace sm::guest
