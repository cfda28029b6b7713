#include "runtime/bake/bake.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "oci/text.h"
#include "runtime/bake/tcp_listeners.h"
#include "runtime/client/detached_exec.h"
#include "runtime/client/exec_client.h"
#include "runtime/client/file_client.h"

namespace sm {

namespace {

// Between two looks at the guest, each of which is a request to its agent.
constexpr auto kLook = std::chrono::milliseconds(20);
// From a lost connection to the end of the VM that explains it.
constexpr auto kExplanation = std::chrono::seconds(5);
constexpr std::size_t kMaxTable = 1u << 20;   // of the guest's sockets
constexpr std::size_t kMaxOutput = 1u << 20;  // of a command
constexpr std::size_t kTail = 512;            // of it in an error
constexpr std::uint64_t kMaxAfterMs = 24ull * 3600 * 1000;

using Bytes = std::vector<std::byte>;

class Baker {
 public:
  Baker(const std::shared_ptr<LoopThread>& loop, const std::shared_ptr<VmEndpoint>& vm,
        const BakePlan& plan, const std::stop_token& stop)
      : loop_(loop), vm_(vm), plan_(plan), stop_(stop), deadline_(Deadline::after(plan.limit)) {}

  Result<control::Done> run() {
    SM_TRY_STATUS(explained(make_ready()));
    for (const auto& command : plan_.warmup) SM_TRY_STATUS(explained(warm_up(command)));
    SM_TRY_STATUS(rest(plan_.quiesce));
    return save();
  }

 private:
  // Waits for an operation that ends by itself.
  template <class T>
  Result<T> wait(const std::function<void(std::function<void(Result<T>)>)>& begin) {
    struct State {
      std::mutex mutex;
      std::condition_variable_any changed;
      std::optional<Result<T>> result;
    };
    const auto state = std::make_shared<State>();
    begin([state](Result<T> result) {
      const std::lock_guard lock(state->mutex);
      state->result = std::move(result);
      state->changed.notify_all();
    });
    std::unique_lock lock(state->mutex);
    state->changed.wait_until(lock, stop_, deadline_.at(), [&] { return !!state->result; });
    if (state->result) return std::move(*state->result);
    return fail(late());
  }

  template <class T>
  void on_loop(const std::function<void(Result<T>)>& done, std::function<void()> task) {
    if (loop_->post(std::move(task))) return;
    done(fail(LoopThread::closed()));
  }

  Error late() const {
    if (stop_.stop_requested()) return Error(Code::kGone, "baking was interrupted");
    return Error(Code::kTimeout, "the VM was not ready to be saved in time",
                 "allow more time, or choose another sign of readiness");
  }

  // Lets time pass, unless the VM ends.
  Status rest(std::chrono::milliseconds time) {
    const auto until = now() + time;
    std::mutex mutex;
    std::condition_variable_any never;
    while (now() < until) {
      if (auto end = vm_->end()) return explained(fail(std::move(*end)));
      if (stop_.stop_requested() || deadline_.at() <= now()) return fail(late());
      std::unique_lock lock(mutex);
      never.wait_until(lock, stop_, std::min<TimePoint>(until, now() + kLook),
                       [] { return false; });
    }
    return {};
  }

  // A connection is lost a moment before it is known why.
  Status explained(Status status) {
    if (status || status.error().code() != Code::kGone || stop_.stop_requested()) return status;
    const auto until = now() + kExplanation;
    std::mutex mutex;
    std::condition_variable_any never;
    while (!vm_->end() && now() < until) {
      std::unique_lock lock(mutex);
      never.wait_until(lock, stop_, now() + kLook, [] { return false; });
    }
    const Error why = vm_->end().value_or(status.error());
    return fail(Code::kGuest, "the VM ended before it was ready: " + why.cause(), why.remedy());
  }

  Result<std::string> file(const std::string& path) {
    const Bytes bytes = SM_TRY(wait<Bytes>([&](auto done) {
      on_loop<Bytes>(done, [loop = loop_, vm = vm_, path, done] {
        read_guest_file(*loop, vm, path, kMaxTable, done);
      });
    }));
    return std::string(as_text(bytes));
  }

  Result<std::set<TcpListener>> listeners() {
    std::set<TcpListener> out = parse_tcp_listeners(SM_TRY(file("/proc/net/tcp")));
    const auto v6 = file("/proc/net/tcp6");
    if (v6) out.merge(parse_tcp_listeners(*v6));
    // A guest without IPv6 has no such file.
    if (!v6 && v6.error().code() != Code::kNotFound) return fail(v6.error());
    return out;
  }

