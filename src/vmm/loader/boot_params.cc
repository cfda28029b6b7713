#include "vmm/loader/boot_params.h"

#include <algorithm>

#include "base/check.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint32_t kE820Ram = 1;
constexpr std::uint32_t kE820Reserved = 2;
constexpr std::uint64_t kBaseMemoryEnd = 0xA'0000;
constexpr std::uint8_t kLoaderUndefined = 0xFF;
constexpr std::uint16_t kVideoModeNormal = 0xFFFF;

constexpr std::uint32_t low_half(std::uint64_t v) { return static_cast<std::uint32_t>(v); }
constexpr std::uint32_t high_half(std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); }

}  // namespace

std::vector<boot_e820_entry> e820_map(const GuestMemory& memory) {
  std::vector<boot_e820_entry> map;
  const auto add = [&map](std::uint64_t start, std::uint64_t end, std::uint32_t type) {
    if (end > start) map.push_back({.addr = start, .size = end - start, .type = type});
  };
  add(0, addr_map::kLowRamUsableEnd, kE820Ram);
  add(addr_map::kLowRamUsableEnd, kBaseMemoryEnd, kE820Reserved);
  for (const MemoryRegion& region : memory.regions()) {
    const std::uint64_t start = std::max(region.start.raw(), addr_map::kHighMemoryStart);
    add(start, region.start.raw() + region.size, kE820Ram);
  }
  return map;
}

Status write_boot_params(GuestMemory& memory, const LoadedKernel& kernel,
                         const CommandLinePlacement& command_line,
                         const std::optional<InitrdPlacement>& initrd) {
  boot_params params{};
  params.hdr = kernel.header;
  params.hdr.type_of_loader = kLoaderUndefined;
  params.hdr.vid_mode = kVideoModeNormal;
  params.hdr.setup_data = 0;
  params.hdr.code32_start = low_half(kernel.start.raw());

  params.hdr.cmd_line_ptr = low_half(command_line.start.raw());
  params.ext_cmd_line_ptr = high_half(command_line.start.raw());
  params.hdr.ramdisk_image = 0;
  params.hdr.ramdisk_size = 0;
  if (initrd) {
    params.hdr.ramdisk_image = low_half(initrd->start.raw());
    params.ext_ramdisk_image = high_half(initrd->start.raw());
    params.hdr.ramdisk_size = low_half(initrd->size);
    params.ext_ramdisk_size = high_half(initrd->size);
  }

  const auto map = e820_map(memory);
  SM_CHECK(map.size() <= E820_MAX_ENTRIES_ZEROPAGE);
  params.e820_entries = static_cast<std::uint8_t>(map.size());
  std::copy(map.begin(), map.end(), params.e820_table);
  return memory.write_object(GuestPhysAddr(addr_map::kBootParams), params);
}

}  // namespace sm
