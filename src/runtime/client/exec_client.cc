#include "runtime/client/exec_client.h"

#include <algorithm>
#include <utility>

#include "runtime/client/agent_link.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

// The guest ends a program at its timeout; this is for a guest that does not.
constexpr Duration kTimeoutGrace = std::chrono::seconds(30);
constexpr Duration kStartPatience = std::chrono::seconds(60);
constexpr std::uint64_t kLongestTimeoutMs = 10ull * 365 * 24 * 3600 * 1000;

// A staged file that cannot be written must not look like a program that does not exist.
Error refusal(const agent::ErrorReport& report) {
  Error error = agent_error(report);
  if (report.kind != agent::ErrorKind::kFile) return error;
  return Error(Code::kIo, "staged file " + error.cause(), error.remedy());
}

}  // namespace

void ExecClient::start(const std::shared_ptr<LoopThread>& loop, std::shared_ptr<VmEndpoint> vm,
                       const agent::ExecRequest& request, OnStart on_start) {
  std::shared_ptr<ExecClient> client(new ExecClient(loop, std::move(vm)));
  const auto shared = std::make_shared<OnStart>(std::move(on_start));
  const bool accepted =
      loop->post([client, request, shared] { client->begin(request, std::move(*shared)); });
  if (!accepted) (*shared)(fail(LoopThread::closed()));
}

ExecClient::~ExecClient() = default;

void ExecClient::on_loop(std::function<void()> task, std::function<void(Error)> gone) {
  if (loop_->on_thread()) return task();
  const auto shared = std::make_shared<std::function<void()>>(std::move(task));
  if (!loop_->post([self = shared_from_this(), shared] { (*shared)(); }) && gone) {
    gone(LoopThread::closed());
  }
}

// The stop hook keeps the client until end().
void ExecClient::begin(const agent::ExecRequest& request, OnStart on_start) {
  hook_ =
      loop_->add_stop_hook([self = shared_from_this()] { self->fail_with(LoopThread::closed()); });
  on_start_ = std::move(on_start);
  timeout_ms_ = std::min(request.timeout_ms, kLongestTimeoutMs);
  input_closed_ = !request.keep_stdin;
  if (auto end = vm_->end()) return fail_with(std::move(*end));
  auto socket = connect_unix(vm_->exec_socket());
  if (!socket) return fail_with(lost_connection(socket.error()));
  auto session = ExecSession::start(
      loop_->loop(), std::move(*socket), request,
      {.on_started = [this](agent::Started started) { on_started(started); },
       .on_output = [this](agent::Stream s, std::span<const std::byte> b) { on_output(s, b); },
       .on_stdin_room = [this] { pump_input(); },
       .on_exit = [this](agent::ExitReport report) { on_exit(report); },
       .on_refused = [this](const agent::ErrorReport& r) { fail_with(refusal(r)); },
       .on_lost =
           [this](Error error) {
             fail_with(error.code() == Code::kIo ? lost_connection(error) : std::move(error));
           }});
  if (!session) return fail_with(std::move(session).error());
  session_ = std::move(*session);
  arm_timer(kStartPatience + std::chrono::milliseconds(timeout_ms_),
            "the guest's agent did not start the program in time");
}

void ExecClient::arm_timer(Duration wait, const char* what) {
  loop_->loop().cancel_timer(timer_);
  timer_ = loop_->loop().add_timer(now() + wait, [this, what] {
    timer_ = TimerId::kNone;
    fail_with(Error(Code::kTimeout, what));
  });
}

void ExecClient::on_started(const agent::Started& started) {
  loop_->loop().cancel_timer(std::exchange(timer_, TimerId::kNone));
  if (timeout_ms_ > 0) {
    arm_timer(kTimeoutGrace + std::chrono::milliseconds(timeout_ms_),
              "the guest did not end the program at its timeout");
  }
  pid_ = started.pid;
  if (on_start_) std::exchange(on_start_, {})(shared_from_this());
}

