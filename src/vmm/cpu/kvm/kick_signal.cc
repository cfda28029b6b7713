#include "vmm/cpu/kvm/kick_signal.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace sm::kvm {

namespace {

constexpr int kKickSignal = SIGUSR1;

void do_nothing(int) {}

}  // namespace

// The kernel's own table is the record of whether the handler is there, so no state is kept here.
// Two threads that install it at once write the same value.
Status install_kick_signal() {
  struct sigaction current {};
  if (::sigaction(kKickSignal, nullptr, &current) != 0) return fail_errno("look at SIGUSR1", errno);
  const bool has_info = (current.sa_flags & SA_SIGINFO) != 0;
  if (!has_info && current.sa_handler == do_nothing) return {};
  if (has_info || (current.sa_handler != SIG_DFL && current.sa_handler != SIG_IGN)) {
    return fail(Code::kInternal, "SIGUSR1 already has a handler in this process; KVM needs it");
  }
  struct sigaction action {};
  action.sa_handler = do_nothing;
  // A late kick may find the thread in a device's system call: that one goes on.
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(kKickSignal, &action, nullptr) != 0) return fail_errno("handle SIGUSR1", errno);
  return {};
}

void unblock_kick_signal() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kKickSignal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void send_kick_signal(pid_t thread) { ::syscall(SYS_tgkill, ::getpid(), thread, kKickSignal); }

}  // namespace sm::kvm
