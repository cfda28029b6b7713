// Server: all connections of the agent. The listener (vsock in the guest, anything in tests) hands
// it connected stream sockets. The loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "agent/process_table.h"
#include "agent/services.h"
#include "agent/workload.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"

namespace sm::guest {

class Connection;
class Forwarder;
class KernelControls;
class Session;

struct ServerOptions {
  std::string cgroup_base;  // empty: no cgroups
  AgentSettings settings;
  // Restores since boot, for the hello; absent: 0.
  std::function<std::uint32_t()> generation;
  // Absent: a resume is refused.
  std::unique_ptr<KernelControls> kernel;
  std::string root = "/";  // whose files a resume renews
  UniqueFd layers;         // where the image's layers are mounted; none: no disk can be the root's
  std::size_t max_connections = 1024;
  Duration request_timeout = std::chrono::seconds(10);
  Duration close_timeout = std::chrono::seconds(10);
  Duration connect_timeout = std::chrono::seconds(10);

  ServerOptions();
  ServerOptions(ServerOptions&&) noexcept;
  ServerOptions& operator=(ServerOptions&&) = delete;
  ServerOptions(const ServerOptions&) = delete;
  ServerOptions& operator=(const ServerOptions&) = delete;
  ~ServerOptions();
};

class Server {
 public:
  Server(EventLoop& loop, UniqueFd init_link, ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Status report_ready() { return workload_.report_ready(); }
  // Serves a connected stream socket until either side closes it.
  void adopt(UniqueFd socket);

  // For connections:
  const ServerOptions& options() const { return options_; }
  std::uint32_t generation() const;
  // The machine was restored since the last resume: no other request is served before the next.
  bool needs_resume() const { return generation() != acknowledged_; }
  // One resume at a time: false when another is under way.
  bool begin_resume() { return !std::exchange(resuming_, true); }
  void end_resume() { resuming_ = false; }
  // The root's changes go to a disk.
  bool root_on_disk() const { return root_on_disk_; }
  void set_root_on_disk() { root_on_disk_ = true; }
  void acknowledge(std::uint32_t generation) { acknowledged_ = generation; }
  // Destroys a connection or forwarder once its callbacks have returned.
  void retire(std::uint64_t id);
  // The session of the main workload in a copy of its machine: it lost its connection, which does
  // not end it.
  void keep(std::unique_ptr<Session> session);
  // For another connection; null when there is none.
  std::unique_ptr<Session> take_kept();
  // It is over. Once its callbacks have returned it is destroyed.
  void drop_kept();
  // Turns a connection into a forwarded TCP stream; `first` was received behind the request.
  void forward(UniqueFd socket, std::vector<std::byte> unsent, std::vector<std::byte> first,
               std::uint16_t port);

  std::size_t connections() const { return connections_.size() + forwarders_.size(); }
  std::size_t processes() const { return processes_.size(); }

 private:
  Services services();

  EventLoop& loop_;
  ServerOptions options_;
  ProcessTable processes_;
  Workload workload_;
  std::uint32_t acknowledged_ =
      0;  // the generation of the last resume; 0: the machine's first life
  bool resuming_ = false;
  bool root_on_disk_ = false;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Forwarder>> forwarders_;
  std::unique_ptr<Session> kept_;
};

}  // namespace sm::guest
