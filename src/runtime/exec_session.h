// ExecSession: the host side of one exec over the agent protocol (proto/agent.h), on an event loop.
// Thread: the loop's. Flow control: output is handed out in order and granted back to the agent
// only when the receiver says it has consumed it; input is accepted up to the agent's window.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"

namespace sm {

class ExecSession {
 public:
  // All calls happen on the loop. Exactly one of on_exit, on_refused and on_lost ends the session;
  // it may destroy the session.
  struct Callbacks {
    std::function<void(agent::Started)> on_started;
    // `bytes` empty: end of this stream. Call consumed() later, or the agent stops sending.
    std::function<void(agent::Stream, std::span<const std::byte> bytes)> on_output;
    // More stdin can be sent: stdin_room() is no longer zero.
    std::function<void()> on_stdin_room;
    std::function<void(agent::ExitReport)> on_exit;
    std::function<void(agent::ErrorReport)> on_refused;  // the agent could not do it
    std::function<void(Error)> on_lost;                  // connection ended or made no sense
  };

  // Takes a connected socket and sends hello and the request at once.
  static Result<std::unique_ptr<ExecSession>> start(EventLoop& loop, UniqueFd socket,
                                                    const agent::ExecRequest& request,
                                                    Callbacks callbacks);
  // The main workload of a restored machine, from now on: as if it had just been started.
  // on_refused: none is there that has lost its connection by the restore; an agent of an older
  // program also ends with it.
  static Result<std::unique_ptr<ExecSession>> attach_main(EventLoop& loop, UniqueFd socket,
                                                          Callbacks callbacks);
  ~ExecSession();
  ExecSession(const ExecSession&) = delete;
  ExecSession& operator=(const ExecSession&) = delete;
  ExecSession(ExecSession&&) = delete;
  ExecSession& operator=(ExecSession&&) = delete;

  // Bytes of stdin that the guest can take now.
  std::size_t stdin_room() const;
  // At most stdin_room() bytes. Empty: end of input, once.
  void send_stdin(std::span<const std::byte> bytes);
  void send_signal(int number);
  void send_resize(agent::WindowSize size);
  // `n` bytes of on_output have reached their destination.
  void consumed(agent::Stream stream, std::size_t n);

 private:
  ExecSession(EventLoop& loop, UniqueFd socket, Callbacks callbacks);
  static Result<std::unique_ptr<ExecSession>> open(EventLoop& loop, UniqueFd socket,
                                                   std::vector<std::byte> request,
                                                   Callbacks callbacks);

  void on_socket(std::uint32_t events);
  void read_socket();
  void flush();
  void enqueue(std::vector<std::byte> frame);
  void update_interest();
  Result<bool> dispatch(const agent::Frame& frame);
  Status take_output(const agent::Frame& frame);
  Status grant_stdin(const agent::Frame& frame);
  void end();
  void lose(Error error);

  EventLoop& loop_;
  UniqueFd socket_;
  Callbacks callbacks_;
  WatchId watch_ = WatchId::kNone;
  agent::FrameParser parser_;
  std::vector<std::byte> out_;
  std::size_t out_start_ = 0;
  std::uint64_t stdin_window_ = agent::kInitialWindow;
  std::uint32_t ungranted_[3] = {};  // consumed here, not yet told to the agent
  // What the agent may still send of each stream; more than that is memory it has no right to.
  std::uint64_t output_window_[3] = {0, agent::kInitialWindow, agent::kInitialWindow};
  bool hello_seen_ = false;
  bool started_ = false;
  bool writable_wanted_ = false;
  bool ended_ = false;
  // Outlives the session: tells a callback's caller that the session is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sm
