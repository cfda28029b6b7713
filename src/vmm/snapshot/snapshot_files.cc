#include "vmm/snapshot/snapshot_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"

namespace sm::snapshot_files {
namespace {

constexpr std::string_view kTemporaryMark = ".tmp-";
constexpr std::size_t kTemporaryDigits = 16;
constexpr const char* kDigits = "0123456789abcdef";

bool is_known_file(std::string_view name) {
  return std::any_of(kAllFiles.begin(), kAllFiles.end(),
                     [&](const char* known) { return name == known; });
}

// Calls `see` with each name in a directory until it says false. False when it did, or when the
// directory cannot be read.
bool for_each_entry(int directory, const std::function<bool(const std::string&)>& see) {
  // Opened anew: a copy of the descriptor would share the place in the list.
  UniqueFd fd(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct CloseDir {
    void operator()(DIR* dir) const { ::closedir(dir); }
  };
  const std::unique_ptr<DIR, CloseDir> dir(fd.valid() ? ::fdopendir(fd.get()) : nullptr);
  if (!dir) return false;
  static_cast<void>(fd.release());
  while (const auto* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && !see(name)) return false;
  }
  return true;
}

bool has_only_known_files(int directory) { return for_each_entry(directory, is_known_file); }

// Has a manifest and no file that does not belong to a snapshot.
bool is_snapshot(int directory) {
  struct stat info {};
  return ::fstatat(directory, kManifest, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(info.st_mode) && has_only_known_files(directory);
}

Result<std::string> random_digits(std::size_t digits) {
  std::string out(digits, '0');
  if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) {
    return fail_errno("getrandom", errno);
  }
  for (char& c : out) c = kDigits[static_cast<unsigned char>(c) % 16];
  return out;
}

}  // namespace

Result<Place> find_place(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
  const auto slash = trimmed.rfind('/');
  Place place;
  place.path = trimmed;
  place.name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (place.name.empty() || place.name == "." || place.name == ".." || is_temporary(place.name) ||
      path.find('\0') != std::string::npos) {
    return fail(Code::kInvalidArgument, "\"" + path + "\" cannot be the name of a snapshot",
                "give the path of a directory that does not exist yet");
  }
  const std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  place.parent = SM_TRY(open_file(parent, O_RDONLY | O_DIRECTORY));
  return place;
}

bool is_temporary(std::string_view name) {
  const std::size_t tail = kTemporaryMark.size() + kTemporaryDigits;
  if (name.size() <= tail) return false;
  name.remove_prefix(name.size() - tail);
  return name.starts_with(kTemporaryMark) &&
         name.substr(kTemporaryMark.size()).find_first_not_of(kDigits) == std::string_view::npos;
}

Result<std::string> temporary_name(const std::string& name) {
  return name + std::string(kTemporaryMark) + SM_TRY(random_digits(kTemporaryDigits));
}

Result<std::string> random_hex() { return random_digits(32); }

Result<UniqueFd> open_directory(int parent, const std::string& name) {
  UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return fail_errno("open directory " + name, errno);
  return fd;
}

bool is_at(int directory, int parent, const std::string& name) {
  struct stat held {};
  struct stat named {};
  return ::fstat(directory, &held) == 0 &&
         ::fstatat(parent, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

Result<UniqueFd> open_snapshot(int parent, const std::string& name) {
  constexpr int kAttempts = 1000;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    UniqueFd directory = SM_TRY(open_directory(parent, name));
    if (is_snapshot(directory.get())) return directory;
    // Who has replaced it since empties it.
    if (is_at(directory.get(), parent, name)) break;
  }
  return fail(Code::kInvalidArgument, name + " is not a snapshot",
              "remove by hand what should not be there");
}

Result<UniqueFd> open_regular(int directory, const char* name) {
  // Not blocking: opening a pipe would wait for its other end.
  UniqueFd fd(::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid() && errno != ELOOP) return fail_errno(std::string("open ") + name, errno);
  struct stat info {};
  if (fd.valid() && ::fstat(fd.get(), &info) != 0) {
    return fail_errno(std::string("look at ") + name, errno);
  }
  if (!fd.valid() || !S_ISREG(info.st_mode)) {
    return fail(Code::kCorrupt, std::string(name) + " is not a regular file", "bake again");
  }
  return fd;
}

Result<std::vector<std::byte>> read_whole(int directory, const char* name, std::uint64_t limit) {
  const UniqueFd fd = SM_TRY(open_regular(directory, name));
  const std::uint64_t size = SM_TRY(file_size(fd.get()));
  if (size > limit) {
    return fail(Code::kLimit, std::string(name) + " has " + std::to_string(size) +
                                  " bytes, the limit is " + std::to_string(limit));
  }
  std::vector<std::byte> out(static_cast<std::size_t>(size));
  SM_TRY_STATUS(read_exact(fd.get(), out));
  return out;
}

Status write_new(int directory, const char* name, std::span<const std::byte> bytes, bool sync) {
  const std::string what = std::string("write ") + name;
  const UniqueFd fd(
      ::openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(what, errno);
  if (auto written = write_all(fd.get(), bytes); !written) {
    return fail(std::move(written).error().with(what));
  }
  if (sync && ::fsync(fd.get()) != 0) return fail_errno(what, errno);
  return {};
}

void remove_directory(int parent, const std::string& name) {
  // Again when it was not empty: a reader may just have left a stamp.
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto directory = open_directory(parent, name);
    if (!directory || !has_only_known_files(directory->get())) return;
    for (const char* file : kAllFiles) ::unlinkat(directory->get(), file, 0);
    if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 || errno != ENOTEMPTY) return;
  }
}

void remove_leftovers(int parent) {
  for_each_entry(parent, [&](const std::string& name) {
    if (!is_temporary(name)) return true;
    const auto directory = open_directory(parent, name);
    struct stat info {};
    if (!directory || ::fstat(directory->get(), &info) != 0 || info.st_uid != ::geteuid()) {
      return true;
    }
    if (::flock(directory->get(), LOCK_EX | LOCK_NB) != 0) return true;
    // Its writer may have completed it before the lock was free.
    if (is_at(directory->get(), parent, name)) remove_directory(parent, name);
    return true;
  });
}

Result<TemporaryDirectory> make_temporary(const Place& place) {
  // Somebody who removes leftovers can take a new directory before it is locked.
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = SM_TRY(temporary_name(place.name));
    if (::mkdirat(place.parent.get(), name.c_str(), 0700) != 0) {
      return fail_errno("create a directory beside " + place.path, errno);
    }
    auto fd = open_directory(place.parent.get(), name);
    if (fd && ::flock(fd->get(), LOCK_EX | LOCK_NB) == 0 &&
        is_at(fd->get(), place.parent.get(), name)) {
      return TemporaryDirectory{*std::move(fd), name};
    }
    remove_directory(place.parent.get(), name);
  }
  return fail(Code::kIo, "a directory beside " + place.path + " is removed as soon as it is made");
}

