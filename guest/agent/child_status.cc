#include "agent/child_status.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/bytes.h"

namespace sm::guest {

namespace {

void send_report(const std::vector<std::byte>& bytes) {
  // Nobody is left to be told when the agent is gone.
  if (::send(kChildStatusFd, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
}

// A copy with a number that none of the targets has.
int above_targets(int fd) {
  if (fd < 0) fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  return ::fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

}  // namespace

void take_descriptors(const ChildDescriptors& d) {
  const int sources[] = {above_targets(d.in), above_targets(d.out), above_targets(d.err),
                         above_targets(d.status)};
  for (int target = 0; target <= kChildStatusFd; ++target) {
    if (::dup2(sources[target], target) < 0) ::_exit(127);
  }
  ::close_range(kChildStatusFd + 1, ~0u, 0);
  ::fcntl(kChildStatusFd, F_SETFD, FD_CLOEXEC);
}

void report_prepared() {
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(ChildReport::kPrepared));
  send_report(w.bytes());
}

void report_size(std::uint64_t size) {
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(ChildReport::kSize));
  w.put(size);
  send_report(w.bytes());
}

void report_step(agent::StepReport report) {
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(ChildReport::kStep));
  w.put(static_cast<std::uint8_t>(report.step));
  w.put(static_cast<std::uint8_t>(report.result));
  send_report(w.bytes());
}

void fail_child(agent::ErrorKind kind, int errno_value, std::string message) {
  if (errno_value != 0) {
    char buffer[128] = {};
    message += ": ";
    message += ::strerror_r(errno_value, buffer, sizeof(buffer));
  }
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(ChildReport::kError));
  const auto frame =
      agent::encode_error({kind, static_cast<std::uint32_t>(errno_value), std::move(message)});
  w.put_bytes(std::span<const std::byte>(frame).subspan(agent::kHeaderSize));
  send_report(w.bytes());
  ::_exit(127);
}

UniqueFd open_regular(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat st {};
  if (!fd.valid() || ::fstat(fd.get(), &st) < 0) return {};
  if (S_ISREG(st.st_mode)) return fd;
  fd.reset();
  errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
  return {};
}

}  // namespace sm::guest
