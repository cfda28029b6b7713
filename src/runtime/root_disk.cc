#include "runtime/root_disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
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

// From then on it is taken as it is, so it has to be on the disk.
Status make_empty(const std::string& path) {
  const std::string program = find_mke2fs();
  if (program.empty()) {
    return fail(Code::kNotFound, "there is no mke2fs, which makes the disks of VMs",
                "install the package e2fsprogs, or use --rm: such VMs have no disk");
  }
  const Draft draft(path);
  const UniqueFd file = SM_TRY(draft.create());
  if (::ftruncate(file.get(), static_cast<off_t>(kRootDiskBytes)) < 0) {
    return fail_errno("make a file of 10 GiB of " + path, errno);
  }
  std::vector<std::string> words = {"/usr/bin/env", "MKE2FS_CONFIG=/dev/null", program};
  words.insert(words.end(), kWords.begin(), kWords.end());
  words.push_back(draft.path());
  const CommandResult result = SM_TRY(run_command(words, kMakeLimit));
  if (result.status != 0) {
    return fail(Code::kIo, "mke2fs failed: " + result.output.substr(0, 1000),
                "see whether there is room for " + path);
  }
  if (::fsync(file.get()) < 0) return fail_errno("write " + path, errno);
  return draft.publish();
}

// The pieces between the holes.
Status copy_pieces(int from, int to, off_t size) {
  std::array<std::byte, 1u << 16> buffer;
  for (off_t at = 0; at < size;) {
    at = ::lseek(from, at, SEEK_DATA);
    if (at < 0 && errno == ENXIO) return {};
    if (at < 0) return fail_errno("find data", errno);
    for (const off_t end = ::lseek(from, at, SEEK_HOLE); at < end;) {
      const auto piece = std::min(buffer.size(), static_cast<std::size_t>(end - at));
      const ssize_t n = ::pread(from, buffer.data(), piece, at);
      if (n <= 0) return fail_errno("read an empty disk", n == 0 ? EIO : errno);
      const ssize_t written = ::pwrite(to, buffer.data(), static_cast<std::size_t>(n), at);
      if (written < 0) return fail_errno("write a disk", errno);
      at += written;
    }
  }
  return {};
}

// Shared blocks where the file system has them, else the few that there are.
Status clone(int from, int to, off_t size) {
  if (::ioctl(to, FICLONE, from) == 0) return {};
  if (::ftruncate(to, size) < 0) return fail_errno("make a file of 10 GiB", errno);
  return copy_pieces(from, to, size);
}

}  // namespace

Status make_root_disk(const std::string& path, const std::string& cache) {
  const std::string folder = cache + "/disks";
  SM_TRY_STATUS(make_dirs(folder));
  const std::string empty = folder + "/ext4-" + std::to_string(kDiskRecipe) + "-" +
                            std::to_string(kRootDiskBytes) + ".img";
  auto from = open_file(empty, O_RDONLY);
  if (!from || file_size(from->get()).value_or(0) != kRootDiskBytes) {
    SM_TRY_STATUS(make_empty(empty));
    from = open_file(empty, O_RDONLY);
    if (!from) return fail(std::move(from).error());
  }
  const Draft draft(path);
  const UniqueFd to = SM_TRY(draft.create());
  if (auto done = clone(from->get(), to.get(), static_cast<off_t>(kRootDiskBytes)); !done) {
    return fail(std::move(done).error().with(path));
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

std::uint64_t bytes_on_disk(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) < 0 || !S_ISREG(st.st_mode)) return 0;
  return static_cast<std::uint64_t>(st.st_blocks) * kSector;
}

}  // namespace sm
