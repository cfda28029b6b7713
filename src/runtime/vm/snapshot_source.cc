#include "runtime/vm/snapshot_source.h"

namespace sm {

Result<VmLaunch> SnapshotSource::launch(const VmDir& dir, const std::string& id) {
  VmLaunch out;
  out.worker = base_command(boot_, dir, boot_.hostname.empty() ? id : boot_.hostname);
  out.worker.arguments.push_back("--restore-from=" + facts_.path);
  // Layers, user and environment are those of the one that was opened, whatever lies there now.
  out.worker.arguments.push_back("--restore-digest=" + facts_.memory_digest);
  out.kernel_digest = facts_.kernel_digest;
  out.initramfs_digest = facts_.initramfs_digest;
  out.resume = SM_TRY(resume_request(boot_, facts_.generation + 1, id));
  out.restored = true;
  if (!facts_.disk) return out;
  out.disk = facts_.disk;
  auto copy = unnamed_root_disk(facts_.disk->bytes, facts_.path, dir.path());
  if (!copy) return fail(std::move(copy).error());
  out.worker.root_disk = std::make_shared<const UniqueFd>(*std::move(copy));
  out.worker.root_disk_source = facts_.disk_file;
  return out;
}

}  // namespace sm
