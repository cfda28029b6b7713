#include "runtime/worker/snapshots.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "base/file.h"
#include "vmm/snapshot/capture_record.h"
#include "vmm/snapshot/compatibility.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

namespace {

// Limit: each base costs descriptors and mappings.
constexpr std::size_t kMaxBases = 16;

Result<std::string> absolute_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return fail_errno(path, errno);
  std::string out(resolved);
  std::free(resolved);
  return out;
}

tl::unexpected<Error> differs(const std::string& what, const std::string& saved,
                              const std::string& here, std::string remedy) {
  return fail(Code::kUnsupported,
              "the snapshot's " + what + " is " + saved + ", here it is " + here,
              std::move(remedy));
}

}  // namespace

Result<OpenedSnapshot> open_snapshot(const std::string& path, const std::string& memory_digest) {
  OpenedSnapshot opened{.path = SM_TRY(absolute_path(path)), .manifest = {}, .restore = {}};
  Snapshot snapshot = SM_TRY(Snapshot::open(opened.path));
  opened.manifest = snapshot.manifest();
  if (!memory_digest.empty() && opened.manifest.memory_digest != memory_digest) {
    return fail(Code::kCorrupt, path + " has been replaced by another snapshot",
                "try again with the new one");
  }
  opened.restore.state = snapshot.take_state();
  opened.restore.awaits_image = opened.manifest.awaits_image;
  auto& layers = opened.restore.memory;
  for (std::size_t bases = 0;; ++bases) {
    const std::optional<SnapshotBase> base = snapshot.manifest().base;
    const auto pages = snapshot.pages();
    // A diff of which nothing had changed adds nothing.
    if (!base || !pages.empty()) {
      layers.insert(layers.begin(), {snapshot.take_memory(), {pages.begin(), pages.end()}});
    }
    if (!base) return opened;
    if (bases == kMaxBases) {
      return fail(Code::kLimit, path + ": more than " + std::to_string(kMaxBases) + " bases");
    }
    snapshot = SM_TRY_WITH(Snapshot::open(base->path), "base of " + path);
    if (snapshot.manifest().memory_digest != base->memory_digest) {
      return fail(Code::kCorrupt, path + ": its base " + base->path + " has been replaced",
                  "take the snapshot again");
    }
  }
}

Status check_snapshot(const SnapshotManifest& manifest, const WorkerOptions& options,
                      const EngineCpu& cpu) {
  if (manifest.cpu_model != cpu.model || !signature_covers(cpu.signature, manifest.cpu_signature)) {
    const auto text = [](const std::string& model, const std::string& signature) {
      return signature.empty() ? model : model + " (" + signature + ")";
    };
    return differs(
        "CPU", text(manifest.cpu_model, manifest.cpu_signature), text(cpu.model, cpu.signature),
        "restore on the kind of machine that saved it, or save with --cpu-model x86-64-v2");
  }
  if (options.memory_given && options.memory_mib << 20 != manifest.memory_bytes) {
    return differs("memory", std::to_string(manifest.memory_bytes >> 20) + " MiB",
                   std::to_string(options.memory_mib) + " MiB", "leave out --memory");
  }
  if (options.vcpus_given && options.vcpus != manifest.vcpus) {
    return differs("number of vCPUs", std::to_string(manifest.vcpus), std::to_string(options.vcpus),
                   "leave out --vcpus");
  }
  if (options.snapshot_on_pre_exec && !manifest.awaits_image) {
    return fail(Code::kInvalidArgument, "--snapshot-on-pre-exec: the saved VM is past that point",
                "leave it out");
  }
  return {};
}

Result<Capture> take_snapshot(Vm& vm, SnapshotManifest facts, const SnapshotPlace& order,
                              const std::function<void()>& captured) {
  auto writer = SM_TRY(SnapshotWriter::create(order.path, facts.memory_bytes, order.replace));
  Capture capture = SM_TRY(vm.capture(
      {.memory_file = writer->memory_fd(), .disk_file = -1, .changed_only = order.changed_only}));
  captured();
  if (order.changed_only) {
    writer->set_pages(capture.changed);
  } else {
    facts.base.reset();
  }
  facts.disk.reset();
  facts.devices = std::move(capture.devices);
  facts.awaits_image = capture.awaits_image;
  facts.created_unix_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count();
  SM_TRY_STATUS(writer->commit(std::move(facts), capture.state));
  return capture;
}

Result<Capture> save_machine(Vm& vm, SnapshotManifest facts, const CaptureTarget& target,
                             int record_file, const std::function<void()>& captured) {
  Capture capture = SM_TRY(vm.capture(target));
  captured();
  if (!target.changed_only) facts.base.reset();
  facts.disk.reset();  // the parent knows what it has sent
  facts.devices = std::move(capture.devices);
  facts.awaits_image = capture.awaits_image;
  facts.memory_digest.assign(32, '0');  // the parent draws it
  const auto record = encode_capture({.facts = std::move(facts),
                                      .state = std::move(capture.state),
                                      .changed = std::move(capture.changed)});
  SM_TRY_STATUS(write_all(record_file, record));
  return capture;
}

}  // namespace sm
