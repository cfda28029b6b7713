// Questions to keepers. Calls block.
#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/keeper/keeper_protocol.h"
#include "runtime/keeper/vm_registry.h"

namespace sm {

inline constexpr Duration kKeeperPatience = std::chrono::seconds(10);
inline constexpr Duration kForEver = Duration::max();

// kGone when the VM is not there or ends before it answers, kTimeout; or what the keeper says.
Result<KeeperReply> ask_keeper(const VmRecord& vm, const KeeperRequest& request,
                               Duration patience = kKeeperPatience);
// The same for a VM that may be about to start or to end: while somebody holds its record it is
// asked again. kGone when it is at rest, or is removed; kTimeout when its keeper cannot be reached.
// `vm` is what was found of it.
Result<KeeperReply> ask_vm(const VmRegistry& registry, VmRecord vm, const KeeperRequest& request,
                           Duration patience = kKeeperPatience);
// kAttach: the connection, on which the agent protocol is spoken.
Result<UniqueFd> attach_to_keeper(const VmRecord& vm);

}  // namespace sm
