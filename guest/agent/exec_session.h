// ExecSession: one program of the guest for one connection: start, streams, signals, timeout, exit.
// It lives until the connection is closed; a program that still runs then is killed, unless it is
// detached: then it is nobody's from its start on. A main workload that runs in a copy of the
// machine, where no connection leads to it, goes on by itself and ends the machine when it ends.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "agent/child_channel.h"
#include "agent/process_table.h"
#include "agent/services.h"
#include "agent/session.h"
#include "agent/streams.h"
#include "base/clock.h"
#include "base/event_loop.h"

namespace sm::guest {

class ExecSession final : public Session {
 public:
  ExecSession(Connection& connection, const Services& services, agent::ExecRequest request);
  ~ExecSession() override;
  ExecSession(const ExecSession&) = delete;
  ExecSession& operator=(const ExecSession&) = delete;

  void start();
  Status on_frame(const agent::Frame& frame) override;
  void on_room() override;
  bool outlive_connection() override;
  bool attach(Connection& connection) override;

 private:
  struct Pipes;

  ExecPlan make_plan();
  Status open_streams(Pipes& pipes) const;
  Status try_start();
  Result<pid_t> start_step(const Pipes& pipes);
  bool next_step(const ProcessEnd& end);
  void on_report(std::optional<ChildChannel::Report> report);
  void on_started();
  void detach();
  void on_end(const ProcessEnd& end);
  void on_timeout();
  void arm_timeout();
  Status on_data(const agent::Frame& frame);
  Status on_window(const agent::Frame& frame);
  Status on_signal(const agent::Frame& frame);
  Status on_resize(const agent::Frame& frame);
  void complete_if_done();
  void report_exit();
  void fail(const agent::ErrorReport& error);
  void set_connection(Connection* connection);

  Connection* connection_;  // null once it was outlived
  Services services_;
  agent::ExecRequest request_;
  ChildChannel channel_;
  InputStream stdin_;
  OutputStream stdout_;
  OutputStream stderr_;
  UniqueFd host_in_, host_out_, host_err_;  // our ends until the program runs
  UniqueFd pty_;
  std::unique_ptr<Pipes> guest_ends_;  // while further commands may need them
  std::size_t step_ = 0;               // 0: argv, n: chain[n - 1]
  std::uint64_t peak_rss_kib_ = 0;     // of the steps before
  pid_t pid_ = -1;
  bool started_ = false;
  bool timed_out_ = false;
  bool complete_ = false;
  std::uint64_t waiting_signals_ = 0;  // bit n: signal n+1 came before the program ran
  std::optional<agent::ErrorReport> error_;
  std::optional<ProcessEnd> end_;
  std::uint64_t start_ns_ = 0;
  std::uint64_t end_ns_ = 0;
  TimerId timer_ = TimerId::kNone;
  TimerId attach_timer_ = TimerId::kNone;  // until its output is dropped
};

}  // namespace sm::guest
