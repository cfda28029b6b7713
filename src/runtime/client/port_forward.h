// PortForward: a TCP port of this host that leads to one of a guest. Thread: the loop's, but for
// port().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/client/socket_pump.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

// One address of this host, IPv4 or IPv6, and the first port from `first` to `last` that is free.
// Port 0: any that is free.
struct HostPorts {
  std::string ip = "127.0.0.1";
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};

class PortForward : public std::enable_shared_from_this<PortForward> {
 public:
  // More connections than this at a time wait in the listener's backlog.
  static constexpr std::size_t kMaxConnections = 256;

  // Listens on this host.
  static Result<std::shared_ptr<PortForward>> open(LoopThread& loop, std::shared_ptr<VmEndpoint> vm,
                                                   const HostPorts& host, std::uint16_t guest_port);
  ~PortForward();
  PortForward(const PortForward&) = delete;
  PortForward& operator=(const PortForward&) = delete;
  PortForward(PortForward&&) = delete;
  PortForward& operator=(PortForward&&) = delete;

  std::uint16_t port() const { return port_; }
  // Stops listening and cuts the connections. Idempotent.
  void close();

 private:
  PortForward(LoopThread& loop, std::shared_ptr<VmEndpoint> vm, std::uint16_t guest_port)
      : loop_(loop), vm_(std::move(vm)), guest_port_(guest_port) {}
  Status listen(const HostPorts& host);
  void on_connection();
  void on_guest(std::uint64_t id, Result<UniqueFd> guest);
  void forget(std::uint64_t id);
  void update_watch();

  struct Connection {
    UniqueFd host;  // until the guest's side is there
    std::unique_ptr<SocketPump> pump;
  };

  LoopThread& loop_;
  std::shared_ptr<VmEndpoint> vm_;
  const std::uint16_t guest_port_;
  std::uint16_t port_ = 0;
  UniqueFd listener_;
  WatchId watch_ = WatchId::kNone;
  HookId hook_ = HookId::kNone;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, Connection> connections_;
};

}  // namespace sm
