// What a keeper does for those who ask on its control socket.
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/vm_target.h"
#include "runtime/run_session.h"
#include "runtime/unix_connect.h"

namespace sm {

namespace {

// Limit: programs that run on without anybody who listens.
constexpr std::size_t kMaxExecs = 256;
constexpr std::size_t kMaxProcFile = 64u << 10;
// So long may a guest write out what it has after its command was killed.
constexpr Duration kLastWrites = std::chrono::seconds(10);

std::uint64_t number_in(std::string_view text) {
  std::uint64_t out = 0;
  const auto start = text.find_first_of("0123456789");
  if (start == std::string_view::npos) return 0;
  std::from_chars(text.data() + start, text.data() + text.size(), out);
  return out;
}

// The number behind "NAME:" of a file of such lines.
std::uint64_t field_of(std::string_view text, std::string_view name) {
  const auto at = text.find(name);
  if (at == std::string_view::npos) return 0;
  return number_in(text.substr(at + name.size(), text.find('\n', at) - at - name.size()));
}

std::string proc_file(pid_t pid, const char* name) {
  return read_file("/proc/" + std::to_string(pid) + "/" + name, kMaxProcFile).value_or("");
}

}  // namespace

KeeperStats process_stats(pid_t pid) {
  KeeperStats out;
  const std::string stat = proc_file(pid, "stat");
  // The program's name may hold anything; the fields behind it are 3 and following.
  std::string_view rest(stat);
  rest.remove_prefix(std::min(rest.size(), rest.rfind(')') + 1));
  std::uint64_t ticks = 0;
  for (int field = 2; !rest.empty() && field <= 15; ++field) {
    if (field == 14 || field == 15) ticks += number_in(rest.substr(0, rest.find(' ')));
    const auto blank = rest.find(' ');
    rest.remove_prefix(blank == std::string_view::npos ? rest.size() : blank + 1);
  }
  out.cpu_ns = ticks * (1'000'000'000ull / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
  const std::string status = proc_file(pid, "status");
  out.memory_bytes = field_of(status, "VmRSS:") << 10;
  out.processes = field_of(status, "Threads:");
  const std::string io = proc_file(pid, "io");
  out.read_bytes = field_of(io, "rchar:");
  out.write_bytes = field_of(io, "wchar:");
  return out;
}

void Keeper::answer(KeeperServer::CallId call, const Status& status) {
  KeeperReply reply;
  if (!status) reply.error = status.error();
  server_->reply(call, reply);
}

void Keeper::on_request(KeeperServer::CallId call, KeeperRequest request) {
  switch (request.verb) {
    case KeeperVerb::kStop:
      return stop(call, request);
    case KeeperVerb::kKill:
      return kill(call, request.signal);
    case KeeperVerb::kPause:
    case KeeperVerb::kUnpause:
      return pause(call, request.verb == KeeperVerb::kPause);
    case KeeperVerb::kWait:
      // Who wants to end the VM must find room.
      if (waiting_.size() >= KeeperServer::kMaxCalls / 2) {
        return answer(call, fail(Code::kLimit, "too many wait for the end of the VM already"));
      }
      return waiting_.push_back(call);
    case KeeperVerb::kStats: {
      KeeperReply reply;
      if (control_ != nullptr) reply.stats = process_stats(control_->worker_pid());
      reply.stats.memory_limit = held_.record.memory_bytes;
      return server_->reply(call, reply);
    }
    case KeeperVerb::kRename: {
      const auto renamed = registry_.rename(held_, request.text);
      if (renamed) event("rename");
      return answer(call, renamed);
    }
    case KeeperVerb::kSave:
      return save_vm(call, request);
    case KeeperVerb::kAttach:
      return attach(call);
    case KeeperVerb::kExec:
      return exec(call, request.text);
    case KeeperVerb::kStarted:
      if (!on_ready_) return answer(call, {});
      if (starters_.size() >= KeeperServer::kMaxCalls / 4) {
        return answer(call, fail(Code::kLimit, "too many wait for the start of the VM already"));
      }
      return starters_.push_back(call);
  }
}

// The command's own signal first; when that has not helped in time, the VM goes.
void Keeper::stop(KeeperServer::CallId call, const KeeperRequest& request) {
  const VmRecord& r = held_.record;
  stop_wanted_ = true;
  waiting_.push_back(call);
  if (control_ == nullptr) return loop_->stop();  // between two runs
  const std::uint32_t seconds = request.seconds.value_or(r.stop_timeout_s);
  const auto begin = [this, seconds, signal = request.signal != 0 ? request.signal : r.stop_signal](
                         const Status&) {
    if (held_.record.state == VmState::kPaused) held_.record.state = VmState::kRunning;
    // Whatever signal it is, a command that has not begun does not know it yet.
    if (!control_->running()) return control_->end(signal);
    control_->signal(signal);
    loop_->cancel_timer(kill_timer_);
    if (seconds == UINT32_MAX) return;
    kill_timer_ = loop_->add_timer(now() + std::chrono::seconds(seconds), [this] { end_vm(); });
  };
  if (r.state != VmState::kPaused) return begin({});
  // One that stands still would not hear it.
  control_->pause(false, begin);
}

// What the guest has not written to its disk yet is lost with it, so the command goes first, and
// the guest has a moment to end. Who asks twice does not want to wait.
void Keeper::end_vm() {
  const bool keeps_files = !root_disk().empty();
  if (!keeps_files || end_wanted_ || !control_->running() ||
      held_.record.state == VmState::kPaused) {
    return control_->end(SIGKILL);
  }
  end_wanted_ = true;
  control_->signal(SIGKILL);
  loop_->cancel_timer(kill_timer_);
  kill_timer_ = loop_->add_timer(now() + kLastWrites, [this] { control_->end(SIGKILL); });
}

void Keeper::kill(KeeperServer::CallId call, int number) {
  const bool ends = number == SIGKILL || number == 0 || number == held_.record.stop_signal ||
                    number == SIGTERM || number == SIGINT;
  // What is sent to be noticed, such as SIGHUP, says nothing against a restart.
  if (ends) stop_wanted_ = true;
  if (control_ == nullptr) {
    if (!ends) return answer(call, fail(Code::kInvalidArgument, "the VM is not running"));
    waiting_.push_back(call);
    return loop_->stop();
  }
  if (number == SIGKILL || number == 0) {
    waiting_.push_back(call);
    return end_vm();
  }
  event("kill");
  control_->signal(number);
  answer(call, {});
}

void Keeper::pause(KeeperServer::CallId call, bool wanted) {
  const VmState state = held_.record.state;
  if (control_ == nullptr || state != (wanted ? VmState::kRunning : VmState::kPaused)) {
    return answer(call, fail(Code::kInvalidArgument,
                             wanted ? "the VM is not running" : "the VM is not paused"));
  }
  control_->pause(wanted, [this, call, wanted](const Status& done) {
    if (done) {
      held_.record.state = wanted ? VmState::kPaused : VmState::kRunning;
      save();
      event(wanted ? "pause" : "unpause");
    }
    answer(call, done);
  });
}

// Its copies go on behind this moment, so there has to be a command that runs.
void Keeper::save_vm(KeeperServer::CallId call, const KeeperRequest& request) {
  if (control_ == nullptr || !control_->running()) {
    return answer(call, fail(Code::kInvalidArgument, "the VM is not running",
                             "start it: only a VM that runs, or is paused, can be saved"));
  }
  auto target = target_for(*run_, root_disk(), request.text, request.replace);
  if (!target) return answer(call, fail(std::move(target).error()));
  control_->save(*std::move(target), [this, call](const Result<control::Done>& done) {
    KeeperReply reply;
    if (!done) {
      reply.error = done.error();
    } else {
      reply.saved_bytes = done->bytes;
      reply.pause_ns = std::max<std::uint64_t>(done->pause_ns, 1);
      event("snapshot");
    }
    server_->reply(call, reply);
  });
}

void Keeper::attach(KeeperServer::CallId call) {
  if (control_ == nullptr || !control_->running()) {
    return answer(call, fail(Code::kGone, "the command is not running"));
  }
  UniqueFd socket = server_->take(call);
  if (!socket.valid()) return;
  auto peer = AttachPeer::start(*loop_, *control_, std::move(socket), [this] { drop_over(); });
  if (peer) peers_.push_back(*std::move(peer));
  event("attach");
}

// Below us on the stack may be what is over.
void Keeper::drop_over() {
  loop_->post([this] {
    std::erase_if(execs_, [](const auto& e) { return e->over; });
    std::erase_if(peers_, [](const auto& p) { return p->drained(); });
  });
}

void Keeper::exec(KeeperServer::CallId call, const std::string& text) {
  const auto bytes = as_byte_span(text);
  agent::FrameParser parser;
  parser.feed(bytes);
  auto frame = parser.next();
  const bool is_exec = frame && frame->has_value() && (*frame)->type == agent::FrameType::kExec;
  auto request = is_exec ? agent::decode_exec((*frame)->payload)
                         : fail(Code::kCorrupt, "keeper's socket: a malformed request");
  if (request && (control_ == nullptr || !control_->running())) {
    request = fail(Code::kGone, "the VM is not running");
  }
  if (request && execs_.size() >= kMaxExecs) {
    request = fail(Code::kLimit, "256 programs run in the VM in the background already");
  }
  auto socket = request ? connect_unix(held_.record.exec_socket) : fail(request.error());
  if (!socket) return answer(call, fail(std::move(socket).error()));
  request->main = false;
  execs_.push_back(std::make_unique<Exec>());
  Exec* const e = execs_.back().get();
  e->call = call;
  const auto over = [this, e](std::optional<Error> error, int status) {
    e->over = true;
    if (const auto waiting = std::exchange(e->call, 0); waiting != 0) {
      server_->reply(waiting, {.error = std::move(error), .status = status, .stats = {}});
    }
    drop_over();
  };
  auto session = ExecSession::start(
      *loop_, *std::move(socket), *request,
      {.on_started = [this, e](agent::Started) { answer(std::exchange(e->call, 0), {}); },
       .on_output = [e](auto stream, auto out) { e->session->consumed(stream, out.size()); },
       .on_stdin_room = [] {},
       .on_exit = [over](agent::ExitReport) { over({}, 0); },
       .on_refused =
           [over](const agent::ErrorReport& report) {
             over(Error(Code::kGuest, report.message), refusal_status(report.kind));
           },
       .on_lost = [over](Error error) { over(std::move(error), 125); }});
  if (session) {
    e->session = *std::move(session);
  } else {
    over(std::move(session).error(), 125);
  }
}

}  // namespace sm
