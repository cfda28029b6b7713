// VmSaver: snapshots and pauses of one worker's VM, one after the other. Thread: the loop's.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/event_loop.h"
#include "runtime/snapshot_order.h"
#include "runtime/worker_process.h"

namespace sm {

class VmSaver {
 public:
  using OnSaved = std::function<void(Result<control::Done>)>;
  using OnDone = std::function<void(Status)>;

  // Limit: so many orders may wait.
  static constexpr std::size_t kMaxWaiting = 16;
  // So long may the worker take for the memory, and for a pause.
  static constexpr Duration kSaveLimit = std::chrono::minutes(10);
  static constexpr Duration kPauseLimit = std::chrono::seconds(60);

  // `loop` and `worker` outlive it.
  VmSaver(EventLoop& loop, WorkerProcess& worker) : loop_(loop), worker_(worker) {}
  ~VmSaver();
  VmSaver(const VmSaver&) = delete;
  VmSaver& operator=(const VmSaver&) = delete;
  VmSaver(VmSaver&&) = delete;
  VmSaver& operator=(VmSaver&&) = delete;

  // `stay_paused`: the guest stands still from before the capture on and stays so when it worked.
  void save(SnapshotTarget target, bool stay_paused, OnSaved done);
  void set_paused(bool paused, OnDone done);
  // Something is under way.
  bool busy() const { return current_.has_value(); }

  // The worker's answers; those to others are ignored.
  void on_done(const control::Done& done);
  void on_refused(const control::Refused& refused);
  // The worker is gone: a machine that has been saved is still completed, all else fails with
  // `why`.
  void end(const Error& why);

 private:
  struct Task {
    std::optional<SnapshotTarget> target;  // nothing: only the pause
    bool paused = false;                   // afterwards
    OnSaved done;
  };
  void add(Task task);
  void next();
  void ask_pause(bool paused);
  void begin_order();
  void on_order(Result<control::Done> result);
  void complete(Result<control::Done> result);
  void arm(Duration limit);

  EventLoop& loop_;
  WorkerProcess& worker_;
  std::deque<Task> waiting_;
  std::optional<Task> current_;
  std::uint64_t pause_id_ = 0;  // of the pause that is under way
  bool paused_ = false;
  bool paused_here_ = false;  // by the current task: undone when that fails
  std::optional<Error> over_;
  std::unique_ptr<SnapshotOrder> order_;
  TimerId timer_ = TimerId::kNone;
};

}  // namespace sm
