#include "runtime/keeper/keeper_claim.h"

#include <unistd.h>

#include <utility>

#include "runtime/paths.h"

namespace sm {

Result<std::string> keeper_socket_of(const std::string& id) {
  return SM_TRY(runtime_dir()) + "/keeper-" + short_vm_id(id) + ".sock";
}

Result<KeeperClaim> claim_new(const VmRegistry& registry, VmRecord record) {
  KeeperClaim out;
  if (record.id.empty()) record.id = SM_TRY(random_vm_id());
  out.before = record;
  record.keeper_pid = ::getpid();
  record.keeper_socket = SM_TRY(keeper_socket_of(record.id));
  out.server = SM_TRY(KeeperServer::listen(record.keeper_socket));
  out.held = SM_TRY(registry.create(std::move(record)));
  out.before.name = out.held.record.name;
  return out;
}

Result<KeeperClaim> claim_vm(const VmRegistry& registry, const std::string& id) {
  KeeperClaim out;
  out.held = SM_TRY(registry.hold(id));
  VmRecord& r = out.held.record;
  out.before = r;
  r.state = VmState::kCreated;
  r.lost = false;
  r.stopped = false;
  r.restarts = 0;
  r.error.clear();
  r.keeper_pid = ::getpid();
  r.keeper_socket = SM_TRY(keeper_socket_of(id));
  out.server = SM_TRY(KeeperServer::listen(r.keeper_socket));
  SM_TRY_STATUS(out.held.save());
  return out;
}

void give_back(KeeperClaim claim) {
  claim.held.record = claim.before;
  // A record that cannot be written says what is true as well: the VM's keeper is gone.
  static_cast<void>(claim.held.save());
  let_go(claim.held, *claim.server);
}

void let_go(HeldRecord& held, KeeperServer& server) {
  // The next keeper's socket has the same name.
  server.hide();
  held.release();
  server.close();
}

}  // namespace sm
