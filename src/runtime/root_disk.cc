#include "runtime/root_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/file.h"
#include "runtime/run_command.h"

namespace sm {

namespace {

constexpr std::uint64_t kSector = 512;
constexpr Duration kMakeLimit = std::chrono::seconds(60);
// In the name of the empty one: raise it with every change of what mke2fs is told.
constexpr int kDiskRecipe = 1;

// The features are listed, so that the host's own mke2fs.conf has no say: the guest's kernel knows
// all of them. The journal is small: its blocks are the first that every VM writes.
constexpr std::array kWords = {
    "-q",
    "-F",
    "-b4096",
    "-I256",
    "-i16384",
    "-m0",
    "-Jsize=16",
    "-Onone,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,"
    "huge_file,dir_nlink,extra_isize,metadata_csum",
    "-Elazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0"};

// A file that goes unless it gets its name.
class Draft {
 public:
  explicit Draft(std::string path)
      : path_(std::move(path)), draft_(path_ + ".new-" + std::to_string(::getpid())) {}
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  Draft(Draft&&) = delete;
  Draft& operator=(Draft&&) = delete;
  ~Draft() { ::unlink(draft_.c_str()); }

  const std::string& path() const { return draft_; }
  Result<UniqueFd> create() const { return open_file(draft_, O_RDWR | O_CREAT | O_TRUNC, 0600); }
  Status publish() const {
    if (::rename(draft_.c_str(), path_.c_str()) < 0) return fail_errno("rename " + draft_, errno);
    return {};
  }