  Status make_ready() {
    if (!plan_.workload) return {};
    agent::ExecRequest request = *plan_.workload;
    request.main = request.detached = true;
    if (plan_.ready.when == ReadyWhen::kListener) known_ = SM_TRY(listeners());
    if (plan_.ready.when == ReadyWhen::kHeartbeat) {
      SM_TRY_STATUS(make_ready_file());
      request.env.push_back(std::string(kReadyVariable) + "=" + kReadyFile);
    }
    SM_TRY(wait<std::uint32_t>([&](auto done) { detached_exec(loop_, vm_, request, done); }));
    if (plan_.ready.when == ReadyWhen::kAfter) return rest(plan_.ready.after);
    if (plan_.ready.when == ReadyWhen::kPreExec) return {};
    if (plan_.ready.when == ReadyWhen::kRequest) return requested();
    while (!SM_TRY(is_ready())) SM_TRY_STATUS(rest(kLook));
    return {};
  }

  Status requested() {
    auto status = plan_.on_request();
    if (stop_.stop_requested() || deadline_.at() <= now()) return fail(late());
    return status;
  }

  Status make_ready_file() {
    auto made = wait<int>([&](auto done) {
      on_loop<int>(done, [loop = loop_, vm = vm_, done] {
        write_guest_file(*loop, vm, kReadyFile, 0666, {}, [done](Status status) {
          done(status ? Result<int>(0) : fail(std::move(status).error()));
        });
      });
    });
    if (!made) return fail(std::move(made).error().with(std::string("making ") + kReadyFile));
    return {};
  }

  Result<bool> is_ready() {
    if (auto end = vm_->end()) return fail(std::move(*end));
    if (plan_.ready.when == ReadyWhen::kHeartbeat) {
      auto said = file(kReadyFile);
      if (said) return !said->empty();
      // A program may make the file anew.
      if (said.error().code() == Code::kNotFound) return false;
      return fail(std::move(said).error());
    }
    const auto all = SM_TRY(listeners());
    return std::any_of(all.begin(), all.end(), [this](const TcpListener& l) {
      return !known_.contains(l) && (plan_.ready.port == 0 || l.port == plan_.ready.port);
    });
  }

  Status warm_up(const agent::ExecRequest& command) {
    const ExecOutput output = SM_TRY(
        wait<ExecOutput>([&](auto done) { run_exec(loop_, vm_, command, {}, kMaxOutput, done); }));
    const bool timed_out = output.report.timed_out;
    if (!timed_out && !output.report.signalled && output.report.value == 0) return {};
    std::string tail(as_text(output.err.empty() ? output.out : output.err));
    if (tail.size() > kTail) tail.erase(0, tail.size() - kTail);
    std::string how = output.report.signalled ? " ended by signal " : " ended with status ";
    how += std::to_string(output.report.value);
    if (timed_out) how = " took longer than " + std::to_string(command.timeout_ms) + " ms";
    return fail(Code::kGuest, "the command " + printable(command.argv[0]) + how,
                tail.empty() ? "it printed nothing" : "it said: " + printable(tail));
  }

  // Has limits of its own, and must not be given up half-way: it could still come to its end.
  Result<control::Done> save() {
    std::promise<Result<control::Done>> answer;
    const auto done = [&answer](Result<control::Done> result) {
      answer.set_value(std::move(result));
    };
    const bool posted = loop_->post([vm = vm_, order = plan_.save, done] {
      VmControl* control = vm->control();
      if (control != nullptr) return control->save(order, done);
      done(fail(vm->end().value_or(Error(Code::kGone, "the VM has ended"))));
    });
    if (!posted) done(fail(LoopThread::closed()));
    return answer.get_future().get();
  }

  const std::shared_ptr<LoopThread> loop_;
  const std::shared_ptr<VmEndpoint> vm_;
  const BakePlan& plan_;
  const std::stop_token stop_;
  const Deadline deadline_;
  std::set<TcpListener> known_;
};

template <class T>
std::optional<T> number(std::string_view text) {
  T out{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

}  // namespace

Result<Readiness> parse_readiness(const std::string& text) {
  const auto colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const bool valued = colon != std::string::npos;
  const std::string value = valued ? text.substr(colon + 1) : std::string();
  Readiness out;
  if (name == "pre-exec" && !valued) return out;
  if (name == "heartbeat" && !valued) {
    out.when = ReadyWhen::kHeartbeat;
    return out;
  }
  if (name == "listener") {
    out.when = ReadyWhen::kListener;
    if (!valued) return out;
    out.port = number<std::uint16_t>(value).value_or(0);
    if (out.port != 0) return out;
  }
  if (name == "after-ms" && valued) {
    const auto ms = number<std::uint64_t>(value);
    out.when = ReadyWhen::kAfter;
    if (ms && *ms <= kMaxAfterMs) {
      out.after = std::chrono::milliseconds(*ms);
      return out;
    }
  }
  if (name == "request" && !value.empty()) {
    out.when = ReadyWhen::kRequest;
    return out;
  }
  return fail(Code::kInvalidArgument, "'" + printable(text) + "' is no sign of readiness",
              "use pre-exec, listener, listener:PORT, heartbeat or after-ms:N");
}

Result<control::Done> bake_vm(const std::shared_ptr<LoopThread>& loop,
                              const std::shared_ptr<VmEndpoint>& vm, const BakePlan& plan,
                              const std::stop_token& stop) {
  return Baker(loop, vm, plan, stop).run();
}

}  // namespace sm
