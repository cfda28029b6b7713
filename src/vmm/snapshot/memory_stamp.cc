#include "vmm/snapshot/memory_stamp.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm::memory_stamp {
namespace {

constexpr std::string_view kMagic("SMMEMOK\1", 8);
constexpr std::size_t kBootIdBytes = 36;
constexpr std::size_t kStampBytes = 8 + 5 * 8 + kBootIdBytes + 4 + 4;

std::uint64_t nanoseconds(const struct timespec& t) {
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

// Changes with every start of the host.
Result<std::string> boot_id() {
  const std::string id = SM_TRY(read_file("/proc/sys/kernel/random/boot_id", 64));
  if (id.size() < kBootIdBytes) return fail(Code::kUnsupported, "the host has no boot id");
  return id.substr(0, kBootIdBytes);
}

std::vector<std::byte> encode(const struct stat& info, std::string_view boot,
                              std::uint32_t sum_crc) {
  ByteWriter out;
  out.put_bytes(as_byte_span(kMagic));
  out.put(static_cast<std::uint64_t>(info.st_dev));
  out.put(static_cast<std::uint64_t>(info.st_ino));
  out.put(static_cast<std::uint64_t>(info.st_size));
  out.put(nanoseconds(info.st_mtim));
  out.put(nanoseconds(info.st_ctim));
  out.put_bytes(as_byte_span(boot));
  out.put(sum_crc);
  out.put(crc32c(out.bytes()));
  return out.release();
}

constexpr std::string_view kNoBoot = "000000000000000000000000000000000000";
static_assert(kNoBoot.size() == kBootIdBytes);

}  // namespace

bool is_valid(int directory, const snapshot_files::ImageFiles& names, int image_fd,
              std::uint32_t sum_crc) {
  const auto fd = snapshot_files::open_regular(directory, names.stamp);
  struct stat stamp {};
  struct stat memory {};
  std::vector<std::byte> bytes(kStampBytes);
  if (!fd || ::fstat(fd->get(), &stamp) != 0 || ::fstat(image_fd, &memory) != 0 ||
      stamp.st_size != static_cast<off_t>(kStampBytes) || !read_exact(fd->get(), bytes)) {
    return false;
  }
  // The clock of a file system has steps. Only a stamp from a later step than the image's last
  // change says that no change after the stamp looks the same.
  if (nanoseconds(stamp.st_mtim) <= nanoseconds(memory.st_ctim)) return false;
  if (bytes == encode(memory, kNoBoot, sum_crc)) return true;
  const auto boot = boot_id();
  return boot && bytes == encode(memory, *boot, sum_crc);
}

Status write(int directory, const snapshot_files::ImageFiles& names, int image_fd,
             std::uint32_t sum_crc, Lasting lasting) {
  struct stat memory {};
  if (::fstat(image_fd, &memory) != 0) return fail_errno("look at the memory image", errno);
  const std::string boot = lasting == Lasting::kSynced ? std::string(kNoBoot) : SM_TRY(boot_id());
  const auto bytes = encode(memory, boot, sum_crc);
  // Two at once write the same; the worst is half a stamp, which nobody believes.
  ::unlinkat(directory, names.new_stamp, 0);
  auto status =
      snapshot_files::write_new(directory, names.new_stamp, bytes, lasting == Lasting::kSynced);
  if (status && ::renameat(directory, names.new_stamp, directory, names.stamp) != 0) {
    status = fail_errno("rename the stamp", errno);
  }
  if (!status) ::unlinkat(directory, names.new_stamp, 0);
  return status;
}

}  // namespace sm::memory_stamp
