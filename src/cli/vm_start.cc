#include "cli/vm_start.h"

#include <memory>
#include <utility>

#include "runtime/keeper/detach.h"
#include "runtime/keeper/keeper.h"

namespace sm {

RunOutcome start_vm(const VmRegistry& registry, HeldRecord held, const PreparedRun& run,
                    bool attached, const SessionSignals& signals) {
  if (attached) {
    return Keeper(registry, std::move(held), true, [](const auto&) {}).run(run, signals);
  }
  auto started = run_detached(signals, [&](ReadyPipe& pipe) {
    Keeper keeper(registry, std::move(held), false,
                  [&pipe](const std::optional<RunOutcome>& failure) { pipe.report(failure); });
    keeper.run(run, signals);
  });
  if (started) return *std::move(started);
  return {125, std::move(started).error()};
}

Result<RunOutcome> start_again(const VmRegistry& registry, const VmRecord& record, bool attached,
                               const SessionSignals& signals) {
  HeldRecord held = SM_TRY(registry.hold(record.id));
  const PreparedRun run = SM_TRY(prepare_again(held.record, signals));
  if (run.image.interrupted_by != 0) return RunOutcome{128 + run.image.interrupted_by, {}};
  VmRecord& r = held.record;
  r.state = VmState::kCreated;
  r.lost = false;
  r.stopped = false;
  r.detached = !attached;
  r.restarts = 0;
  r.error.clear();
  return start_vm(registry, std::move(held), run, attached, signals);
}

}  // namespace sm
