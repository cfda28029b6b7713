#include "vmm/cpu/soft/exec/control_registers.h"

#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/mmu/page_walk.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kCr0Writable = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs | cr0::kNe |
                                       cr0::kWp | cr0::kAm | cr0::kNw | cr0::kCd | cr0::kPg;
constexpr std::uint64_t kCr0Paging = cr0::kPe | cr0::kWp | cr0::kPg;
// The features of this CPU: no VME, LA57, VMX, SMX, XSAVE, protection keys, CET.
constexpr std::uint64_t kCr4Writable = cr4::kTsd | cr4::kDe | cr4::kPse | cr4::kPae | cr4::kMce |
                                       cr4::kPge | cr4::kPce | cr4::kOsfxsr | cr4::kOsxmmexcpt |
                                       cr4::kUmip | cr4::kFsgsbase | cr4::kPcide | cr4::kSmep |
                                       cr4::kSmap;
constexpr std::uint64_t kCr4Paging =
    cr4::kPse | cr4::kPae | cr4::kPge | cr4::kPcide | cr4::kSmep | cr4::kSmap;
constexpr std::uint64_t kEferWritable = efer::kSce | efer::kLme | efer::kNxe;

constexpr std::uint64_t kCr3NoFlush = 1ull << 63;
constexpr std::uint64_t kCr3Pcid = 0xFFF;

bool protection_fault(Cpu& cpu) { return refuse(cpu, vector::kProtection, 0); }

// What long mode asks for when paging is turned on with EFER.LME.
bool may_enter_long_mode(const Cpu& cpu) {
  const SystemType task = attributes_of(cpu.task).system_type();
  const bool task_is_16bit =
      cpu.task.usable && (task == SystemType::kTss16 || task == SystemType::kBusyTss16);
  const SegmentRegister& cs = cpu.segment[static_cast<std::size_t>(Segment::kCs)];
  return (cpu.cr4 & cr4::kPae) != 0 && !attributes_of(cs).is_long() && !task_is_16bit;
}

// Writes that turn PAE paging on, or change it, load its page-directory pointers.
bool may_load_pointers(Cpu& cpu, std::uint64_t new_cr0, std::uint64_t new_cr4) {
  constexpr std::uint64_t kCr0 = cr0::kCd | cr0::kNw | cr0::kPg;
  constexpr std::uint64_t kCr4 = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  const bool changes = ((cpu.cr0 ^ new_cr0) & kCr0) != 0 || ((cpu.cr4 ^ new_cr4) & kCr4) != 0;
  const bool is_pae =
      (new_cr0 & cr0::kPg) != 0 && (new_cr4 & cr4::kPae) != 0 && (cpu.efer & efer::kLme) == 0;
  return !changes || !is_pae || pae_pointers_valid(cpu, cpu.cr3);
}

}  // namespace

bool write_cr0(Cpu& cpu, std::uint64_t value) {
  if (value >> 32 != 0) return protection_fault(cpu);
  value = (value & kCr0Writable) | cr0::kEt;
  const bool pages = (value & cr0::kPg) != 0, paged = (cpu.cr0 & cr0::kPg) != 0;
  const bool long_enabled = (cpu.efer & efer::kLme) != 0;
  if ((pages && (value & cr0::kPe) == 0) || ((value & cr0::kNw) != 0 && (value & cr0::kCd) == 0) ||
      (pages && !paged && long_enabled && !may_enter_long_mode(cpu)) ||
      (!pages && paged && (cpu.mode == CodeMode::k64 || (cpu.cr4 & cr4::kPcide) != 0))) {
    return protection_fault(cpu);
  }
  if (!may_load_pointers(cpu, value, cpu.cr4)) return protection_fault(cpu);
  const std::uint64_t changed = cpu.cr0 ^ value;
  cpu.cr0 = value;
  cpu.efer &= ~efer::kLma;
  if (pages && long_enabled) cpu.efer |= efer::kLma;
  cpu.mode = code_mode_of(cpu);
  if ((changed & kCr0Paging) != 0) paging_changed(cpu);
  return true;
}

bool write_cr3(Cpu& cpu, std::uint64_t value) {
  const bool no_flush = (cpu.cr4 & cr4::kPcide) != 0 && (value & kCr3NoFlush) != 0;
  if (no_flush) value &= ~kCr3NoFlush;
  if (value >> kPhysicalBits != 0) return protection_fault(cpu);
  const bool is_pae = (cpu.cr0 & cr0::kPg) != 0 && (cpu.cr4 & cr4::kPae) != 0 && !cpu.long_mode();
  if (is_pae && !pae_pointers_valid(cpu, value)) return protection_fault(cpu);
  cpu.cr3 = value;
  cr3_written(cpu, no_flush);
  return true;
}

bool write_cr4(Cpu& cpu, std::uint64_t value) {
  const std::uint64_t changed = cpu.cr4 ^ value;
  const std::uint64_t set = changed & value, cleared = changed & cpu.cr4;
  if ((value & ~kCr4Writable) != 0 || (cpu.long_mode() && (cleared & cr4::kPae) != 0) ||
      ((set & cr4::kPcide) != 0 && (!cpu.long_mode() || (cpu.cr3 & kCr3Pcid) != 0))) {
    return protection_fault(cpu);
  }
  if (!may_load_pointers(cpu, cpu.cr0, value)) return protection_fault(cpu);
  cpu.cr4 = value;
  if ((changed & kCr4Paging) != 0) paging_changed(cpu);
  return true;
}

bool write_cr8(Cpu& cpu, std::uint64_t value) {
  if (value > 15) return protection_fault(cpu);
  platform_set_cr8(cpu, value);
  return true;
}

bool write_efer(Cpu& cpu, std::uint64_t value) {
  const std::uint64_t old = cpu.efer;
  // LMA follows from the others; what is written there does not count.
  value = (value & ~efer::kLma) | (old & efer::kLma);
  const bool paged = (cpu.cr0 & cr0::kPg) != 0;
  if ((value & ~(kEferWritable | efer::kLma)) != 0 ||
      (paged && ((old ^ value) & efer::kLme) != 0)) {
    return protection_fault(cpu);
  }
  cpu.efer = value;
  if (((old ^ value) & efer::kNxe) != 0) paging_changed(cpu);
  return true;
}

}  // namespace sm::soft
