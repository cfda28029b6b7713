// ResumeSession: makes a restored machine one of its own, step by step, and acknowledges it. The
// kernel's state is changed here, files by a child, the defaults of later execs last: a resume that
// fails or is given up changes nothing that a request could see, and none is served after it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "agent/child_channel.h"
#include "agent/process_table.h"
#include "agent/services.h"
#include "agent/session.h"

namespace sm::guest {

class Connection;

class ResumeSession final : public Session {
 public:
  ResumeSession(Connection& connection, const Services& services, agent::ResumeRequest request);
  ~ResumeSession() override;
  ResumeSession(const ResumeSession&) = delete;
  ResumeSession& operator=(const ResumeSession&) = delete;

  void start();
  Status on_frame(const agent::Frame& frame) override;
  void on_room() override {}

 private:
  Status check_root_disk() const;
  Status renew_kernel();
  ResumePlan make_plan() const;
  Status start_child();
  void on_report(std::optional<ChildChannel::Report> report);
  void on_end(const ProcessEnd& end);
  void complete_if_done();
  Status enter_root_disk();
  void acknowledge();
  void fail(agent::ErrorReport report);

  Connection& connection_;
  Services services_;
  agent::ResumeRequest request_;
  ChildChannel channel_;
  agent::ResumeReport report_;
  pid_t pid_ = -1;
  bool begun_ = false;
  bool complete_ = false;
  std::optional<agent::ErrorReport> error_;
  std::optional<ProcessEnd> end_;
};

}  // namespace sm::guest
