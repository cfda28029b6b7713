#include "agent/child_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace sm::guest {

namespace {

std::optional<ChildChannel::Report> parse(std::span<const std::byte> bytes) {
  ByteReader r(bytes);
  const auto kind = r.take<std::uint8_t>();
  if (!kind) return std::nullopt;
  ChildChannel::Report report{static_cast<ChildReport>(*kind), 0, {}, {}};
  switch (report.kind) {
    case ChildReport::kPrepared:
      return report;
    case ChildReport::kSize: {
      const auto size = r.take<std::uint64_t>();
      if (!size) return std::nullopt;
      report.size = *size;
      return report;
    }
    case ChildReport::kStep: {
      const auto step = r.take<std::uint8_t>();
      const auto result = r.take<std::uint8_t>();
      if (!result) return std::nullopt;
      report.step = {static_cast<agent::ResumeStep>(*step),
                     static_cast<agent::StepResult>(*result)};
      return report;
    }
    case ChildReport::kError: {
      auto error = agent::decode_error(r.rest());
      if (!error) return std::nullopt;
      report.error = std::move(*error);
      return report;
    }
  }
  return std::nullopt;
}

}  // namespace

ChildChannel::ChildChannel(EventLoop& loop, Callback callback)
    : loop_(loop), callback_(std::move(callback)) {}

Result<UniqueFd> ChildChannel::open() {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
    return fail_errno("socketpair", errno);
  }
  fd_ = UniqueFd(fds[0]);
  watch_ = std::make_unique<FdWatch>(loop_, fd_.get(), [this](std::uint32_t) { drain(); });
  watch_->want(EPOLLIN);
  return UniqueFd(fds[1]);
}

void ChildChannel::release() {
  const std::byte go{1};
  // A child that is gone shows as the end of the channel.
  if (fd_.valid() && ::send(fd_.get(), &go, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
}

void ChildChannel::drain() {
  std::array<std::byte, 8192> buffer;
  while (fd_.valid()) {
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      watch_.reset();
      fd_.reset();
      return callback_(std::nullopt);
    }
    if (auto report = parse(std::span(buffer).first(static_cast<std::size_t>(n)))) {
      callback_(std::move(report));
    }
  }
}

}  // namespace sm::guest
