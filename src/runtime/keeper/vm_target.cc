#include "runtime/keeper/vm_target.h"

#include "runtime/bake/fingerprint.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/root_disk.h"

namespace sm {

namespace {

// What runs in it is the request's, which may be older than the options: `start` keeps it.
SavedImage saved_image(const PreparedRun& run) {
  SavedImage out;
  out.reference = run.options.image;
  out.digest = run.image.digest;
  out.config = run.image.config;
  out.config.env = run.request.env;
  out.config.user = run.request.user;
  out.config.working_dir = run.request.cwd;
  out.config.entrypoint.clear();
  out.config.cmd = run.request.argv;
  for (const std::string& layer : run.image.layers) {
    out.layers.push_back(layer.substr(layer.rfind('/') + 1));
  }
  out.workload = true;
  out.input = run.request.keep_stdin;
  out.terminal = run.request.tty;
  return out;
}

}  // namespace

Result<SnapshotTarget> target_for(const PreparedRun& run, const std::string& root_disk,
                                  const std::string& path, bool replace) {
  constexpr std::uint64_t kMib = 1u << 20;
  SnapshotTarget out;
  out.path = path;
  out.replace = replace;
  out.memory_bytes = run.options.memory_bytes / kMib * kMib;
  out.kernel_digest = SM_TRY(cached_digest(run.assets.kernel, run.cache));
  out.initramfs_digest = SM_TRY(cached_digest(run.assets.initramfs, run.cache));
  if (!root_disk.empty()) {
    const RootDisk disk = SM_TRY(open_root_disk(root_disk));
    out.disk = SnapshotDisk{std::string(kRootDiskSerial), disk.bytes};
  }
  out.annotations = SM_TRY(saved_annotations(saved_image(run)));
  return out;
}

}  // namespace sm
