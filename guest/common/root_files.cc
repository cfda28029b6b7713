#include "common/root_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {

namespace {

Status fill_file(int fd, std::string_view text, mode_t mode) {
  SM_TRY_STATUS(write_all(fd, as_byte_span(text)));
  if (::fchmod(fd, mode) < 0) return fail_errno("fchmod", errno);
  return {};
}

}  // namespace

UniqueFd open_inside(int root, const char* path, std::uint64_t flags, Mounts mounts) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  if (mounts == Mounts::kStay) how.resolve |= RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof(how))));
}

std::optional<std::string> read_small(int root, const char* path) {
  const UniqueFd fd = open_inside(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, Mounts::kStay);
  struct stat st {};
  if (!fd.valid() || ::fstat(fd.get(), &st) < 0 || !S_ISREG(st.st_mode)) return std::string();
  const auto size = static_cast<std::size_t>(st.st_size);
  if (size > kMaxSmallFile) return std::nullopt;
  std::string text(size, '\0');
  if (!read_exact(fd.get(), std::as_writable_bytes(std::span<char>(text)))) {
    return std::string();
  }
  return text;
}

Status replace_file(int folder, const char* name, std::string_view text, mode_t mode) {
  const std::string temp = std::string(".supermachine-") + name;
  ::unlinkat(folder, temp.c_str(), 0);
  const UniqueFd fd(
      ::openat(folder, temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(std::string("create the file ") + name, errno);
  Status status = fill_file(fd.get(), text, mode);
  if (status && ::renameat(folder, temp.c_str(), folder, name) < 0) {
    status = fail_errno(std::string("put the file ") + name + " in place", errno);
  }
  if (!status) ::unlinkat(folder, temp.c_str(), 0);
  return status;
}

Status make_folder(int folder, const char* name, mode_t mode) {
  if (::mkdirat(folder, name, mode) < 0) {
    return errno == EEXIST ? Status{} : fail_errno(std::string("make the folder ") + name, errno);
  }
  // mkdir obeys the umask; chmod does not.
  if (::fchmodat(folder, name, mode, 0) < 0) return fail_errno(std::string("chmod ") + name, errno);
  return {};
}

}  // namespace sm::guest
