#include "runtime/client/tar_tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "oci/safe_path.h"
#include "oci/tar_reader.h"
#include "oci/text.h"

namespace sm {

namespace {

// Limit: folders whose modes are remembered until their content is there.
constexpr std::size_t kMaxFolders = 1u << 20;
constexpr int kFolderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

using Parts = std::vector<std::string>;

class Unpacker {
 public:
  Unpacker(UniqueFd root, std::string name) : root_(std::move(root)), name_(std::move(name)) {}

  Status add(TarReader& reader, const TarEntry& entry) {
    const Parts parts = SM_TRY(parts_of(entry.path));
    if (parts.empty()) return {};
    const UniqueFd parent = SM_TRY(open_parent(parts));
    const char* const last = parts.back().c_str();
    switch (entry.kind) {
      case TarKind::kDirectory:
        return add_folder(parent.get(), parts, entry);
      case TarKind::kFile:
        ++done_.files;
        return add_file(reader, parent.get(), last, entry);
      case TarKind::kSymlink:
        make_room(parent.get(), last);
        if (::symlinkat(entry.link_target.c_str(), parent.get(), last) < 0) return failed(entry);
        return {};
      case TarKind::kHardLink: {
        const Parts target = SM_TRY(parts_of(entry.link_target));
        if (target.empty()) return fail(Code::kCorrupt, "the archive has a link to its own folder");
        const UniqueFd from = SM_TRY(open_parent(target));
        make_room(parent.get(), last);
        if (::linkat(from.get(), target.back().c_str(), parent.get(), last, 0) < 0) {
          return failed(entry);
        }
        return {};
      }
      default:
        ++done_.skipped;
        return {};
    }
  }

  // Folders may be closed to us by their modes: those come last, the innermost first.
  Result<Unpacked> finish() {
    for (auto it = modes_.rbegin(); it != modes_.rend(); ++it) {
      const UniqueFd parent = SM_TRY(open_parent(it->first));
      const UniqueFd fd(::openat(parent.get(), it->first.back().c_str(), kFolderFlags));
      if (fd.valid()) ::fchmod(fd.get(), it->second & 0777);
    }
    return done_;
  }

 private:
  static tl::unexpected<Error> failed(const TarEntry& entry) {
    return fail_errno("write " + printable(entry.path), errno);
  }

  // The components below the root, the first one replaced. None: the root itself.
  Result<Parts> parts_of(const std::string& path) {
    const SafePath safe = SM_TRY(safe_path(path));
    Parts out(safe.begin(), safe.end());
    if (name_.empty()) return out;
    if (safe.empty()) return fail(Code::kCorrupt, "the archive has an entry without a name");
    if (first_.empty()) first_ = out[0];
    if (out[0] != first_) {
      return fail(Code::kCorrupt,
                  "the archive holds '" + printable(path) + "' beside what was asked for");
    }
    out[0] = name_;
    return out;
  }

  // Each folder on the way is opened by itself and is no link.
  Result<UniqueFd> open_parent(const Parts& parts) {
    UniqueFd at(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
    if (!at.valid()) return fail_errno("fcntl", errno);
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      UniqueFd next(::openat(at.get(), parts[i].c_str(), kFolderFlags));
      if (!next.valid() && errno == ENOENT && ::mkdirat(at.get(), parts[i].c_str(), 0755) == 0) {
        next = UniqueFd(::openat(at.get(), parts[i].c_str(), kFolderFlags));
      }
      if (!next.valid() && (errno == ELOOP || errno == ENOTDIR)) {
        return fail(Code::kCorrupt,
                    "'" + printable(parts[i]) + "' of the archive is no folder here",
                    "copy to an empty folder");
      }
      if (!next.valid()) return fail_errno("open " + printable(parts[i]), errno);
      at = std::move(next);
    }
    return at;
  }

  // What is replaced is not written through; folders stay.
  static void make_room(int parent, const char* name) { ::unlinkat(parent, name, 0); }

  Status add_folder(int parent, const Parts& parts, const TarEntry& entry) {
    const char* const last = parts.back().c_str();
    UniqueFd fd(::openat(parent, last, kFolderFlags));
    if (!fd.valid()) {
      make_room(parent, last);
      if (::mkdirat(parent, last, 0700) < 0) return failed(entry);
    }
    if (modes_.size() >= kMaxFolders) return fail(Code::kLimit, "too many folders to copy");
    modes_.emplace_back(parts, entry.mode);
    return {};
  }

