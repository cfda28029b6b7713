#include "runtime/loop_thread.h"

#include <signal.h>

#include "base/check.h"

namespace sm {

namespace {

// Threads inherit the mask of the one that starts them.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked(AllSignalsBlocked&&) = delete;
  AllSignalsBlocked& operator=(AllSignalsBlocked&&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Result<std::unique_ptr<LoopThread>> LoopThread::start(const std::string& name) {
  std::unique_ptr<LoopThread> out(new LoopThread(SM_TRY(EventLoop::create())));
  {
    const AllSignalsBlocked blocked;
    out->thread_ = NamedThread(name, [self = out.get()] { self->run(); });
  }
  std::unique_lock lock(out->mutex_);
  out->running_changed_.wait(lock, [&] { return out->running_; });
  return out;
}

void LoopThread::run() {
  {
    const std::lock_guard lock(mutex_);
    thread_id_ = std::this_thread::get_id();
    running_ = true;
    running_changed_.notify_all();
  }
  loop_->run();
  // What the hooks posted.
  loop_->run_once(Deadline::after(Duration::zero()));
}

bool LoopThread::post(Task task) {
  const std::lock_guard lock(mutex_);
  if (closing_) return false;
  loop_->post(std::move(task));
  return true;
}

HookId LoopThread::add_stop_hook(Task hook) {
  const HookId id{next_hook_++};
  hooks_.emplace(id, std::move(hook));
  return id;
}

void LoopThread::remove_stop_hook(HookId id) { hooks_.erase(id); }

void LoopThread::run_hooks() {
  while (!hooks_.empty()) {
    // A hook may remove others.
    auto node = hooks_.extract(hooks_.begin());
    node.mapped()();
  }
  loop_->stop();
}

void LoopThread::stop() {
  SM_CHECK(!on_thread());
  {
    const std::lock_guard lock(mutex_);
    if (!closing_) loop_->post([this] { run_hooks(); });
    closing_ = true;
  }
  thread_.join();
  thread_id_ = std::thread::id();
}

}  // namespace sm
