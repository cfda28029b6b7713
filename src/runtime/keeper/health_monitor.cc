#include "runtime/keeper/health_monitor.h"

#include <utility>

#include "runtime/unix_connect.h"

namespace sm {

namespace {

// The agent ends a check in time; this is for an agent that does not.
constexpr Duration kGrace = std::chrono::seconds(5);

}  // namespace

HealthMonitor::HealthMonitor(EventLoop& loop, std::string exec_socket, HealthCheck check, Host host)
    : loop_(loop),
      exec_socket_(std::move(exec_socket)),
      check_(std::move(check)),
      host_(std::move(host)),
      tally_(check_) {
  arm(check_.interval, [this] { begin(); });
}

HealthMonitor::~HealthMonitor() { loop_.cancel_timer(timer_); }

void HealthMonitor::arm(Duration wait, std::function<void()> then) {
  loop_.cancel_timer(timer_);
  timer_ = loop_.add_timer(now() + wait, [this, then = std::move(then)] {
    timer_ = TimerId::kNone;
    then();
  });
}

void HealthMonitor::begin() {
  over_.reset();
  if (host_.is_paused()) return arm(check_.interval, [this] { begin(); });
  agent::ExecRequest request;
  request.argv = check_.argv;
  request.timeout_ms = static_cast<std::uint64_t>(
      std::chrono::ceil<std::chrono::milliseconds>(check_.timeout).count());
  auto socket = connect_unix(exec_socket_);
  if (!socket) return end(false);
  auto session =
      ExecSession::start(loop_, *std::move(socket), request,
                         {.on_started = [](agent::Started) {},
                          .on_output =
                              [this](agent::Stream stream, std::span<const std::byte> bytes) {
                                session_->consumed(stream, bytes.size());
                              },
                          .on_stdin_room = [] {},
                          .on_exit =
                              [this](const agent::ExitReport& report) {
                                end(!report.signalled && !report.timed_out && report.value == 0);
                              },
                          .on_refused = [this](const agent::ErrorReport&) { end(false); },
                          .on_lost = [this](const Error&) { end(false); }});
  if (!session) return end(false);
  session_ = *std::move(session);
  arm(check_.timeout + kGrace, [this] { on_timeout(); });
}

void HealthMonitor::on_timeout() {
  // It goes on where it was when the VM does.
  if (host_.is_paused()) return arm(check_.timeout + kGrace, [this] { on_timeout(); });
  end(false);
}

void HealthMonitor::end(bool passed) {
  over_ = std::move(session_);
  arm(check_.interval, [this] { begin(); });
  const Health health = tally_.add(passed, now() - start_);
  host_.on_result(health, tally_.failures());
}

}  // namespace sm
