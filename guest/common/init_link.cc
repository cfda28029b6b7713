#include "common/init_link.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/bytes.h"

namespace sm::guest {

namespace {
constexpr std::size_t kMessageSize = 8;  // u8 type, three zero bytes, u32 value
constexpr std::size_t kMaxWord = 1u << 20;
constexpr std::uint32_t kMaxWords = 64u << 10;
}  // namespace

Result<LinkEnds> make_link() {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
    return fail_errno("socketpair", errno);
  }
  return LinkEnds{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Status send_link(int fd, LinkMessage message) {
  ByteWriter w;
  w.put(static_cast<std::uint8_t>(message.type));
  w.put(std::uint8_t{0});
  w.put(std::uint16_t{0});
  w.put(message.value);
  const auto& bytes = w.bytes();
  for (;;) {
    if (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno == EINTR) continue;
    return fail_errno("send to the other end of the init link", errno);
  }
}

Result<std::optional<LinkMessage>> receive_link(int fd) {
  std::byte buffer[kMessageSize + 1];
  ssize_t n = 0;
  do {
    n = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
  if (n < 0) return fail_errno("receive on the init link", errno);
  if (n == 0) return fail(Code::kGone, "the other end of the init link is closed");
  ByteReader r(std::span<const std::byte>(buffer, static_cast<std::size_t>(n)));
  const auto type = r.take<std::uint8_t>();
  r.take<std::uint8_t>();
  r.take<std::uint16_t>();
  const auto value = r.take<std::uint32_t>();
  if (!r.at_end() || *type < 1 || *type > static_cast<std::uint8_t>(LinkType::kSignal)) {
    return fail(Code::kCorrupt, "malformed message on the init link");
  }
  return LinkMessage{static_cast<LinkType>(*type), *value};
}

std::vector<std::byte> encode_settings(const AgentSettings& settings) {
  ByteWriter w;
  w.put_string(settings.hostname);
  w.put(static_cast<std::uint32_t>(settings.env.size()));
  for (const std::string& entry : settings.env) w.put_string(entry);
  w.put(static_cast<std::uint32_t>(settings.hosts.size()));
  for (const HostEntry& entry : settings.hosts) {
    w.put_string(entry.address);
    w.put_string(entry.name);
  }
  return w.release();
}

Result<AgentSettings> decode_settings(std::span<const std::byte> bytes) {
  ByteReader r(bytes);
  AgentSettings settings;
  const auto hostname = r.take_string(kMaxWord);
  const auto count = r.take<std::uint32_t>();
  if (!count || *count > kMaxWords) return fail(Code::kCorrupt, "malformed agent settings");
  settings.hostname = *hostname;
  for (std::uint32_t i = 0; i < *count; ++i) {
    const auto entry = r.take_string(kMaxWord);
    if (!entry) return fail(Code::kCorrupt, "malformed agent settings");
    settings.env.emplace_back(*entry);
  }
  const auto hosts = r.take<std::uint32_t>();
  if (!hosts || *hosts > kMaxHostEntries) return fail(Code::kCorrupt, "malformed agent settings");
  for (std::uint32_t i = 0; i < *hosts; ++i) {
    const auto address = r.take_string(kMaxWord);
    const auto name = r.take_string(kMaxWord);
    if (!name) return fail(Code::kCorrupt, "malformed agent settings");
    settings.hosts.push_back({std::string(*address), std::string(*name)});
  }
  if (!r.at_end()) return fail(Code::kCorrupt, "malformed agent settings");
  return settings;
}

}  // namespace sm::guest
