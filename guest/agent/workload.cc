#include "agent/workload.h"

#include <utility>

namespace sm::guest {

Workload::Workload(EventLoop& loop, ProcessTable& processes, UniqueFd link, AgentSettings settings)
    : loop_(loop),
      processes_(processes),
      link_(std::move(link)),
      watch_(std::make_unique<FdWatch>(loop, link_.get(), [this](std::uint32_t) { on_link(); })),
      hostname_(std::move(settings.hostname)),
      hosts_(std::move(settings.hosts)) {
  defaults_.env = std::move(settings.env);
  watch_->want(EPOLLIN);
}

Status Workload::report_ready() { return send_link(link_.get(), {LinkType::kReady}); }

bool Workload::claim(const agent::ExecRequest& request) {
  if (claimed_) return false;
  claimed_ = true;
  defaults_.env = merge_environment(defaults_.env, request.env);
  if (!request.cwd.empty()) defaults_.cwd = request.cwd;
  defaults_.user = request.user;
  if (request.container) defaults_.settings = request.container->process;
  return true;
}

Words Workload::environment_for(const agent::ExecRequest& request) const {
  if (request.main) return merge_environment(defaults_.env, secrets_);
  if (secrets_.empty()) return merge_environment(defaults_.env, request.env);
  Words base = merge_environment(defaults_.env, secrets_);
  Words env = merge_environment(base, request.env);
  wipe(base);
  return env;
}

void Workload::resume(const agent::ResumeRequest& request) {
  defaults_.env = merge_environment(defaults_.env, request.env);
  wipe(secrets_);
  secrets_ = request.secrets;
  if (!request.hostname.empty()) hostname_ = request.hostname;
  if (!request.hosts.empty()) hosts_ = request.hosts;
}

void Workload::announce(std::function<void()> release) {
  release_ = std::move(release);
  if (!send_link(link_.get(), {LinkType::kWorkloadStart})) loop_.stop();
}

bool Workload::signal(int number) {
  if (pid_ <= 0) return false;
  processes_.signal_group(pid_, number);
  return true;
}

void Workload::close() {
  release_ = nullptr;
  pid_ = -1;
  if (!send_link(link_.get(), {LinkType::kWorkloadExit, status_})) loop_.stop();
}

void Workload::on_link() {
  for (;;) {
    const auto message = receive_link(link_.get());
    if (!message) {
      watch_->want(0);
      loop_.stop();
      return;
    }
    if (!*message) return;
    if ((*message)->type == LinkType::kSignal) signal(static_cast<int>((*message)->value));
    if ((*message)->type == LinkType::kRelease && release_) std::exchange(release_, nullptr)();
  }
}

}  // namespace sm::guest
