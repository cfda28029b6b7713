// The agent's program `pack`: a file or a tree as a tar stream.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <utility>

#include "agent/own_program.h"
#include "base/bytes.h"
#include "base/file.h"
#include "common/tar_format.h"

namespace sm::guest {

namespace {

// Limits: folders in one another, each of which is open meanwhile; files with several names.
constexpr int kMaxDepth = 500;
constexpr std::size_t kMaxLinked = 1u << 20;
constexpr std::size_t kEnd = 2 * kTarBlock;
// Files of /proc and /sys say that they are empty; they are read ahead to learn their size.
constexpr std::size_t kMaxUnsized = 1u << 20;

class Packer {
 public:
  bool failed() const { return failed_; }

  // `name` in the folder `parent`; `path` is what the archive calls it.
  void add(int parent, const std::string& name, const std::string& path, int depth) {
    struct stat st {};
    if (::fstatat(parent, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) return skip(path, errno);
    TarHeader header;
    header.name = path;
    header.mode = st.st_mode & 07777;
    header.uid = st.st_uid;
    header.gid = st.st_gid;
    header.mtime = st.st_mtim.tv_sec;
    if (S_ISDIR(st.st_mode)) return add_folder(parent, name, std::move(header), depth);
    if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
      return complain(path + " is left out: it is a device, a FIFO or a socket");
    }
    if (st.st_nlink > 1 && is_known(st, header)) return write(encode_tar_header(header));
    if (S_ISLNK(st.st_mode)) return add_symlink(parent, name, std::move(header));
    add_file(parent, name, std::move(header));
  }

  void finish() { write(std::string(kEnd, '\0')); }

 private:
  void skip(const std::string& path, int error) {
    complain(path, error);
    failed_ = true;
  }

  // Who reads has left, or the stream is broken: nothing more can be said.
  static void write(std::string_view bytes) {
    if (!write_all(STDOUT_FILENO, as_byte_span(bytes))) ::_exit(1);
  }

  // The first name of a file is the file, further ones are links to it.
  bool is_known(const struct stat& st, TarHeader& header) {
    const std::pair<dev_t, ino_t> key(st.st_dev, st.st_ino);
    const auto it = linked_.find(key);
    if (it != linked_.end()) {
      header.type = kTarHardLink;
      header.link = it->second;
      return true;
    }
    if (linked_.size() < kMaxLinked) linked_.emplace(key, header.name);
    return false;
  }

  void add_folder(int parent, const std::string& name, TarHeader header, int depth) {
    if (depth >= kMaxDepth) return skip(header.name + " is too deep", 0);
    UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return skip(header.name, errno);
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd.get()), ::closedir);
    if (!dir) return skip(header.name, errno);
    static_cast<void>(fd.release());  // the folder's now
    const std::string path = header.name + "/";
    header.name = path;
    header.type = kTarFolder;
    write(encode_tar_header(header));
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string inside = entry->d_name;
      if (inside == "." || inside == "..") continue;
      add(::dirfd(dir.get()), inside, path + inside, depth + 1);
    }
  }

  void add_symlink(int parent, const std::string& name, TarHeader header) {
    std::array<char, 65536> target;
    const ssize_t n = ::readlinkat(parent, name.c_str(), target.data(), target.size());
    if (n < 0) return skip(header.name, errno);
    header.type = kTarSymlink;
    header.link.assign(target.data(), static_cast<std::size_t>(n));
    write(encode_tar_header(header));
  }

  void add_file(int parent, const std::string& name, TarHeader header) {
    // Files of /proc that would wait for something do not, either.
    const UniqueFd fd(
        ::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat st {};
    if (!fd.valid() || ::fstat(fd.get(), &st) < 0) return skip(header.name, errno);
    if (!S_ISREG(st.st_mode)) return skip(header.name + " has become something else", 0);
    header.size = static_cast<std::uint64_t>(st.st_size);
    if (header.size == 0) return add_unsized(fd.get(), std::move(header));
    write(encode_tar_header(header));
    std::uint64_t left = header.size;
    while (left > 0) {
      const auto most = std::min<std::uint64_t>(left, buffer_.size());
      const ssize_t n = read_some(fd.get(), static_cast<std::size_t>(most));
      if (n <= 0) {
        skip(header.name + " became shorter while it was read", n < 0 ? errno : 0);
        break;
      }
      write({buffer_.data(), static_cast<std::size_t>(n)});
      left -= static_cast<std::uint64_t>(n);
    }
    // The header has promised so much.
    for (; left > 0; left -= std::min<std::uint64_t>(left, kTarBlock)) {
      write(std::string(std::min<std::uint64_t>(left, kTarBlock), '\0'));
    }
    pad(header.size);
  }

  void add_unsized(int fd, TarHeader header) {
    std::string content;
    for (;;) {
      const ssize_t n = read_some(fd, buffer_.size());
      if (n < 0) return skip(header.name, errno);
      if (n == 0) break;
      content.append(buffer_.data(), static_cast<std::size_t>(n));
      if (content.size() > kMaxUnsized) return skip(header.name, EFBIG);
    }
    header.size = content.size();
    write(encode_tar_header(header));
    write(content);
    pad(header.size);
  }

  ssize_t read_some(int fd, std::size_t most) {
    ssize_t n = 0;
    do {
      n = ::read(fd, buffer_.data(), most);
    } while (n < 0 && errno == EINTR);
    return n;
  }

  static void pad(std::uint64_t size) {
    const auto over = static_cast<std::size_t>(size % kTarBlock);
    if (over != 0) write(std::string(kTarBlock - over, '\0'));
  }

  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::array<char, 65536> buffer_{};
  bool failed_ = false;
};

}  // namespace

int pack_main(const Arguments& arguments) {
  const std::string& folder = arguments[0];
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    complain(folder, errno);
    return 1;
  }
  struct stat st {};
  if (::fstatat(fd.get(), arguments[1].c_str(), &st, AT_SYMLINK_NOFOLLOW) < 0) {
    complain((folder == "/" ? "" : folder) + "/" + arguments[1], errno);
    return 1;
  }
  const auto packer = std::make_unique<Packer>();
  packer->add(fd.get(), arguments[1], arguments[1], 0);
  packer->finish();
  return packer->failed() ? 1 : 0;
}

}  // namespace sm::guest