  static Status add_file(TarReader& reader, int parent, const char* name, const TarEntry& entry) {
    make_room(parent, name);
    const UniqueFd fd(
        ::openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid()) return failed(entry);
    TarData data;
    while (SM_TRY(reader.next_data(data))) {
      if (::lseek(fd.get(), static_cast<off_t>(data.offset), SEEK_SET) < 0) return failed(entry);
      SM_TRY_STATUS(write_all(fd.get(), data.bytes));
    }
    if (::ftruncate(fd.get(), static_cast<off_t>(entry.size)) < 0) return failed(entry);
    if (::fchmod(fd.get(), entry.mode & 0777) < 0) return failed(entry);
    const timespec times[2] = {{0, UTIME_NOW}, {entry.mtime, 0}};
    ::futimens(fd.get(), times);
    return {};
  }

  UniqueFd root_;
  std::string name_;
  std::string first_;
  std::vector<std::pair<Parts, std::uint32_t>> modes_;
  Unpacked done_;
};

struct CloseRead {
  void operator()(archive* a) const { archive_read_free(a); }
};
struct CloseWrite {
  void operator()(archive* a) const { archive_write_free(a); }
};
struct FreeEntry {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};

tl::unexpected<Error> archive_failure(archive* a, const std::string& path) {
  const char* text = archive_error_string(a);
  return fail(Code::kIo, "copy " + path + ": " + (text == nullptr ? "failed" : text));
}

// Holes come as zeros.
Status copy_data(archive* disk, archive* tar, const std::string& path) {
  std::vector<char> buffer(64u << 10);
  for (;;) {
    const la_ssize_t n = archive_read_data(disk, buffer.data(), buffer.size());
    if (n == 0) return {};
    if (n < 0) return archive_failure(disk, path);
    if (archive_write_data(tar, buffer.data(), static_cast<std::size_t>(n)) != n) {
      return archive_failure(tar, path);
    }
  }
}

}  // namespace

Result<Unpacked> unpack_tree(ByteStream& tar, const std::string& folder, const std::string& name) {
  UniqueFd root = SM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY));
  const auto reader = SM_TRY(TarReader::create(tar));
  Unpacker unpacker(std::move(root), name);
  TarEntry entry;
  while (SM_TRY(reader->next(entry))) SM_TRY_STATUS(unpacker.add(*reader, entry));
  return unpacker.finish();
}

Status pack_tree(const std::string& path, const std::string& name, int out) {
  const std::unique_ptr<archive, CloseRead> disk(archive_read_disk_new());
  const std::unique_ptr<archive, CloseWrite> tar(archive_write_new());
  const std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
  archive_read_disk_set_symlink_physical(disk.get());
  archive_write_set_format_pax_restricted(tar.get());
  if (archive_write_open_fd(tar.get(), out) != ARCHIVE_OK) return archive_failure(tar.get(), path);
  if (archive_read_disk_open(disk.get(), path.c_str()) != ARCHIVE_OK) {
    return archive_failure(disk.get(), path);
  }
  for (;;) {
    const int got = archive_read_next_header2(disk.get(), entry.get());
    if (got == ARCHIVE_EOF) break;
    if (got < ARCHIVE_WARN) return archive_failure(disk.get(), path);
    archive_read_disk_descend(disk.get());
    const std::string found = archive_entry_pathname(entry.get());
    std::string inside = found.size() > path.size() ? found.substr(path.size()) : "";
    if (!inside.empty() && inside[0] != '/') inside.insert(0, "/");  // of "/" and "x/"
    if (name.empty() && inside.empty()) continue;
    archive_entry_set_pathname(entry.get(), ((name.empty() ? "." : name) + inside).c_str());
    archive_entry_set_hardlink(entry.get(), nullptr);
    // Whoever it is here, in the VM it is root's.
    archive_entry_set_uid(entry.get(), 0);
    archive_entry_set_gid(entry.get(), 0);
    archive_entry_set_uname(entry.get(), "root");
    archive_entry_set_gname(entry.get(), "root");
    const auto type = archive_entry_filetype(entry.get());
    if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK) continue;
    if (archive_write_header(tar.get(), entry.get()) < ARCHIVE_WARN) {
      return archive_failure(tar.get(), found);
    }
    if (type == AE_IFREG) SM_TRY_STATUS(copy_data(disk.get(), tar.get(), found));
  }
  if (archive_write_close(tar.get()) != ARCHIVE_OK) return archive_failure(tar.get(), path);
  return {};
}

}  // namespace sm
