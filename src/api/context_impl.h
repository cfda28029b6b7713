// What is behind Context, and how blocking and asynchronous calls are made of one implementation.
#pragma once

#include <supermachine/context.h>

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "runtime/loop_thread.h"
#include "runtime/paths.h"
#include "runtime/pool/start_gate.h"

namespace supermachine {

struct Context::Impl {
  std::shared_ptr<sm::LoopThread> loop;
  std::unique_ptr<sm::StartGate> gate;  // the loop's; gone before it is
  sm::Assets assets;
  std::string cache_dir;
  std::string runtime_dir;
  bool queued = false;
  sm::UniqueFd queue_fd;  // eventfd: not zero while something is queued

  // Calls a user's completion where the user wants it.
  void deliver(std::function<void()> completion);
  std::size_t dispatch();
  // Runs a job that blocks on a thread of its own; false when the context is being closed. Its stop
  // token asks it to end soon.
  bool run_in_background(std::function<void(std::stop_token)> job);
  // Ends everything. Once.
  void close();

 private:
  struct Job {
    sm::NamedThread thread;
    std::shared_ptr<std::atomic<bool>> done;
  };
  std::mutex mutex_;
  bool closing_ = false;
  std::vector<std::function<void()>> queue_;
  std::list<Job> jobs_;
  std::stop_source stop_;
};

using ContextPtr = std::shared_ptr<Context::Impl>;
template <class T>
using Done = std::function<void(Result<T>)>;

// `done` of a user, to be called from wherever the operation ends.
template <class T>
Done<T> delivered(const ContextPtr& context, Done<T> done) {
  return [context, done = std::move(done)](Result<T> result) {
    const auto boxed = std::make_shared<Result<T>>(std::move(result));
    context->deliver([done, boxed] { done(std::move(*boxed)); });
  };
}

// Waits for an asynchronous operation, which has its own deadline.
template <class T>
Result<T> await(const ContextPtr& context, const std::function<void(Done<T>)>& begin) {
  if (context->loop->on_thread()) {
    return Error(ErrorCode::kInvalidState, "a blocking call on the library's own thread",
                 "use the asynchronous form in completions, or Completions::kQueue");
  }
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<Result<T>> result;
  };
  const auto state = std::make_shared<State>();
  begin([state](Result<T> result) {
    const std::lock_guard lock(state->mutex);
    state->result.emplace(std::move(result));
    state->changed.notify_one();
  });
  std::unique_lock lock(state->mutex);
  state->changed.wait(lock, [&] { return state->result.has_value(); });
  return std::move(*state->result);
}

}  // namespace supermachine
