#include "init/network.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "base/unique_fd.h"
#include "init/system.h"

namespace sm::guest {

namespace {

ifreq request_for(const char* name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return request;
}

bool set_address(int fd, const char* name, unsigned long operation, const char* text) {
  ifreq request = request_for(name);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (::inet_pton(AF_INET, text, &address.sin_addr) != 1) return false;
  std::memcpy(&request.ifr_addr, &address, sizeof(address));
  return ::ioctl(fd, operation, &request) == 0;
}

void set_up(int fd, const char* name) {
  ifreq request = request_for(name);
  if (::ioctl(fd, SIOCGIFFLAGS, &request) < 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ::ioctl(fd, SIOCSIFFLAGS, &request);
}

}  // namespace

void bring_up_network() {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  set_up(fd.get(), "lo");
  // The kernel makes dummy0 at boot. IPv4 only, from the benchmark range that is routed nowhere:
  // an IPv6 address, even a link-local one, would make resolvers ask for AAAA records and programs
  // try addresses that nothing carries.
  write_sysctl("net/ipv6/conf/dummy0/addr_gen_mode", "1");
  if (set_address(fd.get(), "dummy0", SIOCSIFADDR, "198.18.0.1")) {
    set_address(fd.get(), "dummy0", SIOCSIFNETMASK, "255.255.255.252");
    set_up(fd.get(), "dummy0");
  }
}

}  // namespace sm::guest
