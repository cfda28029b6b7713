// Keeper: the process that a VM lives by, from its first start to its last end: its record, its
// log, its published ports, its control socket, its restarts. For an attached `run` that is the run
// itself, for a detached one the process that detach.h makes. Thread: the main one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/exec_session.h"
#include "runtime/keeper/attach_peer.h"
#include "runtime/keeper/event_log.h"
#include "runtime/keeper/health_monitor.h"
#include "runtime/keeper/keeper_claim.h"
#include "runtime/keeper/log_file.h"
#include "runtime/keeper/port_publisher.h"
#include "runtime/keeper/restart_backoff.h"
#include "runtime/keeper/vm_registry.h"
#include "runtime/run_image.h"
#include "runtime/session_guardian.h"

namespace sm {

class Keeper final : public SessionGuardian {
 public:
  // Once: the command runs (nothing), or why it does not.
  using OnReady = std::function<void(const std::optional<RunOutcome>& failure)>;

  // `attached`: the command has this process's standard streams and terminal.
  Keeper(const VmRegistry& registry, KeeperClaim claim, bool attached, OnReady on_ready);
  ~Keeper() override;
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  Keeper(Keeper&&) = delete;
  Keeper& operator=(Keeper&&) = delete;

  // Runs the command until it is over for good; the record then says so, or is gone.
  RunOutcome run(const PreparedRun& run, const SessionSignals& signals);

  Status on_begin(EventLoop& loop, SessionControl& control) override;
  void on_started() override;
  void on_output(agent::Stream stream, std::span<const std::byte> bytes) override;
  void on_input_room() override;
  void on_end(const SessionOutcome& outcome) override;

 private:
  struct Exec {
    std::unique_ptr<ExecSession> session;
    KeeperServer::CallId call = 0;
    bool over = false;
  };

  Status open(const PreparedRun& run);
  // Where what is written to the VM's root is kept; empty: nowhere.
  std::string root_disk() const;
  Status prepare_root_disk(const std::string& cache);
  RunOutcome run_until_over(const PreparedRun& run, const SessionSignals& signals);
  bool wants_restart(const RunOutcome& outcome) const;
  // False when somebody asked for the end meanwhile.
  bool back_off(Duration wait, const SessionSignals& signals);
  void note_end(const RunOutcome& outcome);
  void finish(const RunOutcome& outcome);
  // To our creator, and to all who asked for it.
  void tell_start(const std::optional<RunOutcome>& failure);
  void watch_health();
  void on_health(Health health, std::uint32_t failures);
  void save();
  void event(const std::string& action);

  void on_request(KeeperServer::CallId call, KeeperRequest request);
  void stop(KeeperServer::CallId call, const KeeperRequest& request);
  void end_vm();
  void kill(KeeperServer::CallId call, int number);
  void pause(KeeperServer::CallId call, bool wanted);
  void save_vm(KeeperServer::CallId call, const KeeperRequest& request);
  void attach(KeeperServer::CallId call);
  void exec(KeeperServer::CallId call, const std::string& frame);
  void drop_over();
  void answer(KeeperServer::CallId call, const Status& status);

  const VmRegistry& registry_;
  HeldRecord held_;
  const bool attached_;
  OnReady on_ready_;
  const std::string short_id_;
  const bool ran_before_;
  std::optional<LogWriter> log_;
  EventLog events_;
  std::unique_ptr<PortPublisher> ports_;
  std::unique_ptr<KeeperServer> server_;
  std::vector<KeeperServer::CallId> waiting_;   // for the end
  std::vector<KeeperServer::CallId> starters_;  // for the start
  RestartBackoff backoff_;
  std::optional<HealthCheck> health_check_;
  bool stop_wanted_ = false;
  bool end_wanted_ = false;  // the command was killed, in this session

  const PreparedRun* run_ = nullptr;  // while run() lasts

  // While a session lasts.
  EventLoop* loop_ = nullptr;
  SessionControl* control_ = nullptr;
  TimerId kill_timer_ = TimerId::kNone;
  std::unique_ptr<HealthMonitor> health_;
  std::vector<std::unique_ptr<AttachPeer>> peers_;
  std::vector<std::unique_ptr<Exec>> execs_;
};

// The CPU time, memory and I/O of a process, from /proc. What cannot be read stays 0.
KeeperStats process_stats(pid_t pid);

}  // namespace sm
