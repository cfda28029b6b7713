#include "agent/file_session.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/connection.h"
#include "base/file.h"

namespace sm::guest {

namespace {
using agent::ErrorKind;
using agent::FrameType;
using agent::Stream;
}  // namespace

FileSession::FileSession(Connection& connection, const Services& services, FrameType type,
                         agent::FileRequest request)
    : connection_(connection),
      services_(services),
      type_(type),
      request_(std::move(request)),
      channel_(services.loop, [this](auto report) { on_report(std::move(report)); }),
      input_(connection, services.loop),
      output_(connection, services.loop, Stream::kStdout, [this] { complete_if_done(); }) {}

FileSession::~FileSession() {
  if (pid_ <= 0 || end_) return;
  // A writer ends by itself when its pipe is closed, and then takes its temporary file away.
  if (!writes()) services_.processes.kill_all(pid_);
  services_.processes.forget(pid_);
}

void FileSession::start() {
  if (auto status = try_start(); !status) {
    complete_ = true;
    connection_.finish_with_error({ErrorKind::kResource, 0, status.error().cause()});
  }
}

Status FileSession::try_start() {
  int fds[2] = {-1, -1};
  if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
  UniqueFd read_end(fds[0]), write_end(fds[1]);
  SM_TRY_STATUS(set_nonblocking(writes() ? write_end.get() : read_end.get(), true));
  const UniqueFd status = SM_TRY(channel_.open());
  ChildDescriptors descriptors;
  descriptors.status = status.get();
  (writes() ? descriptors.in : descriptors.out) = writes() ? read_end.get() : write_end.get();
  const auto child = [&] {
    if (writes()) run_write_child(request_, descriptors);
    run_read_child(request_.path, descriptors);
  };
  pid_ = SM_TRY(services_.processes.start(child, [this](const ProcessEnd& end) { on_end(end); }));
  if (writes()) {
    input_.start(std::move(write_end), false);
  } else {
    host_out_ = std::move(read_end);
  }
  return {};
}

Status FileSession::on_frame(const agent::Frame& frame) {
  if (writes() && frame.type == FrameType::kData) return on_data(frame);
  if (!writes() && frame.type == FrameType::kWindow) {
    output_.grant(SM_TRY(agent::decode_u32(frame.payload)));
    return {};
  }
  return fail(Code::kCorrupt, "agent protocol: a frame that a file request does not know");
}

Status FileSession::on_data(const agent::Frame& frame) {
  if (frame.stream != static_cast<std::uint8_t>(Stream::kStdin)) {
    return fail(Code::kCorrupt, "agent protocol: data for an output stream");
  }
  if (frame.payload.empty()) {
    input_.receive_end();
    return {};
  }
  received_ += frame.payload.size();
  if (received_ > request_.size) {
    return fail(Code::kLimit, "agent protocol: more bytes than the file request announced");
  }
  return input_.receive(frame.payload);
}

void FileSession::on_report(std::optional<ChildChannel::Report> report) {
  if (!report) return complete_if_done();
  if (report->kind == ChildReport::kError) error_ = std::move(report->error);
  if (report->kind == ChildReport::kSize && host_out_.valid()) {
    connection_.send(agent::encode_started({.size = report->size}));
    output_.start(std::move(host_out_), false);
  }
}

void FileSession::on_end(const ProcessEnd& end) {
  end_ = end;
  input_.close();
  channel_.drain();
  output_.process_ended();
  complete_if_done();
}

void FileSession::complete_if_done() {
  if (complete_ || !end_ || !channel_.closed() || !output_.finished()) return;
  complete_ = true;
  if (error_) return connection_.finish_with_error(*error_);
  if (!WIFEXITED(end_->wait_status) || WEXITSTATUS(end_->wait_status) != 0) {
    return connection_.finish_with_error(
        {ErrorKind::kFile, 0, request_.path + ": the transfer was interrupted"});
  }
  connection_.send(agent::encode_done());
  connection_.finish();
}

void FileSession::on_room() { output_.on_room(); }

}  // namespace sm::guest
