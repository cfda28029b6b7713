#include "vmm/cpu/cpuid_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <utility>

namespace sm {

namespace {

using Register = std::uint32_t CpuidLeaf::*;
constexpr Register kEax = &CpuidLeaf::eax;
constexpr Register kEbx = &CpuidLeaf::ebx;
constexpr Register kEcx = &CpuidLeaf::ecx;
constexpr Register kEdx = &CpuidLeaf::edx;

template <class... Bit>
constexpr std::uint32_t bits(Bit... bit) {
  return (0u | ... | (1u << bit));
}

// ---- Model data -------------------------------------------------------------------------------

// `host` hides these bits: performance counters, nested virtualization, power management and
// thermal state, enclaves and tracing (host-specific or state that no snapshot can carry), TSX (off
// on most hosts by microcode), AMX and CET (state outside the XSAVE area that is saved), the
// invariant TSC (kvm-clock then stays the clock, which a restored guest needs).
struct HiddenBits {
  std::uint32_t function, index;
  Register reg;
  std::uint32_t mask;
};
constexpr std::array kHostHides = {
    // DTES64 MONITOR DS_CPL VMX SMX EST TM2 SDBG xTPR PDCM DCA; OSXSAVE follows CR4 by itself
    HiddenBits{0x1, 0, kEcx, bits(2, 3, 4, 5, 6, 7, 8, 11, 14, 15, 18, 27)},
    // DS ACPI HTT TM PBE; HTT comes back with the topology
    HiddenBits{0x1, 0, kEdx, bits(21, 22, 28, 29, 31)},
    // SGX HLE RTM PQM MPX PQE PT
    HiddenBits{0x7, 0, kEbx, bits(2, 4, 11, 12, 14, 15, 25)},
    // OSPKE (follows CR4) CET_SS ENQCMD SGX_LC
    HiddenBits{0x7, 0, kEcx, bits(4, 7, 29, 30)},
    // ARCH_LBR CET_IBT AMX_BF16 AMX_TILE AMX_INT8
    HiddenBits{0x7, 0, kEdx, bits(19, 20, 22, 24, 25)},
    // AMX_FP16 AMX_COMPLEX
    HiddenBits{0x7, 1, kEax, bits(21)},
    HiddenBits{0x7, 1, kEdx, bits(8)},
    // MPX and AMX components; no supervisor state
    HiddenBits{0xD, 0, kEax, bits(3, 4, 17, 18)},
    HiddenBits{0xD, 1, kEcx, ~0u},
    HiddenBits{0xD, 1, kEdx, ~0u},
    // SVM EXTAPIC IBS SKINIT WDT NODEID PERFCTR_CORE PERFCTR_NB PERFTSC PERFCTR_LLC MWAITX
    HiddenBits{0x80000001, 0, kEcx, bits(2, 3, 10, 12, 13, 19, 23, 24, 27, 28, 29)},
    HiddenBits{0x80000007, 0, kEdx, ~0u},
    // CPPC
    HiddenBits{0x80000008, 0, kEbx, bits(27)},
    // Hypercall-driven page encryption, extended MSI destinations. And ASYNC_PF ASYNC_PF_VMEXIT
    // ASYNC_PF_INT: a task that waits for a page of the saved machine's host can wait for ever in
    // its copies, whose hosts know nothing of that page.
    HiddenBits{0x40000001, 0, kEax, bits(4, 10, 14, 15, 16, 17)},
};

// Whole leaves that `host` drops: PMU, resource control, SGX, PT, clocks and power of the host,
// AMX, LBR, SVM, IBS, SEV, AMD performance monitoring. Topology leaves are made by us.
constexpr std::array<std::uint32_t, 18> kHostDrops = {
    0x5,  0xA,  0xB,  0xF,  0x10, 0x12,       0x14,       0x16,       0x1C,
    0x1D, 0x1E, 0x1F, 0x24, 0x23, 0x8000000A, 0x8000001B, 0x8000001F, 0x80000022};

// `x86-64-v2` shows the bits of `fixed` and is refused where one is missing, so that a guest can go
// on on every host that offers the model. `x86-64-v2-plus` also shows those of `plus` that the host
// has. `repeated`: no features of their own. Neither has anything that only the host knows the
// state of.
struct ShownBits {
  std::uint32_t function, index;
  Register reg;
  std::uint32_t fixed, plus, repeated;
};
constexpr std::array kV2Shows = {
    // SSE3 PCLMUL SSSE3 CX16 SSE4.1 SSE4.2 X2APIC MOVBE POPCNT TSC_DEADLINE AES RDRAND HYPERVISOR
    // plus PCID
    ShownBits{0x1, 0, kEcx, bits(0, 1, 9, 13, 19, 20, 21, 22, 23, 24, 25, 30, 31), bits(17), 0},
    // FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2
    ShownBits{0x1, 0, kEdx,
              bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26), 0, 0},
    // ARAT
    ShownBits{0x6, 0, kEax, bits(2), 0, 0},
    // FSGSBASE SMEP ERMS ADX SMAP, plus INVPCID RDSEED CLFLUSHOPT SHA
    ShownBits{0x7, 0, kEbx, bits(0, 7, 9, 19, 20), bits(10, 18, 23, 29), 0},
    // UMIP
    ShownBits{0x7, 0, kEcx, 0, bits(2), 0},
    // FSRM
    ShownBits{0x7, 0, kEdx, 0, bits(4), 0},
    // LAHF64, plus LZCNT PREFETCHW
    ShownBits{0x80000001, 0, kEcx, bits(0), bits(5, 8), 0},
    // SYSCALL NX RDTSCP LM, plus 1GB pages; the low half repeats leaf 1 on AMD
    ShownBits{0x80000001, 0, kEdx, bits(11, 20, 27, 29), bits(26), 0x0183'F3FFu},
    // CLOCKSOURCE NOP_IO_DELAY CLOCKSOURCE2 STEAL_TIME PV_EOI PV_TLB_FLUSH CLOCKSOURCE_STABLE, plus
    // PV_UNHALT PV_SEND_IPI PV_SCHED_YIELD. Those need hypercalls, whose instruction is another one
    // on
    // Intel's than on AMD's processors, and a kernel that has chosen one does not change it.
    ShownBits{0x40000001, 0, kEax, bits(0, 1, 3, 5, 6, 9, 24), bits(7, 11, 13), 0},
};

// Leaves that say which processor this is: vendor, family and caches are the host's in every model,
// since a guest chooses its workarounds by them.
constexpr std::array<std::uint32_t, 6> kV2Identity = {0x0,        0x2,        0x4,
                                                      0x80000000, 0x80000005, 0x80000006};
constexpr std::uint32_t kV2MaxBasic = 0xB;
constexpr std::uint32_t kV2MaxExtended = 0x80000008;
constexpr std::uint32_t kV2PhysicalBits = 40;
constexpr std::uint32_t kV2VirtualBits = 48;
constexpr std::string_view kV2Brand = "supermachine x86-64-v2";  // also of plus

constexpr std::uint32_t kHostMaxBasic = 0x1F;
constexpr std::uint32_t kHostMaxHypervisor = 0x40000001;

// ---- Leaf lists -------------------------------------------------------------------------------

using Leaves = std::vector<CpuidLeaf>;

CpuidLeaf* find(Leaves& leaves, std::uint32_t function, std::uint32_t index = 0) {
  const auto it = std::find_if(leaves.begin(), leaves.end(), [&](const CpuidLeaf& leaf) {
    return leaf.function == function && leaf.index == index;
  });
  return it == leaves.end() ? nullptr : &*it;
}

const CpuidLeaf* find(std::span<const CpuidLeaf> leaves, std::uint32_t function,
                      std::uint32_t index = 0) {
  const auto it = std::find_if(leaves.begin(), leaves.end(), [&](const CpuidLeaf& leaf) {
    return leaf.function == function && leaf.index == index;
  });
  return it == leaves.end() ? nullptr : &*it;
}

CpuidLeaf& find_or_add(Leaves& leaves, std::uint32_t function) {
  if (CpuidLeaf* leaf = find(leaves, function)) return *leaf;
  return leaves.emplace_back(CpuidLeaf{.function = function});
}

bool is_amd(const Leaves& leaves) {
  const CpuidLeaf* vendor = find(std::span<const CpuidLeaf>(leaves), 0);
  // "Auth"enticAMD and "Hygo"nGenuine
  return vendor != nullptr && (vendor->ebx == 0x6874'7541 || vendor->ebx == 0x6F67'7948);
}

// Bits of an APIC id that number the cores of a socket.
std::uint32_t core_bits(std::uint32_t count) {
  return static_cast<std::uint32_t>(std::bit_width(count - 1));
}

// ---- Topology ---------------------------------------------------------------------------------

// Spec: SDM vol. 2, CPUID leaf 4; AMD APM vol. 3, Fn8000_001D. Caches up to L2 belong to one core,
// L3 to the socket; `largest_id` is the highest core number the APIC id could hold.
void place_caches(Leaves& leaves, std::uint32_t largest_id) {
  constexpr std::uint32_t kTypeMask = 0x1F, kLevelShift = 5, kLevelMask = 7;
  constexpr std::uint32_t kSharingShift = 14, kSharingMask = 0xFFFu << kSharingShift;
  constexpr std::uint32_t kCoresShift = 26, kCoresMask = 0x3Fu << kCoresShift;
  for (CpuidLeaf& leaf : leaves) {
    if (leaf.function != 0x4 && leaf.function != 0x8000001D) continue;
    if ((leaf.eax & kTypeMask) == 0) continue;
    const bool shared = ((leaf.eax >> kLevelShift) & kLevelMask) >= 3;
    leaf.eax = (leaf.eax & ~kSharingMask) | (shared ? largest_id : 0) << kSharingShift;
    if (leaf.function == 0x4) leaf.eax = (leaf.eax & ~kCoresMask) | largest_id << kCoresShift;
  }
}

// Spec: SDM vol. 2, CPUID leaves 0BH and 1FH.
void add_extended_topology(Leaves& leaves, std::uint32_t function, CpuPlace place) {
  constexpr std::uint32_t kTypeThread = 1u << 8, kTypeCore = 2u << 8;
  leaves.push_back({.function = function,
                    .index = 0,
                    .indexed = true,
                    .eax = 0,
                    .ebx = 1,
                    .ecx = kTypeThread,
                    .edx = place.index});
  leaves.push_back({.function = function,
                    .index = 1,
                    .indexed = true,
                    .eax = core_bits(place.count),
                    .ebx = place.count,
                    .ecx = kTypeCore | 1,
                    .edx = place.index});
}

// Spec: AMD APM vol. 3, Fn8000_0001, Fn8000_0008 and Fn8000_001E.
void place_amd(Leaves& leaves, CpuPlace place) {
  constexpr std::uint32_t kCmpLegacy = 1u << 1, kTopologyExtensions = 1u << 22;
  CpuidLeaf* features = find(leaves, 0x80000001);
  if (features == nullptr) return;
  features->ecx = place.count > 1 ? features->ecx | kCmpLegacy : features->ecx & ~kCmpLegacy;
  const bool extensions = (features->ecx & kTopologyExtensions) != 0;
  if (CpuidLeaf* sizes = find(leaves, 0x80000008)) {
    sizes->ecx = core_bits(place.count) << 12 | (place.count - 1);
  }
  if (extensions) {
    CpuidLeaf& ids = find_or_add(leaves, 0x8000001E);
    ids.eax = place.index;  // APIC id
    ids.ebx = place.index;  // core id; one thread per core
    ids.ecx = 0;            // node 0 of one
    ids.edx = 0;
  }
}

void place_vcpu(Leaves& leaves, CpuPlace place) {
  constexpr std::uint32_t kHtt = 1u << 28;
  const std::uint32_t largest_id = (1u << core_bits(place.count)) - 1;
  if (CpuidLeaf* leaf = find(leaves, 0x1)) {
    const std::uint32_t ids = largest_id + 1;
    leaf->ebx = (leaf->ebx & 0xFFFF) | ids << 16 | place.index << 24;
    leaf->edx = place.count > 1 ? leaf->edx | kHtt : leaf->edx & ~kHtt;
  }
  place_caches(leaves, largest_id);
  const CpuidLeaf* first = find(leaves, 0x0);
  const std::uint32_t max_basic = first == nullptr ? 0 : first->eax;
  if (max_basic >= 0xB) add_extended_topology(leaves, 0xB, place);
  if (max_basic >= 0x1F) add_extended_topology(leaves, 0x1F, place);
  if (is_amd(leaves)) place_amd(leaves, place);
}

// ---- The models -------------------------------------------------------------------------------

// Spec: SDM vol. 1, 13.2. The size of the XSAVE area shrinks with the components that were hidden.
void fix_xsave_size(Leaves& leaves) {
  constexpr std::uint32_t kLegacyAndHeader = 576;
  CpuidLeaf* area = find(leaves, 0xD, 0);
  if (area == nullptr) return;
  std::erase_if(leaves, [shown = area->eax](const CpuidLeaf& leaf) {
    return leaf.function == 0xD && leaf.index >= 2 &&
           (leaf.index > 31 || (shown >> leaf.index & 1) == 0);
  });
  area = find(leaves, 0xD, 0);
  std::uint32_t end = kLegacyAndHeader;
  for (const CpuidLeaf& leaf : leaves) {
    if (leaf.function == 0xD && leaf.index >= 2) end = std::max(end, leaf.ebx + leaf.eax);
  }
  area->ecx = end;
  area->ebx = std::min(area->ebx, end);
}

Leaves host_leaves(std::span<const CpuidLeaf> supported) {
  Leaves leaves;
  for (const CpuidLeaf& leaf : supported) {
    if (std::find(kHostDrops.begin(), kHostDrops.end(), leaf.function) != kHostDrops.end())
      continue;
    if (leaf.function > kHostMaxHypervisor && leaf.function < 0x80000000) continue;
    leaves.push_back(leaf);
  }
  for (const HiddenBits& hidden : kHostHides) {
    if (CpuidLeaf* leaf = find(leaves, hidden.function, hidden.index)) {
      leaf->*hidden.reg &= ~hidden.mask;
    }
  }
  if (CpuidLeaf* first = find(leaves, 0x0)) first->eax = std::min(first->eax, kHostMaxBasic);
  if (CpuidLeaf* first = find(leaves, 0x40000000)) first->eax = kHostMaxHypervisor;
  fix_xsave_size(leaves);
  return leaves;
}

void add_brand(Leaves& leaves) {
  std::array<std::uint32_t, 12> words{};
  for (std::size_t i = 0; i < kV2Brand.size(); ++i) {
    words[i / 4] |= static_cast<std::uint32_t>(static_cast<unsigned char>(kV2Brand[i]))
                    << i % 4 * 8;
  }
  for (std::uint32_t i = 0; i < 3; ++i) {
    leaves.push_back({.function = 0x80000002 + i,
                      .eax = words[i * 4],
                      .ebx = words[i * 4 + 1],
                      .ecx = words[i * 4 + 2],
                      .edx = words[i * 4 + 3]});
  }
}

Result<Leaves> v2_leaves(std::span<const CpuidLeaf> supported, bool plus) {
  Leaves leaves;
  for (const CpuidLeaf& leaf : supported) {
    const bool identity =
        std::find(kV2Identity.begin(), kV2Identity.end(), leaf.function) != kV2Identity.end();
    if (identity || leaf.function == 0x40000000) leaves.push_back(leaf);
  }
  for (const ShownBits& shown : kV2Shows) {
    const CpuidLeaf* offered = find(supported, shown.function, shown.index);
    const std::uint32_t value = offered == nullptr ? 0 : offered->*shown.reg;
    if (const std::uint32_t missing = shown.fixed & ~value; missing != 0) {
      return fail(Code::kUnsupported,
                  fmt::format("the host's processor lacks a part of the CPU model x86-64-v2 (CPUID "
                              "leaf {:#x}, bits {:#x})",
                              shown.function, missing),
                  "choose the CPU model host");
    }
    CpuidLeaf& leaf = find_or_add(leaves, shown.function);
    if (shown.function == 0x7) leaf.indexed = true;
    leaf.*shown.reg = value & (shown.fixed | shown.repeated | (plus ? shown.plus : 0));
  }
  if (const CpuidLeaf* version = find(supported, 0x1)) {
    CpuidLeaf& leaf = find_or_add(leaves, 0x1);
    leaf.eax = version->eax;            // family, model, stepping
    leaf.ebx = version->ebx & 0xFF00u;  // CLFLUSH line size
  }
  if (CpuidLeaf* first = find(leaves, 0x0)) first->eax = kV2MaxBasic;
  if (CpuidLeaf* first = find(leaves, 0x80000000)) first->eax = kV2MaxExtended;
  if (CpuidLeaf* first = find(leaves, 0x40000000)) first->eax = kHostMaxHypervisor;
  const std::uint32_t host_bits = physical_address_bits(supported);
  leaves.push_back(
      {.function = 0x80000008, .eax = kV2VirtualBits << 8 | std::min(host_bits, kV2PhysicalBits)});
  add_brand(leaves);
  return leaves;
}

bool is_empty(const CpuidLeaf& leaf) { return (leaf.eax | leaf.ebx | leaf.ecx | leaf.edx) == 0; }

}  // namespace

constexpr std::array kModels = {
    std::pair{CpuModel::kHost, std::string_view("host")},
    std::pair{CpuModel::kX86_64V2, std::string_view("x86-64-v2")},
    std::pair{CpuModel::kX86_64V2Plus, std::string_view("x86-64-v2-plus")},
};

Result<CpuModel> parse_cpu_model(std::string_view name) {
  for (const auto& [model, text] : kModels) {
    if (name == text) return model;
  }
  return fail(Code::kInvalidArgument, fmt::format("unknown CPU model \"{}\"", name),
              "choose host, x86-64-v2 or x86-64-v2-plus");
}

std::string_view cpu_model_name(CpuModel model) {
  for (const auto& [known, text] : kModels) {
    if (known == model) return text;
  }
  return "unknown";
}

Result<std::vector<CpuidLeaf>> build_cpuid(CpuModel model, std::span<const CpuidLeaf> supported,
                                           CpuPlace place) {
  Leaves leaves = model == CpuModel::kHost
                      ? host_leaves(supported)
                      : SM_TRY(v2_leaves(supported, model == CpuModel::kX86_64V2Plus));
  place_vcpu(leaves, place);
  std::erase_if(leaves, is_empty);
  std::sort(leaves.begin(), leaves.end(), [](const CpuidLeaf& a, const CpuidLeaf& b) {
    return a.function != b.function ? a.function < b.function : a.index < b.index;
  });
  return leaves;
}

std::uint32_t physical_address_bits(std::span<const CpuidLeaf> leaves) {
  constexpr std::uint32_t kWithoutLeaf = 36;
  const CpuidLeaf* sizes = find(leaves, 0x80000008);
  return sizes == nullptr || (sizes->eax & 0xFF) == 0 ? kWithoutLeaf : sizes->eax & 0xFF;
}

std::string cpu_features(std::span<const CpuidLeaf> leaves) {
  const CpuidLeaf* vendor = find(leaves, 0);
  std::string text = fmt::format("vendor-{:x}", vendor == nullptr ? 0 : vendor->ebx);
  for (const ShownBits& shown : kV2Shows) {
    const CpuidLeaf* leaf = find(leaves, shown.function, shown.index);
    text += fmt::format("-{:x}", leaf == nullptr ? 0 : leaf->*shown.reg & shown.plus);
  }
  return text;
}

EngineCpu describe_cpu(CpuModel model, std::span<const CpuidLeaf> supported) {
  EngineCpu cpu{.model = std::string(cpu_model_name(model)), .signature = {}};
  if (const auto leaves = build_cpuid(model, supported, CpuPlace{})) {
    if (model == CpuModel::kHost) cpu.signature = cpu_signature(*leaves);
    if (model == CpuModel::kX86_64V2Plus) cpu.signature = cpu_features(*leaves);
  }
  return cpu;
}

// FNV-1a over the leaves' numbers. Not a matter of trust: it only names what is the same.
std::string cpu_signature(std::span<const CpuidLeaf> leaves) {
  constexpr std::uint64_t kStart = 0xCBF2'9CE4'8422'2325, kPrime = 0x100'0000'01B3;
  std::uint64_t hash = kStart;
  for (const CpuidLeaf& leaf : leaves) {
    for (const std::uint32_t word :
         {leaf.function, leaf.index, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx}) {
      for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ (word >> shift & 0xFF)) * kPrime;
    }
  }
  return fmt::format("cpuid-{:016x}", hash);
}

}  // namespace sm
