#include "base/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/bytes.h"

namespace sm {

namespace {

template <class F>
auto retry(F&& f) {
  decltype(f()) r;
  do {
    r = f();
  } while (r < 0 && errno == EINTR);
  return r;
}

}  // namespace

Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode) {
  const int fd = retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd < 0) return fail_errno("open " + path, errno);
  return UniqueFd(fd);
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  UniqueFd fd = SM_TRY(open_file(path, O_RDONLY));
  std::string out;
  char buffer[65536];
  for (;;) {
    const ssize_t n = retry([&] { return ::read(fd.get(), buffer, sizeof(buffer)); });
    if (n < 0) return fail_errno("read " + path, errno);
    if (n == 0) return out;
    const auto got = static_cast<std::size_t>(n);
    if (got > limit - out.size()) {
      return fail(Code::kLimit, path + " is larger than " + std::to_string(limit) + " bytes");
    }
    out.append(buffer, got);
  }
}

Status write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = retry([&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (n < 0) return fail_errno("write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status read_exact(int fd, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = retry([&] { return ::read(fd, out.data(), out.size()); });
    if (n < 0) return fail_errno("read", errno);
    if (n == 0) return fail(Code::kGone, "read: unexpected end of file");
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status write_file_atomic(const std::string& path, std::string_view content, mode_t mode) {
  std::string temp = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(temp.data(), O_CLOEXEC));
  if (!fd.valid()) return fail_errno("create " + temp, errno);
  auto finish = [&]() -> Status {
    SM_TRY_STATUS(write_all(fd.get(), as_byte_span(content)));
    if (::fchmod(fd.get(), mode) < 0) return fail_errno("chmod", errno);
    if (::fsync(fd.get()) < 0) return fail_errno("fsync", errno);
    if (::rename(temp.c_str(), path.c_str()) < 0) return fail_errno("rename", errno);
    return {};
  };
  if (auto status = finish(); !status) {
    ::unlink(temp.c_str());
    return fail(std::move(status).error().with("write " + path));
  }
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd dir = SM_TRY(open_file(folder, O_RDONLY | O_DIRECTORY));
  if (::fsync(dir.get()) < 0) return fail_errno("fsync " + folder, errno);
  return {};
}

Result<std::uint64_t> file_size(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) < 0) return fail_errno("fstat", errno);
  if (S_ISREG(st.st_mode)) return static_cast<std::uint64_t>(st.st_size);
  if (S_ISBLK(st.st_mode)) {
    std::uint64_t size = 0;
    if (::ioctl(fd, BLKGETSIZE64, &size) < 0) return fail_errno("BLKGETSIZE64", errno);
    return size;
  }
  return fail(Code::kInvalidArgument, "neither a regular file nor a block device");
}

Status make_dirs(const std::string& path, mode_t mode) {
  for (std::size_t at = 1; at <= path.size(); ++at) {
    if (at != path.size() && path[at] != '/') continue;
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), mode) < 0 && errno != EEXIST)
      return fail_errno("mkdir " + part, errno);
  }
  return {};
}

Result<UniqueFd> memory_file(const std::string& name, std::span<const std::byte> content) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) return fail_errno("memfd_create", errno);
  SM_TRY_STATUS(write_all(fd.get(), content));
  if (::lseek(fd.get(), 0, SEEK_SET) < 0) return fail_errno("lseek", errno);
  return fd;
}

Result<UniqueFd> unnamed_file(const std::string& folder) {
  auto file = open_file(folder, O_RDWR | O_TMPFILE);
  if (file || file.error().code() != Code::kIo) return file;
  // Not every file system has such files; overlayfs, on which containers stand, got them late.
  std::string name = folder + "/supermachine-XXXXXX";
  UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd.valid()) return fail_errno("make a file in " + folder, errno);
  ::unlink(name.c_str());
  return fd;
}

std::string spool_folder() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen != nullptr && chosen[0] == '/' ? chosen : "/var/tmp";
}

Status set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail_errno("fcntl", errno);
  const int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (::fcntl(fd, F_SETFL, wanted) < 0) return fail_errno("fcntl", errno);
  return {};
}

}  // namespace sm