void ExecClient::on_output(agent::Stream stream, std::span<const std::byte> bytes) {
  Output& output = output_of(stream);
  if (bytes.empty()) output.ended = true;
  // The window bounds it: nothing is granted before it is read.
  if (output.bytes.size() + bytes.size() > agent::kInitialWindow) {
    return fail_with(Error(Code::kCorrupt, "agent protocol: more data than the window allows"));
  }
  output.bytes.insert(output.bytes.end(), bytes.begin(), bytes.end());
  serve_reader(output, stream);
}

void ExecClient::serve_reader(Output& output, agent::Stream stream) {
  if (!output.reader) return;
  const std::size_t n = std::min(output.wanted, output.bytes.size());
  if (n == 0 && !output.ended) {
    if (error_) std::exchange(output.reader, {})(fail(*error_));
    return;
  }
  const auto last = output.bytes.begin() + static_cast<std::ptrdiff_t>(n);
  Bytes bytes(output.bytes.begin(), last);
  output.bytes.erase(output.bytes.begin(), last);
  if (session_ && n > 0) session_->consumed(stream, n);
  std::exchange(output.reader, {})(std::move(bytes));
}

void ExecClient::read(agent::Stream stream, std::size_t max, OnBytes done) {
  on_loop(
      [this, stream, max, done] {
        Output& output = output_of(stream);
        if (output.reader || max == 0) {
          return done(fail(Code::kInvalidArgument,
                           max == 0 ? "a read of no bytes" : "another read is under way"));
        }
        output.wanted = max;
        output.reader = done;
        serve_reader(output, stream);
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::write(Bytes bytes, OnDone done) {
  const auto shared = std::make_shared<Bytes>(std::move(bytes));
  on_loop(
      [this, shared, done] {
        if (writer_) return done(fail(Code::kInvalidArgument, "another write is under way"));
        if (input_closed_) {
          return done(fail(Code::kInvalidArgument, "the program's standard input is closed",
                           "ask for it when the program is started"));
        }
        input_ = std::move(*shared);
        input_sent_ = 0;
        writer_ = done;
        pump_input();
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::pump_input() {
  if (!writer_) return;
  if (error_) return std::exchange(writer_, {})(fail(*error_));
  while (session_ && input_sent_ < input_.size()) {
    const std::size_t n = std::min(session_->stdin_room(), input_.size() - input_sent_);
    if (n == 0) return;
    session_->send_stdin(std::span(input_).subspan(input_sent_, n));
    input_sent_ += n;
  }
  std::exchange(writer_, {})({});
}

void ExecClient::close_input(OnDone done) {
  on_loop(
      [this, done] {
        if (writer_) return done(fail(Code::kInvalidArgument, "a write is under way"));
        if (!std::exchange(input_closed_, true) && session_) session_->send_stdin({});
        done({});
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::wait(OnExit done) {
  on_loop(
      [this, done] {
        if (report_) return done(*report_);
        if (error_) return done(fail(*error_));
        waiters_.push_back(done);
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::signal(int number, OnDone done) {
  on_loop(
      [this, number, done] {
        if (number < 1 || number > 64) {
          return done(fail(Code::kInvalidArgument, "no signal " + std::to_string(number)));
        }
        if (session_) session_->send_signal(number);
        done({});
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::resize(agent::WindowSize size, OnDone done) {
  on_loop(
      [this, size, done] {
        if (session_) session_->send_resize(size);
        done({});
      },
      [done](Error error) { done(fail(std::move(error))); });
}

void ExecClient::close() {
  on_loop(
      [this, self = shared_from_this()] {
        fail_with(Error(Code::kGone, "the caller has given the program up"));
      },
      {});
}

void ExecClient::on_exit(const agent::ExitReport& report) {
  report_ = report;
  for (Output& output : outputs_) output.ended = true;
  end();
}

void ExecClient::fail_with(Error error) {
  if (report_ || error_) return;
  // The worker's end, when there is one, explains more than a lost connection.
  if (error.code() == Code::kGone) {
    if (auto end = vm_->end()) error = std::move(*end);
  }
  error_ = std::move(error);
  end();
}

// Everybody gets the answer; the session, which may be below us on the stack, goes later.
void ExecClient::end() {
  const auto self = shared_from_this();
  loop_->loop().cancel_timer(std::exchange(timer_, TimerId::kNone));
  loop_->loop().post([self] { self->session_.reset(); });
  loop_->remove_stop_hook(std::exchange(hook_, HookId::kNone));
  if (on_start_) {
    auto on_start = std::exchange(on_start_, {});
    if (error_) {
      on_start(fail(*error_));
    } else {
      on_start(self);
    }
  }
  pump_input();
  serve_reader(outputs_[0], agent::Stream::kStdout);
  serve_reader(outputs_[1], agent::Stream::kStderr);
  for (const OnExit& done : std::exchange(waiters_, {})) {
    if (report_) {
      done(*report_);
    } else {
      done(fail(*error_));
    }
  }
}

namespace {

// Reads both streams to their ends, then asks for the exit report.
class Collector : public std::enable_shared_from_this<Collector> {
 public:
  using Done = std::function<void(Result<ExecOutput>)>;

  Collector(std::size_t limit, Done done) : limit_(limit), done_(std::move(done)) {}

  void begin(std::shared_ptr<ExecClient> client, std::vector<std::byte> input, bool has_input) {
    client_ = std::move(client);
    read(agent::Stream::kStdout, out_.out);
    read(agent::Stream::kStderr, out_.err);
    if (!has_input) return;
    // A program that ends without reading its input is no failure.
    client_->write(std::move(input),
                   [client = client_](Status) { client->close_input([](Status) {}); });
  }
  void finish(Result<ExecOutput> result) {
    if (!done_) return;
    std::exchange(done_, {})(std::move(result));
    if (client_) client_->close();
    client_.reset();
  }

 private:
  void read(agent::Stream stream, std::vector<std::byte>& into) {
    client_->read(stream, agent::kInitialWindow,
                  [self = shared_from_this(), stream, &into](Result<ExecClient::Bytes> bytes) {
                    self->on_bytes(stream, into, std::move(bytes));
                  });
  }
  void on_bytes(agent::Stream stream, std::vector<std::byte>& into,
                Result<ExecClient::Bytes> bytes) {
    if (!done_) return;
    if (!bytes) return finish(fail(std::move(bytes).error()));
    if (bytes->empty()) {
      if (++ended_ == 2) wait();
      return;
    }
    if (bytes->size() > limit_ - into.size()) {
      return finish(fail(Code::kLimit,
                         "the program printed more than " + std::to_string(limit_) + " bytes",
                         "raise the limit, or read its output while it runs"));
    }
    into.insert(into.end(), bytes->begin(), bytes->end());
    read(stream, into);
  }
  void wait() {
    client_->wait([self = shared_from_this()](Result<agent::ExitReport> report) {
      if (!report) return self->finish(fail(std::move(report).error()));
      self->out_.report = *report;
      self->finish(std::move(self->out_));
    });
  }

  std::size_t limit_;
  Done done_;
  std::shared_ptr<ExecClient> client_;
  ExecOutput out_;
  int ended_ = 0;
};

}  // namespace

void run_exec(const std::shared_ptr<LoopThread>& loop, std::shared_ptr<VmEndpoint> vm,
              const agent::ExecRequest& request, std::vector<std::byte> input, std::size_t limit,
              std::function<void(Result<ExecOutput>)> done) {
  const auto collector = std::make_shared<Collector>(limit, std::move(done));
  const auto shared = std::make_shared<std::vector<std::byte>>(std::move(input));
  const bool has_input = request.keep_stdin;
  ExecClient::start(loop, std::move(vm), request,
                    [collector, shared, has_input](Result<std::shared_ptr<ExecClient>> client) {
                      if (!client) return collector->finish(fail(std::move(client).error()));
                      collector->begin(std::move(*client), std::move(*shared), has_input);
                    });
}

}  // namespace sm
