#include "vmm/sandbox/violation.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sm::sandbox {

namespace {

// Text in a fixed buffer: only async-signal-safe means.
class Line {
 public:
  Line& operator<<(std::string_view text) {
    for (const char c : text) {
      if (used_ < buffer_.size()) buffer_[used_++] = c;
    }
    return *this;
  }
  Line& number(std::uint64_t value, std::uint64_t base) {
    std::array<char, 24> digits{};
    std::size_t n = digits.size();
    do {
      digits[--n] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return *this << std::string_view(digits.data() + n, digits.size() - n);
  }
  void write_to(int fd) const {
    if (::write(fd, buffer_.data(), used_) < 0) return;
  }

 private:
  std::array<char, 256> buffer_{};
  std::size_t used_ = 0;
};

// The action is the default one again (SA_RESETHAND), so the raise at the end is the end.
void on_violation(int, siginfo_t* info, void* context) {
  constexpr int kSeccomp = 1;  // SYS_SECCOMP; the C library has no name for it yet
  if (info->si_code == kSeccomp) {
    const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
    Line line;
    line << "sandbox: forbidden system call ";
    line.number(static_cast<std::uint64_t>(info->si_syscall), 10);
    line << " (0x";
    line.number(static_cast<std::uint64_t>(registers[REG_RDI]), 16);
    line << ", 0x";
    line.number(static_cast<std::uint64_t>(registers[REG_RSI]), 16);
    line << ", 0x";
    line.number(static_cast<std::uint64_t>(registers[REG_RDX]), 16);
    line
        << "); this process ends. If the guest is trusted, report it; --no-sandbox does without.\n";
    line.write_to(STDERR_FILENO);
  }
  ::raise(SIGSYS);
}

}  // namespace

Status install_violation_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_violation;
  action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESETHAND | SA_NODEFER);
  ::sigemptyset(&action.sa_mask);
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return fail_errno("handle SIGSYS", errno);
  return {};
}

}  // namespace sm::sandbox
