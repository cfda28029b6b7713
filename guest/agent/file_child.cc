// Reads or writes one file of the guest on behalf of the host, as root, in a process of its own.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "agent/child.h"
#include "agent/child_status.h"
#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {

namespace {

using agent::ErrorKind;

// Files of /proc and /sys say that they are empty; they are read ahead to learn their size.
constexpr std::size_t kMaxUnsized = 1u << 20;

using Buffer = std::array<std::byte, 65536>;

[[noreturn]] void fail_file(const std::string& path, int error) {
  fail_child(ErrorKind::kFile, error, path);
}

ssize_t read_some(int fd, std::span<std::byte> out) {
  ssize_t n = 0;
  do {
    n = ::read(fd, out.data(), out.size());
  } while (n < 0 && errno == EINTR);
  return n;
}

void send_bytes(std::span<const std::byte> bytes) {
  // The agent has closed the pipe: the request is over.
  if (!write_all(STDOUT_FILENO, bytes)) ::_exit(0);
}

void copy_out(int fd, const std::string& path, std::uint64_t size) {
  report_size(size);
  Buffer buffer;
  while (size > 0) {
    const auto limit = std::min<std::uint64_t>(size, buffer.size());
    const ssize_t n = read_some(fd, std::span(buffer).first(static_cast<std::size_t>(limit)));
    if (n < 0) fail_file(path, errno);
    if (n == 0) fail_child(ErrorKind::kFile, 0, path + ": became shorter while it was read");
    send_bytes(std::span(buffer).first(static_cast<std::size_t>(n)));
    size -= static_cast<std::uint64_t>(n);
  }
}

void copy_out_unsized(int fd, const std::string& path) {
  std::vector<std::byte> content;
  Buffer buffer;
  for (;;) {
    const ssize_t n = read_some(fd, buffer);
    if (n < 0) fail_file(path, errno);
    if (n == 0) break;
    content.insert(content.end(), buffer.begin(), buffer.begin() + n);
    if (content.size() > kMaxUnsized) fail_file(path, EFBIG);
  }
  report_size(content.size());
  send_bytes(content);
}

// Where the bytes go: the end of the chain of links, so that a link stays a link.
std::string real_target(const std::string& path) {
  std::array<char, PATH_MAX> resolved;
  if (::realpath(path.c_str(), resolved.data()) == nullptr) return path;
  return resolved.data();
}

// A temporary name in the folder of the target, removed unless it was put in place.
class NewFile {
 public:
  explicit NewFile(const std::string& target)
      : target_(target),
        temp_(target.substr(0, target.rfind('/') + 1) + ".supermachine.XXXXXX"),
        fd_(::mkostemp(temp_.data(), O_CLOEXEC)) {
    if (!fd_.valid()) fail_file(target_, errno);
  }
  int fd() const { return fd_.get(); }

  void set_attributes(mode_t mode) {
    struct stat old {};
    if (::stat(target_.c_str(), &old) == 0) {
      if (!S_ISREG(old.st_mode)) give_up(S_ISDIR(old.st_mode) ? EISDIR : EINVAL);
      mode = old.st_mode & 07777;
      if (::fchown(fd(), old.st_uid, old.st_gid) < 0) give_up(errno);
    }
    if (::fchmod(fd(), mode) < 0) give_up(errno);
  }
  void put_in_place() {
    if (::fsync(fd()) < 0) give_up(errno);
    if (::rename(temp_.c_str(), target_.c_str()) < 0) give_up(errno);
  }
  [[noreturn]] void give_up(int error) {
    ::unlink(temp_.c_str());
    fail_file(target_, error);
  }
  [[noreturn]] void give_up(const std::string& reason) {
    ::unlink(temp_.c_str());
    fail_child(ErrorKind::kFile, 0, target_ + ": " + reason);
  }

 private:
  std::string target_;
  std::string temp_;
  UniqueFd fd_;
};

// A broken pipe ends the loops above through their return values.
void prepare(const ChildDescriptors& descriptors) {
  take_descriptors(descriptors);
  ::setsid();
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0);
}

}  // namespace

void stage_files(const std::vector<agent::StagedFile>& files) {
  for (const agent::StagedFile& staged : files) {
    NewFile file(real_target(staged.path));
    if (!write_all(file.fd(), as_byte_span(staged.content))) file.give_up(errno);
    file.set_attributes(static_cast<mode_t>(staged.mode));
    file.put_in_place();
  }
}

void run_read_child(const std::string& path, const ChildDescriptors& descriptors) {
  prepare(descriptors);
  const UniqueFd fd = open_regular(path);
  struct stat st {};
  if (!fd.valid() || ::fstat(fd.get(), &st) < 0) fail_file(path, errno);
  if (st.st_size > 0) {
    copy_out(fd.get(), path, static_cast<std::uint64_t>(st.st_size));
  } else {
    copy_out_unsized(fd.get(), path);
  }
  ::_exit(0);
}

void run_write_child(const agent::FileRequest& request, const ChildDescriptors& descriptors) {
  prepare(descriptors);
  NewFile file(real_target(request.path));
  Buffer buffer;
  std::uint64_t written = 0;
  for (;;) {
    const ssize_t n = read_some(STDIN_FILENO, buffer);
    if (n < 0) file.give_up(errno);
    if (n == 0) break;
    written += static_cast<std::uint64_t>(n);
    if (auto s = write_all(file.fd(), std::span(buffer).first(static_cast<std::size_t>(n))); !s) {
      file.give_up(errno);
    }
  }
  if (written != request.size) file.give_up("fewer bytes than announced");
  file.set_attributes(static_cast<mode_t>(request.mode));
  file.put_in_place();
  ::_exit(0);
}

}  // namespace sm::guest
