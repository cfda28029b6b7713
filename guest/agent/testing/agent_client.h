// Tests only: an agent in a process of its own, and a host that talks to it over a unix socket.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/server.h"
#include "base/unique_fd.h"
#include "common/init_link.h"
#include "proto/agent.h"

namespace sm::guest::testing {

// Every wait of a test ends here: sanitizers on a busy machine are slow, a hang is endless.
inline constexpr auto kPatience = std::chrono::seconds(60);

// What one request came to.
struct Outcome {
  std::string out;
  std::string err;
  std::optional<agent::Started> started;
  std::optional<agent::ExitReport> exit;
  std::optional<agent::ErrorReport> error;
  bool done = false;       // a file request is complete
  bool closed = false;     // the agent closed behind its last frame
  bool violation = false;  // the agent sent something that it must not
};

class HostConnection {
 public:
  explicit HostConnection(UniqueFd socket);

  int fd() const { return socket_.get(); }
  void send(std::span<const std::byte> bytes);
  void send(const std::vector<std::byte>& bytes) { send(std::span(bytes)); }
  void hello() { send(agent::encode_hello({})); }
  // Whatever comes next; nothing at the end of the stream.
  std::optional<agent::Frame> next(Deadline deadline = Deadline::after(kPatience));
  // Until the agent closes. Sends `input` as standard input, as far as windows allow, and its end.
  // Grants `window` bytes more whenever that many were received.
  Outcome finish(std::string_view input = {}, std::uint32_t window = 64u << 10);
  // The request takes no input: finish() sends neither data nor its end.
  void no_input() { input_ended_ = true; }
  // Receives until the wanted text is in the output.
  void expect_output(std::string_view text);
  // Until the agent has taken all that was sent.
  void wait_until_taken() const;
  void close() { socket_.reset(); }
  const Outcome& so_far() const { return outcome_; }

 private:
  void take(const agent::Frame& frame);
  bool wait(short events, short& ready, Deadline deadline) const;
  bool receive();

  UniqueFd socket_;
  agent::FrameParser parser_;
  Outcome outcome_;
  bool ended_ = false;
  bool input_ended_ = false;
  std::uint64_t stdin_window_ = agent::kInitialWindow;
  std::uint32_t grant_step_ = 64u << 10;
  std::uint32_t owed_[3] = {0, 0, 0};
};

class AgentProcess {
 public:
  explicit AgentProcess(ServerOptions options = {});
  ~AgentProcess();
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  // A connection with the hello exchanged on our side.
  HostConnection connect();
  UniqueFd connect_raw();
  Outcome run(const agent::ExecRequest& request, std::string_view input = {});
  // Init's end of the link.
  LinkMessage expect_link(LinkType type);
  void send_link_message(LinkMessage message);
  bool has_cgroups() const { return !cgroup_.empty(); }
  std::size_t open_descriptors() const;
  std::size_t children() const;
  // Whether the text stands anywhere in the memory that the agent may write to.
  bool memory_contains(std::string_view text) const;
  // Ends the agent and checks that it ended well.
  void stop();

 private:
  std::string folder_;
  std::string cgroup_;
  UniqueFd link_;
  pid_t pid_ = -1;
};

agent::ExecRequest shell(std::string_view script);
// True when the process is gone within kPatience.
bool wait_until_gone(pid_t pid);
// Waits for a condition that another process brings about.
bool eventually(const std::function<bool()>& condition);

}  // namespace sm::guest::testing
