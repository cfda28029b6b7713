// ExecClient: one program of a guest for callers on any thread: its streams, signals and end.
// Reading is what grants the guest room for more output, so an output that nobody reads stops the
// program at 256 KiB, as a pipe would. Callbacks are called on the loop, or within the call when
// the loop is gone; one read per stream, one write and any number of waits at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "runtime/exec_session.h"
#include "runtime/loop_thread.h"
#include "runtime/vm/started_vm.h"

namespace sm {

class ExecClient : public std::enable_shared_from_this<ExecClient> {
 public:
  using Bytes = std::vector<std::byte>;
  using OnStart = std::function<void(Result<std::shared_ptr<ExecClient>>)>;
  using OnBytes = std::function<void(Result<Bytes>)>;
  using OnDone = std::function<void(Status)>;
  using OnExit = std::function<void(Result<agent::ExitReport>)>;

  // Connects and sends the request; on_start when the program runs or cannot. Any thread.
  static void start(const std::shared_ptr<LoopThread>& loop, std::shared_ptr<VmEndpoint> vm,
                    const agent::ExecRequest& request, OnStart on_start);
  ~ExecClient();
  ExecClient(const ExecClient&) = delete;
  ExecClient& operator=(const ExecClient&) = delete;
  ExecClient(ExecClient&&) = delete;
  ExecClient& operator=(ExecClient&&) = delete;

  std::uint32_t pid() const { return pid_; }
  // At least one byte and at most `max`, or none at the end of the stream.
  void read(agent::Stream stream, std::size_t max, OnBytes done);
  // Done when the guest's agent has room for all of it. Input that the program does not want any
  // more is dropped.
  void write(Bytes bytes, OnDone done);
  void close_input(OnDone done);
  void wait(OnExit done);
  void signal(int number, OnDone done);
  void resize(agent::WindowSize size, OnDone done);
  // Closes the connection: what still runs is killed by the guest's agent. Idempotent.
  void close();

 private:
  struct Output {
    std::deque<std::byte> bytes;
    bool ended = false;
    std::size_t wanted = 0;
    OnBytes reader;
  };

  ExecClient(const std::shared_ptr<LoopThread>& loop, std::shared_ptr<VmEndpoint> vm)
      : loop_(loop), vm_(std::move(vm)) {}
  void begin(const agent::ExecRequest& request, OnStart on_start);
  void on_started(const agent::Started& started);
  void on_output(agent::Stream stream, std::span<const std::byte> bytes);
  void on_exit(const agent::ExitReport& report);
  void fail_with(Error error);
  void serve_reader(Output& output, agent::Stream stream);
  void pump_input();
  void end();
  void arm_timer(Duration wait, const char* what);
  Output& output_of(agent::Stream stream) {
    return outputs_[stream == agent::Stream::kStdout ? 0 : 1];
  }
  // Runs `task` on the loop, or `gone` here and now.
  void on_loop(std::function<void()> task, std::function<void(Error)> gone);

  const std::shared_ptr<LoopThread> loop_;
  const std::shared_ptr<VmEndpoint> vm_;
  std::uint32_t pid_ = 0;  // written once, before on_start

  // The loop's.
  HookId hook_ = HookId::kNone;
  TimerId timer_ = TimerId::kNone;
  std::uint64_t timeout_ms_ = 0;
  OnStart on_start_;
  std::unique_ptr<ExecSession> session_;
  std::array<Output, 2> outputs_;
  Bytes input_;
  std::size_t input_sent_ = 0;
  OnDone writer_;
  bool input_closed_ = false;
  std::vector<OnExit> waiters_;
  std::optional<agent::ExitReport> report_;
  std::optional<Error> error_;
};

struct ExecOutput {
  agent::ExitReport report;
  std::vector<std::byte> out;
  std::vector<std::byte> err;
};

// Runs a program to its end with `input` as its standard input and collects what it prints. More
// than `limit` bytes on a stream: the program is killed, kLimit. `done` as above. Any thread.
void run_exec(const std::shared_ptr<LoopThread>& loop, std::shared_ptr<VmEndpoint> vm,
              const agent::ExecRequest& request, std::vector<std::byte> input, std::size_t limit,
              std::function<void(Result<ExecOutput>)> done);

}  // namespace sm
