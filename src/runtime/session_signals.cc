#include "runtime/session_signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

namespace sm {

SessionSignals::SessionSignals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH}) {
    ::sigaddset(&set, s);
  }
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  fd_ = UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  broken_pipe_before_ = ::signal(SIGPIPE, SIG_IGN);
}

SessionSignals::~SessionSignals() {
  ::signal(SIGPIPE, broken_pipe_before_);
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

int SessionSignals::next() const {
  signalfd_siginfo info{};
  const bool got = ::read(fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info));
  return got ? static_cast<int>(info.ssi_signo) : 0;
}

}  // namespace sm
