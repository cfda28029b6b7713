#include "vmm/snapshot/memory_writer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

using addr_map::kPageSize;

// Bits of a page table entry.
constexpr std::uint64_t kPresent = 1ull << 63, kSwapped = 1ull << 62, kFileOrShared = 1ull << 61;
constexpr bool is_private(std::uint64_t entry) {
  return (entry & (kPresent | kSwapped)) != 0 && (entry & kFileOrShared) == 0;
}

bool is_zero(const std::byte* page) {
  std::array<std::uint64_t, 8> words;
  for (std::size_t at = 0; at < kPageSize; at += sizeof(words)) {
    std::memcpy(words.data(), page + at, sizeof(words));
    std::uint64_t all = 0;
    for (const std::uint64_t word : words) all |= word;
    if (all != 0) return false;
  }
  return true;
}

Status write_at(int file, const std::byte* bytes, std::uint64_t length, std::uint64_t offset) {
  while (length != 0) {
    const ssize_t n = ::pwrite(file, bytes, length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("write the memory image", errno);
    bytes += n;
    length -= static_cast<std::uint64_t>(n);
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

// Writes the pages that are not zero in runs as long as possible; zeros become holes where the file
// may hold something. Returns the bytes written.
Result<std::uint64_t> write_piece(const HostPages& piece, int file, bool may_hold_data) {
  std::uint64_t written = 0;
  for (std::uint64_t i = 0; i < piece.pages.count;) {
    const bool zero = is_zero(piece.host + i * kPageSize);
    std::uint64_t end = i + 1;
    while (end < piece.pages.count && is_zero(piece.host + end * kPageSize) == zero) ++end;
    const std::uint64_t offset = (piece.pages.first + i) * kPageSize;
    const std::uint64_t length = (end - i) * kPageSize;
    if (!zero) {
      SM_TRY_STATUS(write_at(file, piece.host + i * kPageSize, length, offset));
      written += length;
    } else if (may_hold_data &&
               ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(offset), static_cast<off_t>(length)) < 0) {
      // A file system without holes in files: zeros will do.
      SM_TRY_STATUS(write_at(file, piece.host + i * kPageSize, length, offset));
    }
    i = end;
  }
  return written;
}

Status copy_range(int from, int to, off_t start, off_t end) {
  off_t in = start, out = start;
  while (in < end) {
    const ssize_t n = ::copy_file_range(from, &in, to, &out, static_cast<std::size_t>(end - in), 0);
    if (n > 0) continue;
    if (n == 0) return fail(Code::kCorrupt, "a memory image ends early");
    if (errno == EINTR) continue;
    if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP) {
      return fail_errno("copy the memory image", errno);
    }
    std::vector<std::byte> buffer(1u << 20);
    const ssize_t got =
        ::pread(from, buffer.data(),
                std::min<std::size_t>(buffer.size(), static_cast<std::size_t>(end - in)), in);
    if (got <= 0) return fail_errno("read the memory image", got == 0 ? EIO : errno);
    SM_TRY_STATUS(write_at(to, buffer.data(), static_cast<std::uint64_t>(got),
                           static_cast<std::uint64_t>(out)));
    in += got;
    out += got;
  }
  return {};
}

// The data of [start, end) of one file into another; holes stay holes.
Status copy_data(int from, int to, off_t start, off_t end) {
  while (start < end) {
    const off_t data = ::lseek(from, start, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};
    if (data < 0) return fail_errno("read the memory image", errno);
    if (data >= end) return {};
    const off_t hole = std::min(end, ::lseek(from, data, SEEK_HOLE));
    SM_TRY_STATUS(copy_range(from, to, data, hole));
    start = hole;
  }
  return {};
}

}  // namespace

Result<MemoryWriter> MemoryWriter::create() {
  return MemoryWriter(SM_TRY(open_file("/proc/self/pagemap", O_RDONLY)));
}

