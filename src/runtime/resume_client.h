// ResumeClient: tells a guest that was restored from a snapshot who it is now (proto/agent.h,
// kResume), over a fresh connection to its agent. A machine must not be handed out before this has
// succeeded; after a failure it is to be discarded.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/wipe.h"
#include "proto/agent.h"

namespace sm {

// Thread: the loop's.
class ResumeClient {
 public:
  // Called once, unless the client is destroyed before; it may destroy the client. Errors: kGuest
  // when a step failed, kCorrupt when the answer makes no sense, kGone, kIo, kTimeout.
  using OnDone = std::function<void(Result<agent::ResumeReport>)>;

  // Takes a connected stream socket. `request` is complete but for its seed and its wall clock: the
  // seed is drawn here, the clock read when the agent has said hello, so that the time the guest
  // needs to wake up does not count. kInvalidArgument: the request breaks a rule, nothing was sent.
  static Result<std::unique_ptr<ResumeClient>> start(EventLoop& loop, UniqueFd socket,
                                                     agent::ResumeRequest request,
                                                     Deadline deadline, OnDone on_done);
  ~ResumeClient();
  ResumeClient(const ResumeClient&) = delete;
  ResumeClient& operator=(const ResumeClient&) = delete;
  ResumeClient(ResumeClient&&) = delete;
  ResumeClient& operator=(ResumeClient&&) = delete;

 private:
  ResumeClient(EventLoop& loop, UniqueFd socket, agent::ResumeRequest request, OnDone on_done);

  Status watch();
  void on_socket(std::uint32_t events);
  void read_socket();
  void flush();
  void enqueue(std::vector<std::byte> frame);
  // The outcome when this frame is the last, nothing when more are to come.
  Result<bool> on_frame(const agent::Frame& frame);
  Status on_hello(const agent::Frame& frame);
  void finish(Result<agent::ResumeReport> result);

  EventLoop& loop_;
  UniqueFd socket_;
  agent::ResumeRequest request_;
  OnDone on_done_;
  agent::FrameParser parser_;
  SecretBytes out_;
  std::size_t out_start_ = 0;
  agent::ResumeReport report_;
  WatchId watch_ = WatchId::kNone;
  TimerId timer_ = TimerId::kNone;
  bool hello_seen_ = false;
};

// The same, waiting for the answer. Any thread.
Result<agent::ResumeReport> resume_guest(UniqueFd socket, agent::ResumeRequest request,
                                         Deadline deadline);

}  // namespace sm
