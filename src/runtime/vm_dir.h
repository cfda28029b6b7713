// VmDir: the private 0700 folder of one VM while it runs, removed with everything in it at the end.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm {

class VmDir {
 public:
  // `id` is this VM's. Folders of processes that died without cleaning up are removed on the way.
  static Result<VmDir> create(const std::string& runtime_dir, const std::string& id);
  // Removes the folders of processes that died without cleaning up.
  static void remove_dead(const std::string& runtime_dir);
  // Held for the moment that folders and sockets there are made or swept. kTimeout. Any thread.
  static Result<UniqueFd> lock_all(const std::string& runtime_dir);
  // Where the folder of a VM is while it runs.
  static std::string path_of(const std::string& runtime_dir, const std::string& id) {
    return runtime_dir + "/vm-" + id;
  }
  VmDir(VmDir&&) noexcept = default;
  VmDir& operator=(VmDir&&) = delete;
  VmDir(const VmDir&) = delete;
  VmDir& operator=(const VmDir&) = delete;
  ~VmDir();

  // Whether it is still there, with the lock that says whose it is.
  bool intact() const;
  std::string exec_socket() const { return path_ + "/exec.sock"; }
  std::string console_log() const { return path_ + "/console.log"; }
  std::string worker_log() const { return path_ + "/worker.log"; }
  const std::string& path() const { return path_; }

 private:
  VmDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  UniqueFd lock_;  // held as long as this process lives
};

// Twelve random hexadecimal digits.
Result<std::string> random_id();
// Docker's rule for names: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128.
Status check_name(const std::string& name);

}  // namespace sm
