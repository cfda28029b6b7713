// Snapshots and their names: giving one its name, in place of another or beside it.
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"
#include "base/file.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm {
namespace files = snapshot_files;
namespace {

// memory.ok belongs to one inode and its times, which a link changes: the reader makes a new one.
constexpr std::array kLinked = {files::kManifest, files::kState, files::kMemory, files::kMemorySum};

// Renames of a new directory, and the way back.
class Move {
 public:
  Move(const files::Unnamed& what, const files::Naming& how) : what_(what), how_(how) {}

  // Again for as long as others rename at the same time: each failed attempt is one that they won.
  Status go() {
    constexpr int kAttempts = 1000;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      if (SM_TRY(try_once())) return {};
    }
    return fail(Code::kGone, "others replace it all the time", "try again");
  }

  void back() const {
    if (old_ == what_.temporary) {
      rename(what_.temporary, what_.name, RENAME_EXCHANGE);
    } else {
      rename(what_.name, what_.temporary, 0);
      if (!old_.empty()) rename(old_, what_.name, 0);
    }
  }

  // What has had the name; empty when there was nothing.
  const std::string& old() const { return old_; }

 private:
  bool rename(const std::string& from, const std::string& to, unsigned flags) const {
    if (flags == 0) return ::renameat(what_.parent, from.c_str(), what_.parent, to.c_str()) == 0;
    return ::renameat2(what_.parent, from.c_str(), what_.parent, to.c_str(), flags) == 0;
  }

  // False: another program has renamed in between.
  Result<bool> try_once() {
    if (rename(what_.temporary, what_.name, RENAME_NOREPLACE)) return true;
    // File systems without this flag refuse to move a directory over one that is not empty.
    if (errno == EINVAL && rename(what_.temporary, what_.name, 0)) return true;
    if (!taken(errno)) return fail_errno("give it its name", errno);
    if (!how_.replace) return fail(Code::kInvalidArgument, "it exists by now", "give another path");
    const auto old = files::open_snapshot(what_.parent, what_.name);
    if (!old && old.error().code() == Code::kNotFound) return false;
    if (!old) {
      return fail(Code::kInvalidArgument, "something that is not a snapshot has taken its place");
    }
    if (how_.exchange && rename(what_.temporary, what_.name, RENAME_EXCHANGE)) {
      old_ = what_.temporary;
      return true;
    }
    if (how_.exchange && errno == ENOENT) return false;
    if (how_.exchange && errno != EINVAL && errno != ENOSYS) {
      return fail_errno("give it its name", errno);
    }
    // So that nobody takes it for what a killed writer has left.
    static_cast<void>(::flock(old->get(), LOCK_EX | LOCK_NB));
    return in_steps();
  }

  static bool taken(int error) { return error == EEXIST || error == ENOTEMPTY; }

  Result<bool> in_steps() {
    const UniqueFd lock = SM_TRY(files::lock_names(what_.parent, true));
    const std::string aside = SM_TRY(files::temporary_name(what_.name));
    if (!rename(what_.name, aside, 0)) {
      if (errno == ENOENT) return false;
      return fail_errno("move the old one away", errno);
    }
    if (rename(what_.temporary, what_.name, 0)) {
      old_ = aside;
      return true;
    }
    const int error = errno;
    const bool is_back = rename(aside, what_.name, 0);
    const bool is_taken = taken(error) || (!is_back && taken(errno));
    if (!is_taken) return fail_errno("give it its name", error);
    // Somebody else's new one came between the two steps: it has replaced the old one, which others
    // may have removed by now. Or it has gone again, and the old one is back.
    if (!is_back) files::remove_directory(what_.parent, aside);
    return false;
  }

  const files::Unnamed& what_;
  const files::Naming& how_;
  std::string old_;
};

// All or nothing.
Status link_files(int from, int to) {
  for (const char* file : kLinked) {
    if (::linkat(from, file, to, file, 0) < 0) {
      return fail_errno(std::string("link ") + file, errno);
    }
  }
  // Not every snapshot has these; whether this one lacks them shows when it is looked at.
  for (const char* file : {files::kDiskFiles.image, files::kDiskFiles.sum}) {
    if (::linkat(from, file, to, file, 0) < 0 && errno != ENOENT) {
      return fail_errno(std::string("link ") + file, errno);
    }
  }
  return ::fsync(to) == 0 ? Status() : fail_errno("write the folder", errno);
}

Status link_into(int from, const files::TemporaryDirectory& folder, const files::Place& place,
                 const std::string& memory_digest) {
  SM_TRY_STATUS(link_files(from, folder.fd.get()));
  // What has been linked, not what was there to link: it could have been replaced in between.
  if (SM_TRY(files::probe(folder.fd.get())).memory_digest != memory_digest) {
    return fail(Code::kGone, "it has been replaced", "try again");
  }
  return files::give_name({place.parent.get(), folder.name, place.name},
                          {.replace = true, .sync = true, .exchange = true});
}

}  // namespace

Result<UniqueFd> files::lock_names(int parent, bool exclusive) {
  constexpr auto kLimit = std::chrono::seconds(10);  // it is held for two renames
  constexpr auto kLook = std::chrono::milliseconds(5);
  // Opened anew: a lock belongs to a descriptor and its copies.
  UniqueFd fd(::openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno("open the folder of a snapshot", errno);
  const auto deadline = Deadline::after(kLimit);
  std::mutex mutex;
  std::condition_variable nobody_signals;
  while (::flock(fd.get(), (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    // Locks are not to be had on all file systems.
    if (errno != EWOULDBLOCK) return fd;
    if (deadline.at() <= now()) {
      return fail(Code::kTimeout, "the folder of a snapshot is locked by another program",
                  "try again");
    }
    std::unique_lock lock(mutex);
    nobody_signals.wait_for(lock, kLook);
  }
  return fd;
}

Result<UniqueFd> files::open_named(const std::string& path) {
  auto directory = open_file(path, O_RDONLY | O_DIRECTORY);
  if (directory || directory.error().code() != Code::kNotFound) return directory;
  // It may be on the way from one name to the other.
  const auto place = find_place(path);
  const auto lock = place ? lock_names(place->parent.get(), false) : fail(place.error());
  if (!lock) return directory;
  return open_file(path, O_RDONLY | O_DIRECTORY);
}

Status files::give_name(const Unnamed& what, const Naming& how) {
  Move move(what, how);
  SM_TRY_STATUS(move.go());
  if (how.sync && ::fsync(what.parent) != 0) {
    const int error = errno;
    move.back();
    return fail_errno("write the folder", error);
  }
  if (!move.old().empty()) files::remove_directory(what.parent, move.old());
  return {};
}

Status link_snapshot(const std::string& from, const std::string& memory_digest,
                     const std::string& to) {
  const std::string context = "link snapshot " + from + " to " + to;
  const UniqueFd directory = SM_TRY_WITH(files::open_named(from), context);
  const files::Place place = SM_TRY(files::find_place(to));
  files::remove_leftovers(place.parent.get());
  const files::TemporaryDirectory folder = SM_TRY(files::make_temporary(place));
  auto status = link_into(directory.get(), folder, place, memory_digest);
  if (status) return {};
  files::remove_directory(place.parent.get(), folder.name);
  return fail(std::move(status).error().with(context));
}

}  // namespace sm
