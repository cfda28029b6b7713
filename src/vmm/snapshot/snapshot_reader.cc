// Snapshot: a directory from disk, checked.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "vmm/snapshot/memory_stamp.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"
#include "vmm/snapshot/state_codec.h"

namespace sm {
namespace files = snapshot_files;
namespace {

tl::unexpected<Error> corrupt(const std::string& cause) {
  return fail(Code::kCorrupt, cause, "bake again");
}

// A file that has to be there because the manifest is.
tl::unexpected<Error> part_error(Error error) {
  if (error.code() != Code::kNotFound && error.code() != Code::kGone) return fail(std::move(error));
  return corrupt(error.cause());
}

Result<MachineState> read_state(int directory, const SnapshotManifest& manifest) {
  const auto bytes = files::read_whole(directory, files::kState, kMaxStateBytes);
  if (!bytes) return part_error(bytes.error());
  if (bytes->size() != manifest.state_bytes) {
    return corrupt("state.bin has " + std::to_string(bytes->size()) + " bytes, the manifest says " +
                   std::to_string(manifest.state_bytes));
  }
  if (crc32c(*bytes) != manifest.state_crc) {
    return corrupt("state.bin is damaged, or another snapshot's");
  }
  MachineState state = SM_TRY(decode_state(*bytes));
  if (state.vcpus.size() != manifest.vcpus || state.devices.size() != manifest.devices.size()) {
    return corrupt("manifest and machine state disagree about the machine");
  }
  return state;
}

struct SumFile {
  MemorySum sum;
  std::uint32_t crc = 0;
};

Result<SumFile> read_sum(int directory, const files::ImageFiles& names, std::uint64_t image_bytes,
                         std::uint32_t manifest_crc) {
  const auto bytes = files::read_whole(directory, names.sum, max_memory_sum_bytes(image_bytes));
  if (!bytes) return part_error(bytes.error());
  SumFile out;
  out.sum = SM_TRY(decode_memory_sum(*bytes, image_bytes));
  out.crc = crc32c(*bytes);
  if (out.sum.manifest_crc != manifest_crc) {
    return corrupt(std::string("manifest.json was altered, or ") + names.sum +
                   " is another snapshot's");
  }
  return out;
}

Result<UniqueFd> open_image(int directory, const char* name, std::uint64_t bytes) {
  auto fd = files::open_regular(directory, name);
  if (!fd) return part_error(fd.error());
  const std::uint64_t size = SM_TRY(file_size(fd->get()));
  if (size == bytes) return fd;
  return corrupt(std::string(name) + " has " + std::to_string(size) + " bytes, the manifest says " +
                 std::to_string(bytes));
}

Status check_image(int fd, const MemorySum& sum) {
  const auto found = sum_memory(fd, sum.memory_bytes);
  if (!found) return part_error(found.error());
  return compare_sums(sum.chunks, *found);
}

Status check_disk(int fd, const MemorySum& sum) {
  auto status = check_image(fd, sum);
  return status ? Status() : fail(std::move(status).error().with(files::kDiskFiles.image));
}

// Reads an image unless that has been done before.
Status check_once(int directory, const files::ImageFiles& names, int image, std::uint32_t sum_crc,
                  const MemorySum& sum, Status (*check)(int, const MemorySum&)) {
  if (memory_stamp::is_valid(directory, names, image, sum_crc)) return {};
  SM_TRY_STATUS(check(image, sum));
  // Not possible in a folder that is not ours: then it is read each time. This does not know
  // whether the image has reached the disk.
  static_cast<void>(
      memory_stamp::write(directory, names, image, sum_crc, memory_stamp::Lasting::kThisBoot)
          .has_value());
  return {};
}

bool leads_to(const std::string& path, int directory) {
  struct stat held {};
  struct stat named {};
  return ::fstat(directory, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

// A snapshot that is replaced while it is read loses its files. Then there is another one.
template <class T, class Read>
Result<T> read_named(const std::string& path, const Read& read) {
  constexpr int kAttempts = 100;
  for (int attempt = 1;; ++attempt) {
    const UniqueFd directory = SM_TRY_WITH(files::open_named(path), "snapshot " + path);
    Result<T> out = read(directory.get());
    if (out) return out;
    if (attempt == kAttempts || leads_to(path, directory.get())) {
      return fail(std::move(out).error().with("snapshot " + path));
    }
  }
}

}  // namespace

Result<Snapshot> Snapshot::open(const std::string& path) {
  return read_named<Snapshot>(path, [](int directory) { return read(directory); });
}

Result<Snapshot> Snapshot::read_parts(int directory, SumCrcs& crcs) {
  files::ManifestFile file = SM_TRY(files::read_manifest(directory));
  const SnapshotManifest& manifest = file.manifest;
  Snapshot out;
  out.state_ = SM_TRY(read_state(directory, manifest));
  SumFile sum = SM_TRY(read_sum(directory, files::kMemoryFiles, manifest.memory_bytes, file.crc));
  if (sum.sum.own_pages.has_value() != manifest.base.has_value()) {
    return corrupt("manifest.json and memory.sum disagree whether this is a diff");
  }
  out.memory_ = SM_TRY(open_image(directory, files::kMemoryFiles.image, manifest.memory_bytes));
  out.sum_ = std::move(sum.sum);
  crcs.memory = sum.crc;
  if (manifest.disk) {
    SumFile disk = SM_TRY(read_sum(directory, files::kDiskFiles, manifest.disk->bytes, file.crc));
    if (disk.sum.own_pages) return corrupt("disk.sum is that of a diff");
    out.disk_ = SM_TRY(open_image(directory, files::kDiskFiles.image, manifest.disk->bytes));
    out.disk_sum_ = std::move(disk.sum);
    crcs.disk = disk.crc;
  }
  if (manifest.base) SM_TRY_STATUS(files::check_base(*manifest.base, manifest.memory_bytes));
  out.manifest_ = std::move(file.manifest);
  return out;
}

Result<Snapshot> Snapshot::read(int directory) {
  SumCrcs crcs;
  Snapshot out = SM_TRY(read_parts(directory, crcs));
  SM_TRY_STATUS(check_once(directory, files::kMemoryFiles, out.memory_.get(), crcs.memory, out.sum_,
                           check_image));
  if (out.disk_.valid()) {
    SM_TRY_STATUS(check_once(directory, files::kDiskFiles, out.disk_.get(), crcs.disk,
                             out.disk_sum_, check_disk));
  }
  return out;
}

std::span<const PageRange> Snapshot::pages() const {
  if (!sum_.own_pages) return {};
  return *sum_.own_pages;
}

Result<Snapshot> Snapshot::open_base() const {
  if (!manifest_.base) return fail(Code::kInvalidArgument, "this snapshot is not a diff");
  Snapshot base = SM_TRY(open(manifest_.base->path));
  SM_TRY_STATUS(
      files::check_base_manifest(*manifest_.base, manifest_.memory_bytes, base.manifest()));
  return base;
}

Status Snapshot::verify() const {
  SM_TRY_STATUS(check_image(memory_.get(), sum_));
  return disk_.valid() ? check_disk(disk_.get(), disk_sum_) : Status();
}

Result<SnapshotManifest> read_snapshot_manifest(const std::string& path) {
  return read_named<SnapshotManifest>(path, [](int directory) -> Result<SnapshotManifest> {
    return SM_TRY(files::read_manifest(directory)).manifest;
  });
}

Result<SnapshotManifest> snapshot_files::probe(int directory) {
  Snapshot::SumCrcs crcs;
  return SM_TRY(Snapshot::read_parts(directory, crcs)).manifest_;
}

Result<SnapshotManifest> probe_snapshot(const std::string& path) {
  return read_named<SnapshotManifest>(path, files::probe);
}

bool has_snapshot(const std::string& path) {
  const auto found = read_named<bool>(path, [](int directory) -> Result<bool> {
    if (::faccessat(directory, files::kManifest, F_OK, 0) != 0) {
      return fail_errno(files::kManifest, errno);
    }
    return true;
  });
  return found.has_value();
}

}  // namespace sm
