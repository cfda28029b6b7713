// AgentLink: one connection to a guest's agent that is not an exec: hello, a request, frames both
// ways. It reads no byte beyond the frame it is in, so that a connection can be handed on when
// frames are followed by raw bytes. Thread: the loop's.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"

namespace sm {

// What an agent's refusal means to a caller.
Error agent_error(const agent::ErrorReport& report);
// A connection to an agent that cannot be made or has broken: the VM is gone, whatever errno says.
Error lost_connection(const Error& error);

class AgentLink {
 public:
  struct Callbacks {
    // Every frame behind the agent's hello but errors. A failure ends the link with it.
    std::function<Status(const agent::Frame& frame)> on_frame;
    // The end, once: an error report, a lost connection, a broken rule. May destroy the link.
    std::function<void(Error)> on_end;
  };
  // So long may the agent be silent.
  static constexpr Duration kPatience = std::chrono::seconds(60);

  // Connects and sends hello and `request`, which raw bytes may follow where the protocol has them.
  // The callbacks come later, from the loop.
  static Result<std::unique_ptr<AgentLink>> open(EventLoop& loop, const std::string& socket,
                                                 std::vector<std::byte> request,
                                                 Callbacks callbacks);
  ~AgentLink();
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;
  AgentLink(AgentLink&&) = delete;
  AgentLink& operator=(AgentLink&&) = delete;

  void send(std::span<const std::byte> frame);
  // Gives the connection away; the link is over, no callback follows.
  UniqueFd take();

 private:
  AgentLink(EventLoop& loop, UniqueFd socket, Callbacks callbacks);
  void on_events(std::uint32_t events);
  void flush();
  void receive();
  Status on_bytes(std::span<const std::byte> bytes);
  Status on_frame(const agent::Frame& frame);
  void restart_timer();
  void close();
  void end(Error error);

  EventLoop& loop_;
  UniqueFd socket_;
  Callbacks callbacks_;
  WatchId watch_ = WatchId::kNone;
  TimerId timer_ = TimerId::kNone;
  agent::FrameParser parser_;
  std::size_t missing_ = agent::kHeaderSize;  // bytes of the part that is being read
  bool in_header_ = true;
  std::array<std::byte, agent::kHeaderSize> header_{};
  std::vector<std::byte> out_;
  std::size_t out_start_ = 0;
  bool hello_seen_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sm
