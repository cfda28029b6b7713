// SnapshotWriter, remove_snapshot.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

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

// Whether something has the name.
Result<bool> is_taken(const files::Place& place) {
  struct stat info {};
  if (::fstatat(place.parent.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    return true;
  }
  if (errno == ENOENT) return false;
  return fail_errno("look at " + place.path, errno);
}

Status check_target(const files::Place& place, bool replace) {
  if (!SM_TRY(is_taken(place))) return {};
  if (!replace) {
    return fail(Code::kInvalidArgument, place.path + " exists",
                "give another path, or ask for it to be replaced");
  }
  if (files::open_snapshot(place.parent.get(), place.name) || !SM_TRY(is_taken(place))) return {};
  return fail(Code::kInvalidArgument, place.path + " exists and is not a snapshot",
              "give another path");
}

// What cannot be read back must not be written.
Status check_readable(const SnapshotManifest& manifest, const MachineState& state,
                      std::string_view manifest_text, std::span<const std::byte> state_bytes) {
  const auto manifest_again = decode_manifest(manifest_text);
  if (!manifest_again) return fail(Code::kInvalidArgument, manifest_again.error().cause());
  const auto state_again = decode_state(state_bytes);
  if (!state_again) return fail(Code::kInvalidArgument, state_again.error().cause());
  if (*manifest_again != manifest || *state_again != state) {
    return fail(Code::kInvalidArgument, "the snapshot has a text that is not UTF-8");
  }
  if (manifest.vcpus != state.vcpus.size() || manifest.devices.size() != state.devices.size()) {
    return fail(Code::kInvalidArgument, "manifest and machine state disagree about the machine");
  }
  return {};
}

Status fsync_named(int fd, const std::string& what) {
  return ::fsync(fd) == 0 ? Status() : fail_errno("write " + what, errno);
}

// All holes.
Result<UniqueFd> new_image(int directory, const char* name, std::uint64_t bytes) {
  UniqueFd fd(::openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return fail_errno(name, errno);
  }
  return fd;
}

}  // namespace

Status check_snapshot_place(const std::string& path, bool replace) {
  return check_target(SM_TRY(files::find_place(path)), replace);
}

Result<std::unique_ptr<SnapshotWriter>> SnapshotWriter::create(const std::string& path,
                                                               std::uint64_t memory_bytes,
                                                               bool replace) {
  if (memory_bytes == 0 || memory_bytes % kPageBytes != 0 || memory_bytes > kMaxSnapshotMemory) {
    return fail(Code::kInvalidArgument,
                "a snapshot cannot have " + std::to_string(memory_bytes) + " bytes of memory");
  }
  files::Place place = SM_TRY(files::find_place(path));
  files::remove_leftovers(place.parent.get());
  SM_TRY_STATUS(check_target(place, replace));
  files::TemporaryDirectory temporary = SM_TRY(files::make_temporary(place));

  // From here on the destructor cleans up.
  std::unique_ptr<SnapshotWriter> writer(new SnapshotWriter);
  writer->parent_ = std::move(place.parent);
  writer->path_ = std::move(place.path);
  writer->name_ = std::move(place.name);
  writer->temporary_ = std::move(temporary.name);
  writer->directory_ = std::move(temporary.fd);
  writer->memory_bytes_ = memory_bytes;
  writer->replace_ = replace;
  writer->memory_ =
      SM_TRY_WITH(new_image(writer->directory_.get(), files::kMemoryFiles.image, memory_bytes),
                  "create the memory image of " + writer->path_);
  return writer;
}

Result<int> SnapshotWriter::add_disk(const SnapshotDisk& disk) {
  if (disk.bytes == 0 || disk.bytes % kPageBytes != 0 || disk.bytes > kMaxSnapshotDisk) {
    return fail(Code::kUnsupported,
                "a snapshot cannot have a disk of " + std::to_string(disk.bytes) + " bytes",
                "use disks of whole pages of 4096 bytes, up to 1 TiB");
  }
  disk_ = SM_TRY_WITH(new_image(directory_.get(), files::kDiskFiles.image, disk.bytes),
                      "create the disk of " + path_);
  disk_facts_ = disk;
  return disk_.get();
}

SnapshotWriter::~SnapshotWriter() { discard(); }

void SnapshotWriter::discard() {
  if (!temporary_.empty()) files::remove_directory(parent_.get(), temporary_);
  temporary_.clear();
}

Status SnapshotWriter::commit(SnapshotManifest manifest, const MachineState& state) {
  return complete(std::move(manifest), state, true);
}

Status SnapshotWriter::commit_without_sync(SnapshotManifest manifest, const MachineState& state) {
  return complete(std::move(manifest), state, false);
}

