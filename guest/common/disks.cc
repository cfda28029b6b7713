#include "common/disks.h"

#include <dirent.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include "base/file.h"
#include "base/unique_fd.h"

namespace sm::guest {

namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

// Fills the entries of `nodes` that are still empty.
void scan(const std::vector<std::string>& serials, std::vector<std::string>& nodes) {
  const std::unique_ptr<DIR, CloseDir> dir(::opendir("/sys/block"));
  if (!dir) return;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name.substr(0, 2) != "vd") continue;
    const auto serial = read_file("/sys/block/" + std::string(name) + "/serial", 64);
    if (!serial) continue;
    const auto at = std::find(serials.begin(), serials.end(), trim(*serial));
    if (at == serials.end()) continue;
    nodes[static_cast<std::size_t>(at - serials.begin())] = "/dev/" + std::string(name);
  }
}

bool complete(const std::vector<std::string>& nodes) {
  return std::none_of(nodes.begin(), nodes.end(), [](const auto& node) { return node.empty(); });
}

// Kernel device events: each one is a reason to look again, its content is not needed.
Result<UniqueFd> open_device_events() {
  UniqueFd fd(
      ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!fd.valid()) return fail_errno("socket for device events", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0) {
    return fail_errno("bind to device events", errno);
  }
  return fd;
}

void drain(int fd) {
  char buffer[4096];
  while (::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) >= 0) {
  }
}

Status wait_for_disks(const std::vector<std::string>& serials, std::vector<std::string>& nodes,
                      Deadline deadline) {
  const UniqueFd events = SM_TRY(open_device_events());
  // A disk may have come between the first look and the subscription.
  scan(serials, nodes);
  while (!complete(nodes) && !deadline.passed()) {
    pollfd waiting{events.get(), POLLIN, 0};
    if (::poll(&waiting, 1, deadline.poll_timeout_ms()) < 0 && errno != EINTR) {
      return fail_errno("poll for device events", errno);
    }
    drain(events.get());
    scan(serials, nodes);
  }
  return {};
}

}  // namespace

Status await_capacity(const std::vector<std::string>& nodes, Deadline deadline) {
  // The kernel tells nobody of a disk that stops being empty: it sends no event then.
  constexpr timespec kBetweenLooks{.tv_sec = 0, .tv_nsec = 200'000};
  constexpr std::string_view kDevices = "/dev/";
  for (const std::string& node : nodes) {
    const std::string path = "/sys/block/" + node.substr(kDevices.size()) + "/size";
    for (;;) {
      const auto sectors = read_file(path, 64);
      if (sectors && trim(*sectors) != "0") break;
      if (deadline.passed()) return fail(Code::kTimeout, "the disk " + node + " is empty");
      ::nanosleep(&kBetweenLooks, nullptr);
    }
  }
  return {};
}

Result<std::vector<std::string>> find_disks(const std::vector<std::string>& serials,
                                            Deadline deadline) {
  std::vector<std::string> nodes(serials.size());
  if (serials.empty()) return nodes;
  scan(serials, nodes);
  if (!complete(nodes)) SM_TRY_STATUS(wait_for_disks(serials, nodes, deadline));
  std::string missing;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].empty()) missing += " " + serials[i];
  }
  if (!missing.empty()) {
    return fail(Code::kNotFound, "no disk with the serial" + missing);
  }
  return nodes;
}

}  // namespace sm::guest
