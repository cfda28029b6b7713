// AttachPeer: somebody who looks at a VM's command through its keeper. Speaks the agent protocol
// with the keeper in the agent's place. Thread: the loop's.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"
#include "runtime/session_guardian.h"

namespace sm {

class AttachPeer {
 public:
  // Limit: output that a slow reader has not taken; more, and it is let go. The VM never waits.
  static constexpr std::size_t kMaxBacklog = 4u << 20;

  // `on_end` comes once, from the loop, when the peer has left; it may destroy this.
  static Result<std::unique_ptr<AttachPeer>> start(EventLoop& loop, SessionControl& control,
                                                   UniqueFd socket, std::function<void()> on_end);
  ~AttachPeer();
  AttachPeer(const AttachPeer&) = delete;
  AttachPeer& operator=(const AttachPeer&) = delete;
  AttachPeer(AttachPeer&&) = delete;
  AttachPeer& operator=(AttachPeer&&) = delete;

  void output(agent::Stream stream, std::span<const std::byte> bytes);
  void on_input_room();
  // The command has ended; then drained() tells when the peer knows.
  void finish(const agent::ExitReport& report);
  bool drained() const;

 private:
  AttachPeer(EventLoop& loop, SessionControl& control, UniqueFd socket,
             std::function<void()> on_end)
      : loop_(loop), control_(control), socket_(std::move(socket)), on_end_(std::move(on_end)) {}
  void on_events(std::uint32_t events);
  bool receive();
  Status on_frame(const agent::Frame& frame);
  Status on_input(const agent::Frame& frame);
  void fill();
  void flush();
  void leave();

  EventLoop& loop_;
  SessionControl& control_;
  UniqueFd socket_;
  std::function<void()> on_end_;
  WatchId watch_ = WatchId::kNone;
  bool wants_room_ = false;
  bool gone_ = false;
  bool asked_ = false;
  bool exit_sent_ = false;
  std::vector<std::byte> exit_frame_;
  agent::FrameParser parser_;
  std::vector<std::byte> out_;  // frames
  std::array<std::vector<std::byte>, 2> backlog_;
  std::array<std::uint64_t, 2> window_ = {agent::kInitialWindow, agent::kInitialWindow};
  std::vector<std::byte> input_;  // that the command has no room for
};

}  // namespace sm
