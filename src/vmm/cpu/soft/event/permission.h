// Who may do what: control register bits by name, privilege checks that instructions share, and
// port I/O.
// Thread: the vCPU's own. Spec: SDM vol. 3, 2.5 and 5.9; vol. 1, 19.5 (ports).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

namespace cr0 {
inline constexpr std::uint64_t kPe = 1u << 0, kMp = 1u << 1, kEm = 1u << 2, kTs = 1u << 3,
                               kEt = 1u << 4, kNe = 1u << 5, kWp = 1u << 16, kAm = 1u << 18,
                               kNw = 1u << 29, kCd = 1u << 30, kPg = 1u << 31;
}
namespace cr4 {
inline constexpr std::uint64_t kTsd = 1u << 2, kDe = 1u << 3, kPse = 1u << 4, kPae = 1u << 5,
                               kMce = 1u << 6, kPge = 1u << 7, kPce = 1u << 8, kOsfxsr = 1u << 9,
                               kOsxmmexcpt = 1u << 10, kUmip = 1u << 11, kFsgsbase = 1u << 16,
                               kPcide = 1u << 17, kSmep = 1u << 20, kSmap = 1u << 21;
}
namespace efer {
inline constexpr std::uint64_t kSce = 1u << 0, kLme = 1u << 8, kLma = 1u << 10, kNxe = 1u << 11;
}

inline bool protected_mode(const Cpu& cpu) { return (cpu.cr0 & cr0::kPe) != 0; }
inline std::uint8_t io_privilege(const Cpu& cpu) { return (cpu.other_flags >> 12) & 3; }

// raise() for functions that say true or false.
inline bool refuse(Cpu& cpu, std::uint8_t vector) {
  raise(cpu, vector);
  return false;
}
inline bool refuse(Cpu& cpu, std::uint8_t vector, std::uint32_t error_code) {
  raise(cpu, vector, error_code);
  return false;
}

// CPL must be 0, else #GP(0). Real mode has CPL 0.
inline bool check_privileged(Cpu& cpu) {
  return cpu.cpl == 0 || refuse(cpu, vector::kProtection, 0);
}
// CLI, STI: CPL must not be above IOPL, else #GP(0).
inline bool check_interrupt_control(Cpu& cpu) {
  return cpu.cpl <= io_privilege(cpu) || refuse(cpu, vector::kProtection, 0);
}
// SGDT, SIDT, SLDT, SMSW, STR: #GP(0) for programs when CR4.UMIP is set.
inline bool check_umip(Cpu& cpu) {
  return cpu.cpl == 0 || (cpu.cr4 & cr4::kUmip) == 0 || refuse(cpu, vector::kProtection, 0);
}

// Port I/O of `size` bytes (1, 2, 4): CPL <= IOPL or the TSS's bitmap must allow it. False:
// Cpu::fault is #GP(0) or the page fault of the TSS.
bool check_io_permission(Cpu& cpu, std::uint16_t port, std::uint32_t size);

}  // namespace sm::soft
