#include "runtime/vm/baked_source.h"

#include <bit>
#include <utility>

#include "runtime/bake/fingerprint.h"

namespace sm {

namespace {

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

BakeInputs common_inputs(const BootConfig& boot, const std::string& kernel_digest,
                         const std::string& initramfs_digest) {
  BakeInputs inputs;
  inputs.kernel_digest = kernel_digest;
  inputs.initramfs_digest = initramfs_digest;
  inputs.memory_bytes = boot.memory_mib << 20;
  inputs.vcpus = boot.vcpus;
  inputs.engine = boot.engine;
  inputs.guest_config = guest_config(kBakedHostname);
  return inputs;
}

std::string image_name(BakeInputs inputs, const BootConfig& boot) {
  inputs.root_disk_bytes = boot.root_disk.bytes;
  for (const std::string& layer : boot.layers) inputs.layers.push_back(file_name(layer));
  return fingerprint(inputs);
}

std::string kernel_name(BakeInputs inputs, const BootConfig& boot) {
  inputs.layer_slots = layer_slots(boot.layers.size());
  inputs.root_slot = !boot.root_disk.path.empty();
  return inputs.layer_slots == 0 ? "" : fingerprint(inputs);
}

}  // namespace

std::uint32_t layer_slots(std::size_t layers) {
  constexpr std::uint32_t kMost = 16;
  if (layers == 0 || layers > kMost) return 0;
  return std::bit_ceil(static_cast<std::uint32_t>(layers));
}

BakedSource::BakedSource(BootConfig boot, SnapshotCache cache, std::string kernel_digest,
                         std::string initramfs_digest, std::string reference)
    : boot_(std::move(boot)),
      cache_(std::move(cache)),
      kernel_digest_(std::move(kernel_digest)),
      initramfs_digest_(std::move(initramfs_digest)),
      reference_(std::move(reference)) {
  const BakeInputs inputs = common_inputs(boot_, kernel_digest_, initramfs_digest_);
  fingerprint_ = image_name(inputs, boot_);
  kernel_ = kernel_name(inputs, boot_);
}

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
    out.worker = restore_command(dir, fingerprint_);
    out.kept = fingerprint_;
  } else {
    make_image(dir, out);
  }
  out.resume = SM_TRY(resume_request(boot_, out.restored ? 1 : 0, id));
  return out;
}

std::optional<WorkerCommand> BakedSource::spare_worker() const {
  if (stuck_ || !cache_.find(fingerprint_)) return std::nullopt;
  return spare_command(boot_);
}

// A machine of a booted kernel has not been a VM before: its generation begins like a boot's.
void BakedSource::make_image(const VmDir& dir, VmLaunch& out) const {
  cache_.make_room();
  if (knows_kernel() && cache_.find(kernel_)) {
    out.worker = restore_command(dir, kernel_);
    out.kept = kernel_;
  } else {
    out.worker = boot_command(boot_, dir, kBakedHostname);
    if (knows_kernel()) {
      const std::string slots = std::to_string(layer_slots(boot_.layers.size()));
      out.worker.arguments.push_back("--layer-slots=" + slots);
      out.worker.arguments.emplace_back("--snapshot-on-kernel");
      out.kernel_bake = target(kernel_, "<booted kernel>");
    }
  }
  out.worker.arguments.emplace_back("--snapshot-on-pre-exec");
  out.bake = target(fingerprint_, reference_);
}

WorkerCommand BakedSource::restore_command(const VmDir& dir, const std::string& from) const {
  WorkerCommand out = base_command(boot_, dir, kBakedHostname);
  out.arguments.push_back("--restore-from=" + cache_.path(from));
  return out;
}

SnapshotTarget BakedSource::target(const std::string& name, const std::string& what) const {
  SnapshotTarget out;
  out.path = cache_.path(name);
  out.memory_bytes = memory_bytes();
  out.kernel_digest = kernel_digest_;
  out.initramfs_digest = initramfs_digest_;
  out.annotations = {{"image", what}, {"fingerprint", name}};
  return out;
}

void BakedSource::on_restore_failed(const std::string& kept) {
  cache_.remove(kept);
  (kept == kernel_ ? kernel_stuck_ : stuck_) = cache_.find(kept);
  baked_ = false;
}

}  // namespace sm
