#include "vmm/loader/cpio.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <utility>

#include "base/checked.h"

namespace sm {

namespace {

// Limit: Linux takes names up to PATH_MAX, and sizes of 32 bits.
constexpr std::size_t kMaxPath = 1024;
constexpr std::uint32_t kPermissionBits = 07777;
constexpr std::string_view kTrailer = "TRAILER!!!";

Status check_path(std::string_view path) {
  const auto bad = [path](std::string_view why) {
    return fail(Code::kInvalidArgument, fmt::format("initramfs path '{}': {}", path, why));
  };
  if (path.empty() || path.size() > kMaxPath) return bad("empty or too long");
  if (path.find('\0') != std::string_view::npos) return bad("holds a NUL");
  if (path == kTrailer) return bad("is the archive's own end mark");
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return bad("an empty, '.' or '..' part");
    if (slash == std::string_view::npos) return {};
    path.remove_prefix(slash + 1);
  }
}

void pad_to_4(ByteWriter& out) {
  while (out.size() % 4 != 0) out.put(std::uint8_t{0});
}

}  // namespace

Status CpioWriter::add_directory(std::string_view path, std::uint32_t permissions) {
  return add(path, S_IFDIR | (permissions & kPermissionBits), {});
}

Status CpioWriter::add_file(std::string_view path, std::uint32_t permissions,
                            std::span<const std::byte> content) {
  return add(path, S_IFREG | (permissions & kPermissionBits), content);
}

Status CpioWriter::add(std::string_view path, std::uint32_t mode,
                       std::span<const std::byte> content) {
  SM_TRY_STATUS(check_path(path));
  if (!narrow<std::uint32_t>(content.size())) {
    return fail(Code::kLimit, fmt::format("initramfs file '{}' is larger than 4 GiB", path));
  }
  put_record(path, mode, content);
  return {};
}

void CpioWriter::put_record(std::string_view name, std::uint32_t mode,
                            std::span<const std::byte> content) {
  const bool is_trailer = mode == 0;
  const std::uint32_t links = (mode & S_IFMT) == S_IFDIR ? 2 : 1;
  const std::array<std::uint32_t, 13> fields = {
      is_trailer ? 0 : next_inode_++,
      mode,
      0,  // uid
      0,  // gid
      links,
      0,  // mtime
      static_cast<std::uint32_t>(content.size()),
      0,  // device of the file system
      0,
      0,  // device the node stands for
      0,
      static_cast<std::uint32_t>(name.size() + 1),
      0,  // checksum: unused in newc
  };
  out_.put_bytes(as_byte_span("070701"));
  for (const std::uint32_t field : fields)
    out_.put_bytes(as_byte_span(fmt::format("{:08X}", field)));
  out_.put_bytes(as_byte_span(name));
  out_.put(std::uint8_t{0});
  pad_to_4(out_);
  out_.put_bytes(content);
  pad_to_4(out_);
}

std::vector<std::byte> CpioWriter::finish() {
  put_record(kTrailer, 0, {});
  next_inode_ = 1;
  return std::exchange(out_, ByteWriter()).release();
}

}  // namespace sm
