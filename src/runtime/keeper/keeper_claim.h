// KeeperClaim: a VM that this process is about to keep. From the moment that others find the VM in
// this state they can talk to its keeper: what they ask waits until the keeper serves (keeper.h).
// Thread: one.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "runtime/keeper/keeper_server.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

struct KeeperClaim {
  HeldRecord held;
  std::unique_ptr<KeeperServer> server;
  VmRecord before;  // what the record said
};

// The path of the control socket of a VM's keeper.
Result<std::string> keeper_socket_of(const std::string& id);

// A new VM, as VmRegistry::create has it.
Result<KeeperClaim> claim_new(const VmRegistry& registry, VmRecord record);
// One that does not live. kInvalidArgument when somebody else keeps it.
Result<KeeperClaim> claim_vm(const VmRegistry& registry, const std::string& id);
// Nothing was started: the record says again what it said, and nobody keeps the VM.
void give_back(KeeperClaim claim);
// For the keeper's last act: the record is complete, others may hold it, and who was not let in yet
// is turned away and finds it so. Who has asked already can still be answered.
void let_go(HeldRecord& held, KeeperServer& server);

}  // namespace sm
