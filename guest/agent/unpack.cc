// The agent's program `unpack`: a tar stream into a folder. The stream is the host's; what it may
// not do is to leave the folder by way of its own links.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <vector>

#include "agent/own_program.h"
#include "base/bytes.h"
#include "base/file.h"
#include "common/tar_format.h"

namespace sm::guest {

namespace {

// Limit: links and folders that are completed behind the last entry.
constexpr std::size_t kMaxLater = 1u << 20;

class Input {
 public:
  // All of it, or as much as there is.
  Result<std::size_t> read(std::span<std::byte> out) {
    std::size_t got = 0;
    while (got < out.size()) {
      const ssize_t n = ::read(STDIN_FILENO, out.data() + got, out.size() - got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno("standard input", errno);
      if (n == 0) break;
      got += static_cast<std::size_t>(n);
    }
    return got;
  }
  Status read_all(std::span<std::byte> out) {
    if (SM_TRY(read(out)) == out.size()) return {};
    return fail(Code::kCorrupt, "the archive ends early");
  }
  // Hands `size` bytes and what fills up their last block to `use`.
  template <typename Use>
  Status each(std::uint64_t size, Use use) {
    std::array<std::byte, 65536> buffer;
    while (size > 0) {
      const auto whole = std::min<std::uint64_t>(size, buffer.size());
      const auto padded = (whole + kTarBlock - 1) / kTarBlock * kTarBlock;
      SM_TRY_STATUS(read_all(std::span(buffer).first(static_cast<std::size_t>(padded))));
      SM_TRY_STATUS(use(std::span(buffer).first(static_cast<std::size_t>(whole))));
      size -= whole;
    }
    return {};
  }
};

// Without "." and empty components. kCorrupt with "..".
Result<std::string> clean_path(const std::string& name) {
  std::string out;
  for (std::size_t at = 0; at <= name.size();) {
    const auto end = std::min(name.find('/', at), name.size());
    const auto part = name.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return fail(Code::kCorrupt, "the archive has the name " + name);
    out += (out.empty() ? "" : "/") + part;
  }
  return out;
}

class Unpacker {
 public:
  explicit Unpacker(UniqueFd root) : root_(std::move(root)) {}

  Status run() {
    for (;;) {
      std::array<std::byte, kTarBlock> block;
      const std::size_t n = SM_TRY(input_.read(block));
      if (n == 0) break;
      if (n < block.size()) return fail(Code::kCorrupt, "the archive ends early");
      auto header = SM_TRY(decode_tar_header(block));
      if (!header) break;
      if (is_extra(header->type)) {
        SM_TRY_STATUS(take_extra(*header));
      } else {
        extra_.apply(*header);
        SM_TRY_STATUS(add(*header));
      }
    }
    SM_TRY_STATUS(finish());
    return drain();
  }

 private:
  struct Attributes {
    std::string path;
    TarHeader header;
  };

  static bool is_extra(char type) {
    return type == kTarPax || type == kTarPaxGlobal || type == kTarLongName || type == kTarLongLink;
  }

  static tl::unexpected<Error> failed(const std::string& path) { return fail_errno(path, errno); }

  Status take_extra(const TarHeader& header) {
    if (header.size > kMaxTarExtra) return fail(Code::kLimit, "the archive has a too long header");
    std::string data;
    SM_TRY_STATUS(input_.each(header.size, [&](std::span<const std::byte> bytes) -> Status {
      data.append(as_text(bytes));
      return {};
    }));
    return extra_.add(header.type, data);
  }

  Status add(const TarHeader& header) {
    const std::string path = SM_TRY(clean_path(header.name));
    links_.erase(path);
    switch (header.type) {
      case kTarFile:
        if (path.empty()) return fail(Code::kCorrupt, "the archive has a file without a name");
        return add_file(path, header);
      case kTarFolder:
        // The folder itself is there, and is the caller's.
        return path.empty() ? Status() : add_folder(path, header);
      case kTarSymlink:
        return later(path, header);
      case kTarHardLink:
        return add_link(path, header);
      default:
        return fail(Code::kUnsupported, path + " is a device, a FIFO or of an unknown type");
    }
  }

  // Links come last: nothing is written through one that the archive itself has made.
  Status later(const std::string& path, const TarHeader& header) {
    if (path.empty()) return fail(Code::kCorrupt, "the archive has a link without a name");
    if (links_.size() >= kMaxLater) return fail(Code::kLimit, "the archive has too many links");
    links_[path] = header;
    return {};
  }

  Status make_parents(const std::string& path) {
    for (auto at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) {
      const std::string part = path.substr(0, at);
      if (::mkdirat(root_.get(), part.c_str(), 0755) < 0 && errno != EEXIST) return failed(part);
    }
    return {};
  }

