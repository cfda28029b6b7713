#include "vmm/cpu/soft/event/permission.h"

#include "vmm/cpu/soft/event/segments.h"

namespace sm::soft {

bool check_io_permission(Cpu& cpu, std::uint16_t port, std::uint32_t size) {
  if (!protected_mode(cpu) || cpu.cpl <= io_privilege(cpu)) return true;
  constexpr std::uint32_t kSmallestTss = 103, kBitmapField = 102;
  const SystemType type = attributes_of(cpu.task).system_type();
  if (!cpu.task.usable || (type != SystemType::kTss && type != SystemType::kBusyTss) ||
      cpu.task.limit < kSmallestTss) {
    return refuse(cpu, vector::kProtection, 0);
  }
  std::uint16_t bitmap = 0;
  if (!load_table(cpu, cpu.task.base + kBitmapField, &bitmap, sizeof bitmap)) return false;
  // Two bytes are always read, so that ports of two bytes of the bitmap are covered; the map ends
  // with a byte of ones for that reason.
  const std::uint32_t place = bitmap + port / 8u;
  if (place + 1 > cpu.task.limit) return refuse(cpu, vector::kProtection, 0);
  std::uint16_t bits = 0;
  if (!load_table(cpu, cpu.task.base + place, &bits, sizeof bits)) return false;
  const std::uint32_t wanted = ((1u << size) - 1) << (port & 7);
  return (bits & wanted) == 0 || refuse(cpu, vector::kProtection, 0);
}

}  // namespace sm::soft
