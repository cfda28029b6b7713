#include "agent/resume_session.h"

#include <sys/wait.h>

#include <utility>

#include "agent/connection.h"
#include "agent/kernel_controls.h"
#include "agent/server.h"
#include "agent/workload.h"
#include "base/wipe.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;
using agent::ResumeStep;
using agent::StepResult;

Status name_step(ResumeStep step, Status status) {
  if (status) return status;
  return sm::fail(std::move(status).error().with(agent::step_name(step)));
}

}  // namespace

ResumeSession::ResumeSession(Connection& connection, const Services& services,
                             agent::ResumeRequest request)
    : connection_(connection),
      services_(services),
      request_(std::move(request)),
      channel_(services.loop, [this](auto report) { on_report(std::move(report)); }) {
  report_.generation = request_.generation;
}

ResumeSession::~ResumeSession() {
  if (pid_ > 0 && !end_) {
    services_.processes.kill_all(pid_);
    services_.processes.forget(pid_);
  }
  if (begun_) services_.server.end_resume();
}

void ResumeSession::start() {
  const std::uint32_t generation = services_.server.generation();
  if (request_.generation != generation) {
    return fail({ErrorKind::kResume, 0,
                 "the request is for generation " + std::to_string(request_.generation) +
                     ", this machine is in generation " + std::to_string(generation)});
  }
  begun_ = services_.server.begin_resume();
  if (!begun_) return fail({ErrorKind::kResume, 0, "another resume is under way"});
  if (auto possible = check_root_disk(); !possible) {
    return fail({ErrorKind::kRootDisk, 0, "root disk: " + possible.error().cause()});
  }
  auto status = renew_kernel();
  wipe(request_.seed);
  if (status) status = start_child();
  if (!status) fail({ErrorKind::kResume, 0, status.error().cause()});
}

// Programs that run would stay in the root that they began in.
Status ResumeSession::check_root_disk() const {
  const Server& server = services_.server;
  if (request_.root_disk.empty() || server.root_on_disk()) return {};
  if (!server.options().layers.valid()) {
    return sm::fail(Code::kUnsupported, "this agent cannot change its root");
  }
  if (server.processes() != 0) return sm::fail(Code::kInvalidArgument, "programs run already");
  return {};
}

// Random numbers first: whatever runs in the guest must not draw one more than needed from the
// generator that all copies of the snapshot share.
Status ResumeSession::renew_kernel() {
  KernelControls* kernel = services_.server.options().kernel.get();
  if (kernel == nullptr) return sm::fail(Code::kUnsupported, "this agent cannot resume");
  SM_TRY_STATUS(name_step(ResumeStep::kRandom, kernel->seed_random(request_.seed)));
  report_.steps.push_back({ResumeStep::kRandom, StepResult::kDone});
  SM_TRY_STATUS(name_step(ResumeStep::kClock, kernel->set_clock(request_.wall_clock_ns)));
  report_.steps.push_back({ResumeStep::kClock, StepResult::kDone});
  if (request_.hostname.empty()) return {};
  return name_step(ResumeStep::kHostname, kernel->set_hostname(request_.hostname));
}

ResumePlan ResumeSession::make_plan() const {
  const Workload& workload = services_.workload;
  ResumePlan plan;
  plan.root = services_.server.options().root;
  plan.generation = request_.generation;
  plan.new_hostname = !request_.hostname.empty();
  plan.old_hostname = workload.hostname();
  plan.hostname = plan.new_hostname ? request_.hostname : plan.old_hostname;
  plan.new_hosts = !request_.hosts.empty();
  plan.old_hosts = workload.hosts();
  plan.hosts = plan.new_hosts ? request_.hosts : plan.old_hosts;
  plan.dns = request_.dns;
  plan.machine_id_policy = request_.machine_id_policy;
  plan.machine_id = request_.machine_id;
  if (!services_.server.root_on_disk()) plan.root_disk = request_.root_disk;
  return plan;
}

Status ResumeSession::start_child() {
  const UniqueFd status = SM_TRY(channel_.open());
  const ResumePlan plan = make_plan();
  const int layers = services_.server.options().layers.get();
  const ChildDescriptors descriptors{plan.root_disk.empty() ? -1 : layers, -1, -1, status.get()};
  pid_ = SM_TRY(services_.processes.start([&] { run_resume_child(plan, descriptors); },
                                          [this](const ProcessEnd& end) { on_end(end); }));
  return {};
}

void ResumeSession::on_report(std::optional<ChildChannel::Report> report) {
  if (!report) return complete_if_done();
  if (report->kind == ChildReport::kError) error_ = std::move(report->error);
  if (report->kind == ChildReport::kStep) report_.steps.push_back(report->step);
}

void ResumeSession::on_end(const ProcessEnd& end) {
  end_ = end;
  channel_.drain();
  complete_if_done();
}

void ResumeSession::complete_if_done() {
  if (complete_ || !end_ || !channel_.closed()) return;
  if (error_) return fail(std::move(*error_));
  if (!WIFEXITED(end_->wait_status) || WEXITSTATUS(end_->wait_status) != 0 ||
      report_.steps.size() != agent::kResumeSteps - 1) {
    return fail({ErrorKind::kResume, 0, "the machine's files: the process was interrupted"});
  }
  // A snapshot may have been taken in the middle of it.
  if (services_.server.generation() != request_.generation) {
    return fail({ErrorKind::kResume, 0, "the machine was restored once more meanwhile"});
  }
  if (auto status = enter_root_disk(); !status) {
    return fail({ErrorKind::kRootDisk, 0, "root disk: " + status.error().cause()});
  }
  acknowledge();
}

Status ResumeSession::enter_root_disk() {
  Server& server = services_.server;
  if (request_.root_disk.empty() || server.root_on_disk()) return {};
  SM_TRY_STATUS(server.options().kernel->follow_root());
  server.set_root_on_disk();
  return {};
}

void ResumeSession::acknowledge() {
  complete_ = true;
  services_.workload.resume(request_);
  wipe(request_.secrets);
  report_.steps.push_back({ResumeStep::kEnvironment, StepResult::kDone});
  services_.server.acknowledge(request_.generation);
  connection_.send(agent::encode_resumed(report_));
  connection_.finish();
}

void ResumeSession::fail(agent::ErrorReport report) {
  complete_ = true;
  report.message = "resume: " + report.message;
  connection_.finish_with_error(report);
}

Status ResumeSession::on_frame(const agent::Frame&) {
  return sm::fail(Code::kCorrupt, "agent protocol: a frame that a resume does not know");
}

}  // namespace sm::guest
