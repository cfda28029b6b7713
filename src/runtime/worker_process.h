// WorkerProcess: a supermachine-worker child as seen by the process that started it. Thread: the
// loop's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/control.h"

namespace sm {

struct WorkerCommand {
  std::string program;
  std::vector<std::string> arguments;  // without argv[0], --control and --guest-config
  std::string guest_config;            // JSON, handed over in memory
  std::string log_file;                // the worker's standard error, created 0600
  // An open file that becomes the guest's writable disk; none: null.
  std::shared_ptr<const UniqueFd> root_disk = nullptr;
  // An open file of the same size that the worker copies into root_disk, which is all holes, before
  // its machine exists; none: null.
  std::shared_ptr<const UniqueFd> root_disk_source = nullptr;
};

// What a worker said of a failure, as an error of this process.
Error error_from(const control::Failure& failure);

class WorkerProcess {
 public:
  struct Callbacks {
    std::function<void(const control::Event&)> on_event;
    // The worker said why it cannot go on; on_exit follows.
    std::function<void(Error)> on_failure;
    // An answer to a request with an id, or to the snapshot that the worker's flags asked for.
    std::function<void(const control::Done&)> on_done = {};
    std::function<void(const control::Refused&)> on_refused = {};
    // The process is gone and reaped: its wait status. The last call.
    std::function<void(int status)> on_exit;
  };

  static Result<std::unique_ptr<WorkerProcess>> spawn(EventLoop& loop, const WorkerCommand& command,
                                                      Callbacks callbacks);
  // Kills a worker that still runs and reaps it.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  WorkerProcess(WorkerProcess&&) = delete;
  WorkerProcess& operator=(WorkerProcess&&) = delete;

  // The process is somebody else's now. Not from within a callback.
  void set_callbacks(Callbacks callbacks) { callbacks_ = std::move(callbacks); }
  // A request with an id of the caller's choice. The answer comes by on_done or on_refused.
  void request(const control::Message& message) { send(message); }
  // The same with open files, of which the worker gets copies.
  Status request(const control::Message& message, std::span<const int> descriptors);
  // Never used before for this worker; not control::kTriggeredSnapshot.
  std::uint64_t next_request_id() { return ++last_request_id_; }
  // Asks for an orderly end; kill() when that takes too long.
  void request_stop();
  void kill();
  pid_t pid() const { return pid_; }

 private:
  WorkerProcess(EventLoop& loop, pid_t pid, UniqueFd pidfd, UniqueFd control, Callbacks callbacks);
  Status watch();
  void on_control();
  void stop_listening();
  void handle(const control::Message& message);
  void fail_with(Error error);
  void on_pidfd();
  void send(const control::Message& message);

  EventLoop& loop_;
  pid_t pid_;
  UniqueFd pidfd_;
  UniqueFd control_;
  Callbacks callbacks_;
  control::MessageParser parser_;
  WatchId control_watch_ = WatchId::kNone;
  WatchId pidfd_watch_ = WatchId::kNone;
  std::uint64_t last_request_id_ = control::kTriggeredSnapshot;
  bool reaped_ = false;
};

}  // namespace sm
