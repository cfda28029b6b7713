#include "vmm/cpu/soft/mmu/device_access.h"

#include <cstring>
#include <span>

#include "vmm/cpu/soft/apic/platform.h"
#include "vmm/cpu/soft/unordered_access.h"

namespace sm::soft {

namespace {

bool answered_by_platform(Cpu& cpu, std::uint64_t physical, bool is_write,
                          std::span<std::byte> data) {
  const OrderedAccess ordered;
  return cpu.platform != nullptr && cpu.platform->mmio(physical, is_write, data);
}

}  // namespace

bool device_access(Cpu& cpu, std::uint64_t physical, std::byte* data, std::uint32_t size,
                   bool is_write) {
  if (answered_by_platform(cpu, physical, is_write, {data, size})) return true;
  IoAccess access{
      .is_write = is_write, .size = static_cast<std::uint8_t>(size), .address = physical};
  if (is_write) std::memcpy(access.data.data(), data, size);
  if (!cpu.io.access(access)) return false;
  if (!is_write) std::memcpy(data, access.data.data(), size);
  return true;
}

}  // namespace sm::soft
