// LoopThread: an event loop with a thread of its own. Worker processes are started on it, since
// PR_SET_PDEATHSIG follows the thread that forked: this one lives as long as they may.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/thread.h"

namespace sm {

enum class HookId : std::uint64_t { kNone = 0 };

class LoopThread {
 public:
  using Task = std::function<void()>;

  // The thread takes none of the process's signals.
  static Result<std::unique_ptr<LoopThread>> start(const std::string& name);
  ~LoopThread() { stop(); }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  LoopThread(LoopThread&&) = delete;
  LoopThread& operator=(LoopThread&&) = delete;

  // What a request is answered with when the loop is being stopped.
  static Error closed() {
    return Error(Code::kGone, "the program that owns the VM is being closed");
  }

  // Runs `task` on the thread. False when the loop is being stopped: it will not run. Any thread.
  bool post(Task task);
  // False for everybody once stop() has returned.
  bool on_thread() const { return std::this_thread::get_id() == thread_id_.load(); }
  EventLoop& loop() { return *loop_; }

  // Called once at stop(), on the thread, after every accepted task. Thread: the loop's.
  HookId add_stop_hook(Task hook);
  void remove_stop_hook(HookId id);

  // Runs what was accepted, then the hooks, and joins. Not on the thread itself. Idempotent.
  void stop();

 private:
  explicit LoopThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  void run();
  void run_hooks();

  std::unique_ptr<EventLoop> loop_;
  std::mutex mutex_;
  std::condition_variable running_changed_;
  bool running_ = false;
  bool closing_ = false;
  std::map<HookId, Task> hooks_;  // the loop's thread only
  std::uint64_t next_hook_ = 1;
  NamedThread thread_;
  std::atomic<std::thread::id> thread_id_{};
};

}  // namespace sm
