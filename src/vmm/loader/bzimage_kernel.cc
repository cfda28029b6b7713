// The bzImage half of kernel_image.h. The real-mode part is only read, never run: the CPU starts in
// 64-bit mode behind it. Spec: Linux Documentation/x86/boot.rst, "64-bit boot protocol".
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "vmm/loader/kernel_image.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint64_t kSetupHeaderOffset = 0x1F1;
constexpr std::uint64_t kJumpTargetOffset = 0x201;  // its byte counts the header from 0x202 on
constexpr std::uint64_t kEntry64Offset = 0x200;
constexpr std::uint16_t kBootFlag = 0xAA55;
constexpr std::uint16_t kOldestVersion = 0x020C;  // the first with xloadflags
constexpr std::uint8_t kDefaultSetupSectors = 4;
constexpr std::uint64_t kSectorSize = 512;
constexpr std::uint64_t kMaxAlignment = 1ull << 30;

tl::unexpected<Error> bad(Code code, std::string_view what) {
  return fail(code, fmt::format("bzImage: {}", what));
}

// The header as far as this file's protocol version has it; later fields are zero.
Result<setup_header> read_setup_header(const ByteSource& image) {
  const auto jump = SM_TRY(image.read_object<std::uint8_t>(kJumpTargetOffset));
  const std::uint64_t length = std::min<std::uint64_t>(
      kJumpTargetOffset + 1 + jump - kSetupHeaderOffset, sizeof(setup_header));
  setup_header header{};
  SM_TRY_STATUS(
      image.read(kSetupHeaderOffset, std::as_writable_bytes(std::span(&header, 1)).first(length)));
  return header;
}

Status check_header(const setup_header& header) {
  if (header.boot_flag != kBootFlag) return bad(Code::kCorrupt, "the boot flag is missing");
  if (header.version < kOldestVersion) {
    return bad(Code::kUnsupported, fmt::format("boot protocol {}.{:02}, at least 2.12 is needed",
                                               header.version >> 8, header.version & 0xFF));
  }
  if ((header.loadflags & LOADED_HIGH) == 0) {
    return bad(Code::kUnsupported, "a kernel that loads below 1 MiB");
  }
  if ((header.xloadflags & XLF_KERNEL_64) == 0) {
    return bad(Code::kUnsupported, "no 64-bit entry point: not an x86-64 kernel");
  }
  if (header.relocatable_kernel != 0 &&
      (!is_power_of_two(header.kernel_alignment) || header.kernel_alignment > kMaxAlignment)) {
    return bad(Code::kCorrupt, fmt::format("kernel alignment {:#x} is not possible",
                                           std::uint32_t{header.kernel_alignment}));
  }
  return {};
}

struct Payload {
  std::uint64_t offset;
  std::uint64_t length;
};

// The protected-mode part: what is loaded. Anything behind it (a signature) is not.
Result<Payload> find_payload(const setup_header& header, std::uint64_t file_size) {
  const std::uint64_t sectors = header.setup_sects == 0 ? kDefaultSetupSectors : header.setup_sects;
  const Payload payload{.offset = (sectors + 1) * kSectorSize,
                        .length = std::uint64_t{header.syssize} * 16};
  if (!fits(payload.offset, payload.length, file_size)) {
    return bad(Code::kCorrupt, fmt::format("truncated: {} bytes, the header speaks of {}",
                                           file_size, payload.offset + payload.length));
  }
  if (payload.length <= kEntry64Offset) return bad(Code::kCorrupt, "no room for an entry point");
  return payload;
}

// Where the kernel runs: its preferred address when RAM is there, else the lowest aligned one.
Result<std::uint64_t> choose_address(const GuestMemory& memory, const setup_header& header,
                                     std::uint64_t needed) {
  const auto usable = [&](std::uint64_t at) {
    return at >= addr_map::kHighMemoryStart && fits(at, needed, addr_map::kLowRamEnd) &&
           memory.contains(GuestPhysAddr(at), needed);
  };
  const std::uint64_t preferred = header.pref_address;
  if (header.relocatable_kernel == 0) {
    if (usable(preferred)) return preferred;
    if (preferred < addr_map::kHighMemoryStart) {
      return bad(Code::kUnsupported, fmt::format("runs at {:#x}, below 1 MiB", preferred));
    }
    return kernel_does_not_fit(memory, checked_add(preferred, needed).value_or(preferred));
  }
  if (preferred % header.kernel_alignment == 0 && usable(preferred)) return preferred;
  const std::uint64_t alignment = header.kernel_alignment;
  const std::uint64_t lowest = align_up(addr_map::kHighMemoryStart, alignment).value_or(0);
  if (usable(lowest)) return lowest;
  return kernel_does_not_fit(memory, checked_add(lowest, needed).value_or(lowest));
}

}  // namespace

Result<LoadedKernel> load_bzimage_kernel(GuestMemory& memory, const ByteSource& image) {
  const setup_header header = SM_TRY_WITH(read_setup_header(image), "bzImage");
  SM_TRY_STATUS(check_header(header));
  const Payload payload = SM_TRY(find_payload(header, image.size()));
  const std::uint64_t needed = std::max<std::uint64_t>(header.init_size, payload.length);
  const std::uint64_t start = SM_TRY(choose_address(memory, header, needed));
  SM_TRY_STATUS(image.read_to_guest(payload.offset, payload.length, memory, GuestPhysAddr(start)));

  const std::uint32_t max = addr_map::kCommandLineMax - 1;
  const std::uint32_t own_max = header.cmdline_size;
  return LoadedKernel{.format = KernelFormat::kBzImage,
                      .entry = GuestPhysAddr(start + kEntry64Offset),
                      .start = GuestPhysAddr(start),
                      .end = GuestPhysAddr(start + needed),
                      .initrd_end_max = std::min<std::uint64_t>(
                          std::uint64_t{header.initrd_addr_max} + 1, addr_map::kLowRamEnd),
                      .command_line_max = own_max == 0 ? max : std::min(own_max, max),
                      .header = header};
}

}  // namespace sm
