#include "vmm/cpu/soft/exec/msr.h"

#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/exec/control_registers.h"

namespace sm::soft {

namespace {

// Spec: SDM vol. 3, table 11-10. UC, WC, WT, WP, WB, UC-.
bool is_valid_pat(std::uint64_t value) {
  constexpr std::uint32_t kTypes = 0b1111'0011;
  for (unsigned shift = 0; shift < 64; shift += 8) {
    const auto type = static_cast<std::uint8_t>(value >> shift);
    if (type > 7 || ((kTypes >> type) & 1) == 0) return false;
  }
  return true;
}
bool is_32bit(std::uint64_t value) { return value >> 32 == 0; }
bool is_anything(std::uint64_t /*value*/) { return true; }

// Registers that are values of Cpu, and the values they take.
struct PlainRegister {
  std::uint32_t index;
  std::uint64_t Cpu::*value;
  bool (*accepts)(std::uint64_t);
};
constexpr PlainRegister kPlain[] = {
    {msr::kSysenterCs, &Cpu::sysenter_cs, is_32bit},
    {msr::kSysenterEsp, &Cpu::sysenter_esp, is_canonical_address},
    {msr::kSysenterEip, &Cpu::sysenter_eip, is_canonical_address},
    {msr::kMiscEnable, &Cpu::misc_enable, is_anything},
    {msr::kPat, &Cpu::pat, is_valid_pat},
    {msr::kStar, &Cpu::star, is_anything},
    {msr::kLstar, &Cpu::lstar, is_canonical_address},
    {msr::kCstar, &Cpu::cstar, is_canonical_address},
    {msr::kSyscallMask, &Cpu::syscall_mask, is_32bit},
    {msr::kKernelGsBase, &Cpu::kernel_gs_base, is_canonical_address},
    {msr::kTscAux, &Cpu::tsc_aux, is_32bit},
};

// RDCL_NO SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO GDS_NO
// RFDS_NO ITS_NO: faults of real processors' checks of privilege, buffers and predictors.
constexpr std::uint64_t kNotAffected = 1ull << 0 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 |
                                       1ull << 13 | 1ull << 14 | 1ull << 15 | 1ull << 20 |
                                       1ull << 24 | 1ull << 26 | 1ull << 27 | 1ull << 62;

// Registers whose value is constant. Kernels look at most of them without asking CPUID.
struct ConstantRegister {
  std::uint32_t index;
  std::uint64_t value;
  bool writable;
};
constexpr ConstantRegister kConstant[] = {
    {msr::kArchCapabilities, kNotAffected, false},
    {0x17, 0, false},   // IA32_PLATFORM_ID
    {0x2A, 0, true},    // EBL_CR_POWERON
    {0x34, 0, false},   // SMI_COUNT
    {0x3A, 1, false},   // IA32_FEATURE_CONTROL: locked, nothing on
    {0x8B, 0, true},    // IA32_BIOS_SIGN_ID: no microcode update
    {0xCE, 0, false},   // PLATFORM_INFO
    {0xFE, 0, false},   // IA32_MTRRCAP: no ranges
    {0x140, 0, true},   // MISC_FEATURES_ENABLES
    {0x1D9, 0, true},   // IA32_DEBUGCTL: no branch tracing
    {0x1DB, 0, false},  // last branch and exception records
    {0x1DC, 0, false},
    {0x1DD, 0, false},
    {0x1DE, 0, false},
    {0x2FF, 0, true},       // IA32_MTRR_DEF_TYPE
    {0xC0010010, 0, true},  // SYSCFG
    {0xC0010015, 0, true},  // HWCR
    {0xC001001F, 0, true},  // NB_CFG
    {0xC0010055, 0, true},  // interrupt pending message
    {0xC0010112, 0, true},  // SMM_ADDR
    {0xC0010140, 0, true},  // OSVW_ID_LENGTH: no errata are listed
    {0xC0010141, 0, true},  // OSVW_STATUS
    {0xC0011020, 0, true},  // LS_CFG
    {0xC0011022, 0, true},  // DC_CFG
    {0xC0011029, 2, true},  // DE_CFG: LFENCE serialises
    {0xC001102A, 0, true},  // BU_CFG2
};

template <class Table>
auto find(const Table& table, std::uint32_t index) -> decltype(&table[0]) {
  for (const auto& entry : table) {
    if (entry.index == index) return &entry;
  }
  return nullptr;
}

std::uint64_t* segment_base(Cpu& cpu, std::uint32_t index) {
  switch (index) {
    case msr::kFsBase:
      return &cpu.segment[static_cast<std::size_t>(Segment::kFs)].base;
    case msr::kGsBase:
      return &cpu.segment[static_cast<std::size_t>(Segment::kGs)].base;
    default:
      return nullptr;
  }
}

bool protection_fault(Cpu& cpu) { return refuse(cpu, vector::kProtection, 0); }

}  // namespace

bool read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  if (index == msr::kEfer) {
    value = cpu.efer;
  } else if (const std::uint64_t* base = segment_base(cpu, index)) {
    value = *base;
  } else if (const PlainRegister* plain = find(kPlain, index)) {
    value = cpu.*plain->value;
  } else if (const ConstantRegister* constant = find(kConstant, index)) {
    value = constant->value;
  } else {
    return platform_read_msr(cpu, index, value) || protection_fault(cpu);
  }
  return true;
}

bool write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  if (index == msr::kEfer) return write_efer(cpu, value);
  if (std::uint64_t* base = segment_base(cpu, index)) {
    if (!is_canonical_address(value)) return protection_fault(cpu);
    *base = value;
    return true;
  }
  if (const PlainRegister* plain = find(kPlain, index)) {
    if (!plain->accepts(value)) return protection_fault(cpu);
    cpu.*plain->value = value;
    return true;
  }
  if (const ConstantRegister* constant = find(kConstant, index)) {
    return constant->writable || protection_fault(cpu);
  }
  return platform_write_msr(cpu, index, value) || protection_fault(cpu);
}

}  // namespace sm::soft