  // `make` makes something, for which folders may be missing or something else in the way.
  template <typename Make>
  Status make_there(const std::string& path, Make make) {
    ::unlinkat(root_.get(), path.c_str(), 0);
    if (make() >= 0) return {};
    if (errno != ENOENT) return failed(path);
    SM_TRY_STATUS(make_parents(path));
    return make() >= 0 ? Status() : failed(path);
  }

  Status add_file(const std::string& path, const TarHeader& header) {
    UniqueFd fd;
    SM_TRY_STATUS(make_there(path, [&] {
      fd = UniqueFd(::openat(root_.get(), path.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
      return fd.get();
    }));
    SM_TRY_STATUS(input_.each(header.size, [&](std::span<const std::byte> bytes) {
      auto written = write_all(fd.get(), bytes);
      return written ? written : fail(std::move(written).error().with(path));
    }));
    if (::fchown(fd.get(), static_cast<uid_t>(header.uid), static_cast<gid_t>(header.gid)) < 0 ||
        ::fchmod(fd.get(), header.mode) < 0) {
      return failed(path);
    }
    const timespec times[2] = {{0, UTIME_NOW}, {header.mtime, 0}};
    ::futimens(fd.get(), times);
    return {};
  }

  // A link to a folder that is there stays.
  Status add_folder(const std::string& path, const TarHeader& header) {
    struct stat st {};
    if (::fstatat(root_.get(), path.c_str(), &st, 0) < 0 || !S_ISDIR(st.st_mode)) {
      SM_TRY_STATUS(make_there(path, [&] { return ::mkdirat(root_.get(), path.c_str(), 0700); }));
    }
    if (folders_.size() >= kMaxLater) return fail(Code::kLimit, "the archive has too many folders");
    folders_.push_back({path, header});
    return {};
  }

  Status add_link(const std::string& path, const TarHeader& header) {
    if (path.empty()) return fail(Code::kCorrupt, "the archive has a link without a name");
    const std::string target = SM_TRY(clean_path(header.link));
    // To itself: it is there.
    if (target == path) return {};
    // To a symbolic link, which is not there yet.
    if (links_.contains(target)) return later(path, header);
    return make_there(
        path, [&] { return ::linkat(root_.get(), target.c_str(), root_.get(), path.c_str(), 0); });
  }

  Status finish() {
    for (const char type : {kTarSymlink, kTarHardLink}) {
      for (const auto& [path, header] : links_) {
        if (header.type != type) continue;
        SM_TRY_STATUS(make_there(path, [&, &where = path, &from = header] {
          if (from.type == kTarSymlink) {
            return ::symlinkat(from.link.c_str(), root_.get(), where.c_str());
          }
          const auto target = clean_path(from.link);
          return ::linkat(root_.get(), target ? target->c_str() : "", root_.get(), where.c_str(),
                          0);
        }));
        if (type == kTarSymlink) {
          static_cast<void>(!::fchownat(root_.get(), path.c_str(), static_cast<uid_t>(header.uid),
                                        static_cast<gid_t>(header.gid), AT_SYMLINK_NOFOLLOW));
        }
      }
    }
    // The innermost first: what is made in a folder changes its time.
    for (auto it = folders_.rbegin(); it != folders_.rend(); ++it) {
      const TarHeader& h = it->header;
      const timespec times[2] = {{0, UTIME_NOW}, {h.mtime, 0}};
      const char* const path = it->path.c_str();
      if (::fchownat(root_.get(), path, static_cast<uid_t>(h.uid), static_cast<gid_t>(h.gid), 0) <
              0 ||
          ::fchmodat(root_.get(), path, h.mode, 0) < 0) {
        return failed(it->path);
      }
      ::utimensat(root_.get(), path, times, 0);
    }
    return {};
  }

  // Who writes shall not find a broken pipe.
  Status drain() {
    std::array<std::byte, 65536> rest;
    while (SM_TRY(input_.read(rest)) > 0) {
    }
    return {};
  }

  UniqueFd root_;
  Input input_;
  TarExtra extra_;
  std::map<std::string, TarHeader> links_;
  std::vector<Attributes> folders_;
};

}  // namespace

int unpack_main(const Arguments& arguments) {
  UniqueFd root(::open(arguments[0].c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    complain(arguments[0], errno);
    return 1;
  }
  const auto unpacker = std::make_unique<Unpacker>(std::move(root));
  const auto done = unpacker->run();
  if (done) return 0;
  complain(done.error().text());
  return 1;
}

}  // namespace sm::guest
