// FileSession: reads or writes one regular file of the guest. The file is touched by a child; this
// end moves frames and checks the size that was announced.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "agent/child_channel.h"
#include "agent/process_table.h"
#include "agent/services.h"
#include "agent/session.h"
#include "agent/streams.h"

namespace sm::guest {

class FileSession final : public Session {
 public:
  // `type` is kReadFile or kWriteFile.
  FileSession(Connection& connection, const Services& services, agent::FrameType type,
              agent::FileRequest request);
  ~FileSession() override;
  FileSession(const FileSession&) = delete;
  FileSession& operator=(const FileSession&) = delete;

  void start();
  Status on_frame(const agent::Frame& frame) override;
  void on_room() override;

 private:
  bool writes() const { return type_ == agent::FrameType::kWriteFile; }
  Status try_start();
  Status on_data(const agent::Frame& frame);
  void on_report(std::optional<ChildChannel::Report> report);
  void on_end(const ProcessEnd& end);
  void complete_if_done();

  Connection& connection_;
  Services services_;
  agent::FrameType type_;
  agent::FileRequest request_;
  ChildChannel channel_;
  InputStream input_;
  OutputStream output_;
  UniqueFd host_out_;
  pid_t pid_ = -1;
  std::uint64_t received_ = 0;
  bool complete_ = false;
  std::optional<agent::ErrorReport> error_;
  std::optional<ProcessEnd> end_;
};

}  // namespace sm::guest