Status SnapshotWriter::complete(SnapshotManifest manifest, const MachineState& state, bool sync) {
  if (temporary_.empty()) {
    return fail(Code::kInvalidArgument, path_ + " was completed or given up before");
  }
  auto status = fill(std::move(manifest), state, sync);
  if (status) status = publish(sync);
  if (status) return {};
  discard();
  return fail(std::move(status).error().with("snapshot " + path_));
}

Status SnapshotWriter::fill(SnapshotManifest manifest, const MachineState& state, bool sync) {
  const auto state_bytes = encode_state(state);
  manifest.format = kSnapshotFormat;
  manifest.state_bytes = state_bytes.size();
  manifest.state_crc = crc32c(state_bytes);
  if (manifest.memory_bytes == 0) manifest.memory_bytes = memory_bytes_;
  if (manifest.memory_digest.empty()) manifest.memory_digest = SM_TRY(files::random_hex());
  const std::string text = encode_manifest(manifest);
  SM_TRY_STATUS(check_readable(manifest, state, text, state_bytes));
  if (manifest.memory_bytes != memory_bytes_) {
    return fail(Code::kInvalidArgument, "manifest and image disagree about the size of memory");
  }
  if (manifest.disk != disk_facts_) {
    return fail(Code::kInvalidArgument, "manifest and image disagree about the disk");
  }
  if (manifest.base.has_value() != pages_.has_value()) {
    return fail(Code::kInvalidArgument, "a diff needs both a base and its own pages");
  }
  if (manifest.base) SM_TRY_STATUS(files::check_base(*manifest.base, memory_bytes_));

  SM_TRY_STATUS(files::write_new(directory_.get(), files::kState, state_bytes, sync));
  SM_TRY_STATUS(files::write_new(directory_.get(), files::kManifest, as_byte_span(text), sync));
  const std::uint32_t manifest_crc = crc32c(as_byte_span(text));
  SM_TRY_STATUS(write_sum(files::kMemoryFiles, memory_.get(),
                          {.memory_bytes = manifest.memory_bytes,
                           .manifest_crc = manifest_crc,
                           .own_pages = pages_,
                           .chunks = {}},
                          sync));
  if (disk_facts_) {
    SM_TRY_STATUS(write_sum(files::kDiskFiles, disk_.get(),
                            {.memory_bytes = disk_facts_->bytes,
                             .manifest_crc = manifest_crc,
                             .own_pages = {},
                             .chunks = {}},
                            sync));
  }
  return sync ? fsync_named(directory_.get(), temporary_) : Status();
}

// `sum` lacks its chunks.
Status SnapshotWriter::write_sum(const files::ImageFiles& names, int image, MemorySum sum,
                                 bool sync) {
  // Synced before it is read: then the times of the file do not change any more.
  if (sync) SM_TRY_STATUS(fsync_named(image, names.image));
  sum.chunks = SM_TRY_WITH(sum_memory(image, sum.memory_bytes), names.image);
  SM_TRY_STATUS(check_pages(sum));
  if (SM_TRY(file_size(image)) != sum.memory_bytes) {
    return fail(Code::kInvalidArgument, std::string(names.image) + " has changed its size");
  }
  const auto bytes = encode_memory_sum(sum);
  SM_TRY_STATUS(files::write_new(directory_.get(), names.sum, bytes, sync));
  const auto lasting = sync ? memory_stamp::Lasting::kSynced : memory_stamp::Lasting::kThisBoot;
  auto stamped = memory_stamp::write(directory_.get(), names, image, crc32c(bytes), lasting);
  // Only a full disk is of interest: without the stamp the first reader reads the image.
  if (!stamped && stamped.error().code() == Code::kIo) return stamped;
  return {};
}

Status SnapshotWriter::publish(bool sync) {
  SM_TRY_STATUS(files::give_name({parent_.get(), temporary_, name_},
                                 {.replace = replace_, .sync = sync, .exchange = true}));
  temporary_.clear();
  return {};
}

Status remove_snapshot(const std::string& path) {
  const files::Place place = SM_TRY(files::find_place(path));
  const int parent = place.parent.get();
  SM_TRY_WITH(files::open_snapshot(parent, place.name), "remove snapshot " + path);
  const std::string temporary = SM_TRY(files::temporary_name(place.name));
  if (::renameat2(parent, place.name.c_str(), parent, temporary.c_str(), RENAME_NOREPLACE) != 0) {
    return fail_errno("remove snapshot " + path, errno);
  }
  files::remove_directory(parent, temporary);
  return ::fsync(parent) == 0 ? Status() : fail_errno("remove snapshot " + path, errno);
}

}  // namespace sm
