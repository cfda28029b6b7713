// VmRegistry: the records of this user's VMs on disk. Locks and files only; no process is asked.
//
//   STATE/lock           held for the moment that names and folders change
//   STATE/names/NAME  -> the id of the VM that has the name
//   STATE/vms/ID/lock    an open-file-description lock, held by the VM's keeper as long as it lives
//   STATE/vms/ID/record.json, log, log.1, root.img
//
// Any thread and any number of processes.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "runtime/keeper/vm_record.h"

namespace sm {

class VmRegistry;

// A record whose lock this process holds: only it may change the record.
class HeldRecord {
 public:
  VmRecord record;

  const std::string& folder() const { return folder_; }
  // Readers see the old record or the new. Not synced to the disk: no VM survives the machine.
  Status save() const;
  // Gives the lock back: others may hold the record now.
  void release();

 private:
  friend class VmRegistry;
  std::string folder_;
  UniqueFd lock_;
};

class VmRegistry {
 public:
  // ${XDG_STATE_HOME:-$HOME/.local/state}/supermachine, made when missing.
  static Result<VmRegistry> open();
  // The same in a folder of the caller's choice.
  static Result<VmRegistry> open_at(const std::string& folder);

  // A new record with its lock. An empty id or name gets a random one. Refuses a name that is
  // taken, by a VM that has ended too.
  Result<HeldRecord> create(VmRecord record) const;
  // All that can be read, oldest first. One of a VM whose keeper died without a word is lost:
  // exited with 137. Those of them that were to be removed at their end are.
  Result<std::vector<VmRecord>> all() const;
  // By name, id, or the beginning of an id. kNotFound, or kInvalidArgument when it is ambiguous.
  Result<VmRecord> find(const std::string& word) const;
  // The id alone, also of one whose record cannot be read.
  Result<std::string> id_of(const std::string& word) const;
  // Takes the record of a VM that does not live. kInvalidArgument when it does.
  Result<HeldRecord> hold(const std::string& id) const;
  // Somebody holds the record: its keeper, or for a moment who changes or removes it.
  bool is_held(const std::string& id) const;
  Status rename(HeldRecord& held, const std::string& name) const;
  // The record, its logs and its name. The lock goes with it.
  Status remove(HeldRecord held) const;
  // What is left of an unreadable record; for a word that find() fails on with kCorrupt.
  Status remove_unreadable(const std::string& word) const;
  // Leftovers of processes that were killed while they made or removed a record.
  void sweep() const;

  // The file that keeps what the VM writes to its root; it need not be there (root_disk.h).
  std::string root_disk_of(const std::string& id) const { return folder_of(id) + "/root.img"; }
  std::string folder_of(const std::string& id) const { return folder_ + "/vms/" + id; }
  const std::string& folder() const { return folder_; }

 private:
  explicit VmRegistry(std::string folder) : folder_(std::move(folder)) {}
  std::string name_path(const std::string& name) const { return folder_ + "/names/" + name; }
  Result<UniqueFd> lock() const;
  Result<VmRecord> read(const std::string& id) const;
  Result<std::vector<std::string>> ids() const;
  bool name_taken(const std::string& name) const;
  Status claim_name(VmRecord& record) const;
  void forget_name(const VmRecord& record) const;
  Status discard(const std::string& id) const;

  std::string folder_;
};

// "brave_otter": for a VM that was given no name.
std::string random_vm_name();
// 64 random hexadecimal digits.
Result<std::string> random_vm_id();
// What people see of an id.
std::string short_vm_id(const std::string& id);

}  // namespace sm
