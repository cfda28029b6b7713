// Connection: one stream to the host. Hello, one request, its session, a clean close. All buffers
// are bounded; a peer that breaks the protocol gets one error frame. The loop's thread only.
//
//   hello --> request --> serving --> finishing --> (closed)
//     '----------'------------'--- protocol error ---^
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "agent/fd_watch.h"
#include "agent/services.h"
#include "agent/session.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "common/byte_queue.h"
#include "proto/agent.h"

namespace sm::guest {

class Connection {
 public:
  Connection(const Services& services, UniqueFd socket, std::uint64_t id);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  // Queues a frame. Only what windows bound may be sent without asking has_room() first.
  void send(std::span<const std::byte> frame);
  bool has_room() const;
  // The last frame is queued: sends what is left, closes this side and waits for the peer's close.
  // A connection that waits without limit is one whose close has a meaning (the main workload).
  void finish(bool wait_without_limit = false);
  void finish_with_error(const agent::ErrorReport& report, bool wait_without_limit = false);

 private:
  enum class State : std::uint8_t { kHello, kRequest, kServing, kFinishing, kClosed };

  void on_events(std::uint32_t events);
  void receive();
  void flush();
  void handle_frames();
  Status handle_frame(agent::Frame frame);
  Status handle_request(agent::Frame& frame);
  void refuse_until_resumed();
  Status start_exec(const agent::Frame& frame);
  Status signal_main(const agent::Frame& frame);
  Status attach_main(const agent::Frame& frame);
  Status start_file(const agent::Frame& frame);
  Status start_forward(const agent::Frame& frame);
  Status start_resume(agent::Frame& frame);
  void break_protocol(const Error& error);
  void update_watch();
  void set_timer(TimePoint at);
  void cancel_timer();
  void close();

  Services services_;
  UniqueFd socket_;
  std::uint64_t id_;
  std::unique_ptr<FdWatch> watch_;
  State state_ = State::kHello;
  agent::FrameParser parser_;
  ByteQueue out_;
  std::unique_ptr<Session> session_;
  TimerId timer_ = TimerId::kNone;
  std::uint32_t generation_;  // in which it was opened
  bool shut_down_ = false;
  bool wait_without_limit_ = false;
};

}  // namespace sm::guest
