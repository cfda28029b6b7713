#include "cli/vm_start.h"

#include <utility>

#include "runtime/keeper/detach.h"
#include "runtime/keeper/keeper.h"

namespace sm {

RunOutcome start_vm(const VmRegistry& registry, KeeperClaim claim, PreparedRun run, bool attached,
                    const SessionSignals& signals) {
  run.image.lease.reset();
  if (attached) {
    return Keeper(registry, std::move(claim), true, [](const auto&) {}).run(run, signals);
  }
  // What is left of the claim in this process is a copy.
  KeeperServer& server = *claim.server;
  auto started = run_detached(signals, [&](ReadyPipe& pipe) {
    Keeper keeper(registry, std::move(claim), false,
                  [&pipe](const std::optional<RunOutcome>& failure) { pipe.report(failure); });
    keeper.run(run, signals);
  });
  if (started) {
    server.disown();
    return *std::move(started);
  }
  // The keeper is no more, or never was: the record, which nobody holds from now on, is a lost one.
  server.close();
  return {125, std::move(started).error()};
}

Result<RunOutcome> start_again(const VmRegistry& registry, KeeperClaim claim, bool attached,
                               const SessionSignals& signals) {
  auto run = prepare_again(claim.held.record, signals);
  if (!run || run->image.interrupted_by != 0) {
    give_back(std::move(claim));
    if (!run) return fail(std::move(run).error());
    return RunOutcome{128 + run->image.interrupted_by, {}};
  }
  claim.held.record.detached = !attached;
  return start_vm(registry, std::move(claim), *std::move(run), attached, signals);
}

}  // namespace sm