 private:
  std::string path_, draft_;
};

// An empty file system without its holes: for each block that is not zero where it belongs and what
// is in it. Not a sparse file, since not every file system tells its holes.
constexpr std::size_t kBlock = 4096;
struct Piece {
  std::uint64_t offset = 0;
  std::array<std::byte, kBlock> data{};
};
constexpr std::size_t kMaxPieces = 4096;

Status write_all_at(int file, std::span<const std::byte> data, std::uint64_t at) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(file, data.data(), data.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write a disk", errno);
    data = data.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::vector<Piece>> pieces_of(int file) {
  std::vector<Piece> out;
  Piece piece;
  for (off_t at = 0; (at = ::lseek(file, at, SEEK_DATA)) >= 0; at += off_t{kBlock}) {
    at -= at % off_t{kBlock};
    piece.offset = static_cast<std::uint64_t>(at);
    const ssize_t n = ::pread(file, piece.data.data(), kBlock, at);
    if (n != kBlock) return fail_errno("read an empty disk", n < 0 ? errno : EIO);
    const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
    if (std::all_of(piece.data.begin(), piece.data.end(), is_zero)) continue;
    if (out.size() == kMaxPieces) return fail(Code::kLimit, "an empty disk is too large");
    out.push_back(piece);
  }
  if (errno != ENXIO) return fail_errno("read an empty disk", errno);
  return out;
}

Status run_mke2fs(const std::string& path) {
  const std::string program = find_mke2fs();
  if (program.empty()) {
    return fail(Code::kNotFound, "there is no mke2fs, which makes the disks of VMs",
                std::string(kGetMke2fs) + ", or use --rm: such VMs have no disk");
  }
  std::vector<std::string> words = {"/usr/bin/env", "MKE2FS_CONFIG=/dev/null", program};
  words.insert(words.end(), kWords.begin(), kWords.end());
  words.push_back(path);
  const CommandResult result = SM_TRY(run_command(words, kMakeLimit));
  if (result.status == 0) return {};
  return fail(Code::kIo, "mke2fs failed: " + result.output.substr(0, 1000),
              "see whether there is room for " + path);
}

// From then on it is taken as it is, so it has to be on the disk.
Status make_empty(const std::string& path) {
  const Draft whole(path + ".img"), draft(path);
  const UniqueFd disk = SM_TRY(whole.create());
  if (::ftruncate(disk.get(), static_cast<off_t>(kRootDiskBytes)) < 0) {
    return fail_errno("make a file of 10 GiB of " + path, errno);
  }
  SM_TRY_STATUS(run_mke2fs(whole.path()));
  const std::vector<Piece> pieces = SM_TRY(pieces_of(disk.get()));
  const UniqueFd file = SM_TRY(draft.create());
  SM_TRY_STATUS(write_all_at(file.get(), std::as_bytes(std::span(pieces)), 0));
  if (::fsync(file.get()) < 0) return fail_errno("write " + path, errno);
  return draft.publish();
}

// kCorrupt for anything that make_empty does not write.
Result<std::vector<Piece>> read_empty(const std::string& path) {
  const UniqueFd file = SM_TRY(open_file(path, O_RDONLY));
  const std::uint64_t bytes = SM_TRY(file_size(file.get()));
  if (bytes == 0 || bytes % sizeof(Piece) != 0 || bytes / sizeof(Piece) > kMaxPieces) {
    return fail(Code::kCorrupt, path + " is not an empty disk");
  }
  std::vector<Piece> out(static_cast<std::size_t>(bytes) / sizeof(Piece));
  const ssize_t n = ::pread(file.get(), out.data(), static_cast<std::size_t>(bytes), 0);
  if (n < 0) return fail_errno("read " + path, errno);
  if (static_cast<std::uint64_t>(n) != bytes ||
      std::any_of(out.begin(), out.end(), [](const Piece& piece) {
        return piece.offset % kBlock != 0 || piece.offset > kRootDiskBytes - kBlock;
      })) {
    return fail(Code::kCorrupt, path + " is not an empty disk");
  }
  return out;
}

// One that nothing is kept of: few want it.
Status make_of_size(const std::string& path, std::uint64_t bytes) {
  const Draft draft(path);
  const UniqueFd disk = SM_TRY(draft.create());
  if (::ftruncate(disk.get(), static_cast<off_t>(bytes)) < 0) {
    return fail(Error::from_errno("make a disk of " + std::to_string(bytes >> 20) + " MiB", errno)
                    .or_remedy("ask for a smaller one"));
  }
  SM_TRY_STATUS(run_mke2fs(draft.path()));
  return draft.publish();
}

}  // namespace

std::string find_mke2fs() {
  const char* given = ::getenv("PATH");
  // Where it usually is, which is not in everybody's PATH.
  std::string folders = std::string(given == nullptr ? "" : given) + ":/usr/sbin:/sbin";
  for (std::size_t begin = 0; begin <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string path = folders.substr(begin, end - begin) + "/mke2fs";
    if (path[0] == '/' && path.size() > 7 && ::access(path.c_str(), X_OK) == 0) return path;
    begin = end + 1;
  }
  return {};
}

Status make_root_disk(const std::string& path, const std::string& cache, std::uint64_t bytes) {
  if (bytes != kRootDiskBytes) return make_of_size(path, bytes);
  const std::string folder = cache + "/disks";
  SM_TRY_STATUS(make_dirs(folder));
  const std::string empty = folder + "/ext4-" + std::to_string(kDiskRecipe) + "-" +
                            std::to_string(kRootDiskBytes) + ".blocks";
  auto pieces = read_empty(empty);
  if (!pieces) {
    SM_TRY_STATUS(make_empty(empty));
    pieces = read_empty(empty);
    if (!pieces) return fail(std::move(pieces).error());
  }
  const Draft draft(path);
  const UniqueFd to = SM_TRY(draft.create());
  if (::ftruncate(to.get(), static_cast<off_t>(kRootDiskBytes)) < 0) {
    return fail_errno("make a file of 10 GiB of " + path, errno);
  }
  for (const Piece& piece : *pieces) {
    if (auto done = write_all_at(to.get(), piece.data, piece.offset); !done) {
      return fail(std::move(done).error().with(path));
    }
  }
  return draft.publish();
}

Result<RootDisk> open_root_disk(const std::string& path) {
  const UniqueFd file = SM_TRY(open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  struct stat st {};
  if (::fstat(file.get(), &st) < 0) return fail_errno("stat " + path, errno);
  const auto bytes = static_cast<std::uint64_t>(st.st_size);
  if (!S_ISREG(st.st_mode) || bytes == 0 || bytes % kSector != 0) {
    return fail(Code::kCorrupt, path + " is not the disk of a VM",
                "put back what was there, or remove the VM");
  }
  return RootDisk{path, bytes};
}

Result<UniqueFd> unnamed_root_disk(std::uint64_t bytes, const std::string& snapshot,
                                   const std::string& folder) {
  // In a snapshot's folder nothing may have a name that does not belong there.
  auto beside = open_file(snapshot, O_RDWR | O_TMPFILE);
  UniqueFd file = beside ? std::move(*beside) : SM_TRY(unnamed_file(folder));
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) < 0) {
    return fail_errno("make a disk of " + std::to_string(bytes) + " bytes", errno);
  }
  return file;
}

std::uint64_t bytes_on_disk(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) < 0 || !S_ISREG(st.st_mode)) return 0;
  return static_cast<std::uint64_t>(st.st_blocks) * kSector;
}

}  // namespace sm
