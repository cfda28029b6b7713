#include "runtime/vm/baked_source.h"

#include <utility>

#include "runtime/bake/fingerprint.h"

namespace sm {

namespace {

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string fingerprint_of(const BootConfig& boot, const std::string& kernel_digest,
                           const std::string& initramfs_digest) {
  BakeInputs inputs;
  inputs.kernel_digest = kernel_digest;
  inputs.initramfs_digest = initramfs_digest;
  inputs.memory_bytes = boot.memory_mib << 20;
  inputs.vcpus = boot.vcpus;
  inputs.engine = boot.engine;
  inputs.guest_config = guest_config(kBakedHostname);
  inputs.root_disk_bytes = boot.root_disk.bytes;
  for (const std::string& layer : boot.layers) inputs.layers.push_back(file_name(layer));
  return fingerprint(inputs);
}

}  // namespace

BakedSource::BakedSource(BootConfig boot, SnapshotCache cache, std::string kernel_digest,
                         std::string initramfs_digest, std::string reference)
    : boot_(std::move(boot)),
      cache_(std::move(cache)),
      kernel_digest_(std::move(kernel_digest)),
      initramfs_digest_(std::move(initramfs_digest)),
      reference_(std::move(reference)),
      fingerprint_(fingerprint_of(boot_, kernel_digest_, initramfs_digest_)) {}

Result<VmLaunch> BakedSource::launch(const VmDir& dir, const std::string& id) {
  VmLaunch out;
  out.kernel_digest = kernel_digest_;
  out.initramfs_digest = initramfs_digest_;
  const std::string hostname = boot_.hostname.empty() ? id : boot_.hostname;
  out.restored = !stuck_ && cache_.find(fingerprint_);
  if (!out.restored && (stuck_ || std::exchange(baked_, true))) {
    out.worker = boot_command(boot_, dir, hostname);
    const bool told =
        !boot_.secrets.empty() || boot_.new_machine_id || !boot_.root_disk.path.empty();
    if (told) out.resume = SM_TRY(resume_request(boot_, 0, id));
    return out;
  }
  if (out.restored) {
    out.worker = restore_command(dir);
  } else {
    cache_.make_room();
    out.worker = boot_command(boot_, dir, kBakedHostname);
    out.worker.arguments.emplace_back("--snapshot-on-pre-exec");
    out.bake = target();
  }
  out.resume = SM_TRY(resume_request(boot_, out.restored ? 1 : 0, id));
  return out;
}

WorkerCommand BakedSource::restore_command(const VmDir& dir) const {
  WorkerCommand out = base_command(boot_, dir, kBakedHostname);
  out.arguments.push_back("--restore-from=" + cache_.path(fingerprint_));
  return out;
}

SnapshotTarget BakedSource::target() const {
  SnapshotTarget out;
  out.path = cache_.path(fingerprint_);
  out.memory_bytes = memory_bytes();
  out.kernel_digest = kernel_digest_;
  out.initramfs_digest = initramfs_digest_;
  out.annotations = {{"image", reference_}, {"fingerprint", fingerprint_}};
  return out;
}

void BakedSource::on_restore_failed() {
  cache_.remove(fingerprint_);
  stuck_ = cache_.find(fingerprint_);
  baked_ = false;
}

}  // namespace sm