Result<std::vector<PageRange>> MemoryWriter::changed_pages(const GuestMemory& memory) const {
  std::vector<PageRange> ranges;
  std::vector<std::uint64_t> entries(8192);
  std::uint64_t page = 0;
  for (const MemoryRegion& region : memory.regions()) {
    // SAFETY: the kernel's table is indexed by virtual page number.
    const std::uint64_t first = reinterpret_cast<std::uint64_t>(region.host) / kPageSize;
    const std::uint64_t count = region.size / kPageSize;
    for (std::uint64_t done = 0; done < count;) {
      const std::uint64_t n = std::min<std::uint64_t>(entries.size(), count - done);
      const ssize_t got = ::pread(pagemap_.get(), entries.data(), n * sizeof(entries[0]),
                                  static_cast<off_t>((first + done) * sizeof(entries[0])));
      if (got <= 0) return fail_errno("read the page table", got == 0 ? EIO : errno);
      const std::uint64_t usable = static_cast<std::uint64_t>(got) / sizeof(entries[0]);
      for (std::uint64_t i = 0; i < usable; ++i, ++page) {
        if (!is_private(entries[i])) continue;
        if (!ranges.empty() && ranges.back().first + ranges.back().count == page) {
          ++ranges.back().count;
        } else {
          ranges.push_back({page, 1});
        }
      }
      done += usable;
    }
  }
  return ranges;
}

// Each layer over those before it.
Status write_layers(const GuestMemory& memory, int file) {
  for (const MemoryLayer& layer : memory.layers()) {
    const int from = layer.file.get();
    if (layer.pages.empty()) {
      SM_TRY_STATUS(copy_data(from, file, 0, static_cast<off_t>(memory.size())));
    }
    for (const PageRange& range : layer.pages) {
      const auto start = static_cast<off_t>(range.first * kPageSize);
      const auto length = static_cast<off_t>(range.count * kPageSize);
      // A page of this layer that is a hole is zero, whatever the layer below has there.
      if (::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, length) < 0) {
        SM_TRY_STATUS(copy_range(from, file, start, start + length));
      } else {
        SM_TRY_STATUS(copy_data(from, file, start, start + length));
      }
    }
  }
  return {};
}

Result<std::uint64_t> write_pages(const GuestMemory& memory, std::span<const PageRange> pages,
                                  int file) {
  std::uint64_t written = 0;
  for (const PageRange& range : pages) {
    for (const HostPages& piece : memory.host_pages(range)) {
      written += SM_TRY(write_piece(piece, file, !memory.layers().empty()));
    }
  }
  return written;
}

// ---- In a child --------------------------------------------------------------------------------

namespace {

// What the child says: as much as fits into one write to a pipe.
struct ChildReport {
  std::uint64_t written = 0;
  std::uint8_t code = 0;
  bool failed = false;
  char cause[160] = {};
};

// A peer of the parent's must see the parent's close, not this process's end.
void close_all_but(int one, int other) {
  const auto [low, high] = std::minmax(one, other);
  const auto close_between = [](int first, int last) {
    if (first <= last) {
      ::close_range(static_cast<unsigned>(first), static_cast<unsigned>(last), 0);
    }
  };
  close_between(STDERR_FILENO + 1, low - 1);
  close_between(low + 1, high - 1);
  ::close_range(static_cast<unsigned>(high) + 1, ~0u, 0);
}

[[noreturn]] void run_child(const GuestMemory& memory, std::span<const PageRange> pages, int file,
                            int report_to) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  close_all_but(file, report_to);
  ChildReport report;
  const auto written = write_pages(memory, pages, file);
  if (written) {
    report.written = *written;
  } else {
    report.failed = true;
    report.code = static_cast<std::uint8_t>(written.error().code());
    std::snprintf(report.cause, sizeof(report.cause), "%s", written.error().cause().c_str());
  }
  const ssize_t sent = ::write(report_to, &report, sizeof(report));
  ::_exit(sent == sizeof(report) ? 0 : 1);
}

}  // namespace

Result<MemoryWriterProcess> MemoryWriterProcess::start(const GuestMemory& memory,
                                                       std::span<const PageRange> pages, int file) {
  int fds[2] = {-1, -1};
  if (::pipe2(fds, O_CLOEXEC) < 0) return fail_errno("pipe", errno);
  UniqueFd ours(fds[0]);
  const UniqueFd theirs(fds[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("start the process that writes memory", errno);
  if (pid == 0) run_child(memory, pages, file, theirs.get());
  return MemoryWriterProcess(pid, std::move(ours));
}

MemoryWriterProcess::MemoryWriterProcess(MemoryWriterProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), result_(std::move(other.result_)) {}

MemoryWriterProcess::~MemoryWriterProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<std::uint64_t> MemoryWriterProcess::finish() {
  ChildReport report;
  const auto bytes = std::as_writable_bytes(std::span(&report, 1));
  auto status = read_exact(result_.get(), bytes);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (!status) return fail(Code::kIo, "the process that writes memory was killed");
  if (!report.failed) return report.written;
  report.cause[sizeof(report.cause) - 1] = '\0';
  return fail(static_cast<Code>(report.code), report.cause);
}

}  // namespace sm
