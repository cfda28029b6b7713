#include "common/warm_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

#include "common/root_files.h"

namespace sm::guest {

namespace {

// Where distributions have them; most images have a shell and one pair of the others.
constexpr const char* kFiles[] = {
    "/bin/sh",          "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6", "/usr/lib/libc.so.6",          "/lib/ld-musl-x86_64.so.1"};
constexpr std::size_t kMaxBytes = 4 << 20;  // of each: a snapshot grows by as much

// Read, not asked for: of what POSIX_FADV_WILLNEED names the kernel takes in only as much as it
// reads ahead at most.
void read_through(int fd) {
  static std::array<char, 16 << 10> buffer;
  for (std::size_t done = 0; done < kMaxBytes;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace

void warm_files(int root) {
  for (const char* path : kFiles) {
    const UniqueFd fd = open_inside(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, Mounts::kStay);
    struct stat st {};
    if (!fd.valid() || ::fstat(fd.get(), &st) < 0 || !S_ISREG(st.st_mode)) continue;
    // Pages that are read a second time count as in use; what was read once each program that ends
    // would move from one of the kernel's lists to another.
    for (int pass = 0; pass < 2 && ::lseek(fd.get(), 0, SEEK_SET) == 0; ++pass) {
      read_through(fd.get());
    }
  }
}

}  // namespace sm::guest