Result<ManifestFile> read_manifest(int directory) {
  const auto bytes = SM_TRY(read_whole(directory, kManifest, kMaxSnapshotManifestBytes));
  ManifestFile file;
  file.manifest = SM_TRY(decode_manifest(as_text(bytes)));
  file.crc = crc32c(bytes);
  return file;
}

Status check_base_manifest(const SnapshotBase& base, std::uint64_t memory_bytes,
                           const SnapshotManifest& found) {
  const auto wrong = [&](const std::string& why) {
    return fail(Code::kCorrupt, "base " + base.path + " " + why, "take the diff again");
  };
  if (found.memory_digest != base.memory_digest) {
    return wrong("was replaced: its memory is " + found.memory_digest +
                 ", the diff was taken against " + base.memory_digest);
  }
  if (found.base) return wrong("is a diff itself");
  if (found.memory_bytes != memory_bytes) return wrong("has a memory of another size");
  return {};
}

Status check_base(const SnapshotBase& base, std::uint64_t memory_bytes) {
  const auto context = "base " + base.path;
  const UniqueFd directory = SM_TRY_WITH(open_file(base.path, O_RDONLY | O_DIRECTORY), context);
  const ManifestFile file = SM_TRY_WITH(read_manifest(directory.get()), context);
  return check_base_manifest(base, memory_bytes, file.manifest);
}

}  // namespace sm::snapshot_files
