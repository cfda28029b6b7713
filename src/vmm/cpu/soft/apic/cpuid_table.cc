#include "vmm/cpu/soft/apic/cpuid_table.h"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/cpu/soft/apic/pv.h"

namespace sm::soft {

namespace {

template <class... Bit>
constexpr std::uint32_t bits(Bit... bit) {
  return (0u | ... | (1u << bit));
}

// Four characters as a register holds them.
constexpr std::uint32_t text(std::string_view four) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4 && i < four.size(); ++i) {
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(four[i])) << i * 8;
  }
  return value;
}

constexpr std::uint32_t kMaxBasic = 0x16, kMaxHypervisor = 0x40000001, kMaxExtended = 0x80000008;

// Family 6, model 0x2C, stepping 2: the first processors that had most of these features and still
// no AVX. C libraries know of them that copies need no alignment, and use REP MOVSB only then.
constexpr std::uint32_t kSignature = 0x0002'06C2;
constexpr std::uint32_t kCacheLine = 64;

// Spec: SDM vol. 2, CPUID.
constexpr std::array kFeatures = {
    // SSE3 PCLMUL SSSE3 CX16 PCID SSE4.1 SSE4.2 X2APIC MOVBE POPCNT TSC_DEADLINE AES RDRAND
    // HYPERVISOR; FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE
    // SSE2
    CpuidLeaf{.function = 0x1,
              .eax = kSignature,
              .ebx = kCacheLine / 8 << 8,
              .ecx = bits(0, 1, 9, 13, 17, 19, 20, 21, 22, 23, 24, 25, 30, 31),
              .edx = bits(0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26)},
    // ARAT
    CpuidLeaf{.function = 0x6, .eax = bits(2)},
    // FSGSBASE SMEP ERMS INVPCID RDSEED ADX SMAP CLFLUSHOPT SHA; UMIP; FSRM
    CpuidLeaf{.function = 0x7,
              .indexed = true,
              .ebx = bits(0, 7, 9, 10, 18, 19, 20, 23, 29),
              .ecx = bits(2),
              .edx = bits(4)},
    // LAHF64 LZCNT PREFETCHW; SYSCALL NX 1GB-pages RDTSCP LM
    CpuidLeaf{.function = 0x80000001, .ecx = bits(0, 5, 8), .edx = bits(11, 20, 26, 27, 29)},
    // the L2 cache of leaf 4 in an older form: 1 MiB, 16 ways
    CpuidLeaf{.function = 0x80000006, .ecx = 1024u << 16 | 8u << 12 | kCacheLine},
    // invariant TSC
    CpuidLeaf{.function = 0x80000007, .edx = bits(8)},
    // 40 physical, 48 virtual address bits
    CpuidLeaf{.function = 0x80000008, .eax = 48u << 8 | 40u},
};

// C libraries size their copying loops by the caches: a large last level keeps them at REP MOVSB,
// which runs here at the host's speed.
struct Cache {
  std::uint32_t type;  // 1 data, 2 instructions, 3 both
  std::uint32_t level, ways, sets;
};
constexpr std::array kCaches = {Cache{1, 1, 8, 64}, Cache{2, 1, 8, 64}, Cache{3, 2, 16, 1024},
                                Cache{3, 3, 16, 32768}};

using Leaves = std::vector<CpuidLeaf>;

void add_caches(Leaves& leaves) {
  constexpr std::uint32_t kSelfInitializing = 1u << 8;
  // Spec: leaf 2: one descriptor byte says "64-byte prefetching", one "see leaf 4".
  leaves.push_back({.function = 0x2, .eax = 0x00F0'FF01});
  for (std::uint32_t i = 0; i < kCaches.size(); ++i) {
    const Cache& cache = kCaches[i];
    leaves.push_back({.function = 0x4,
                      .index = i,
                      .indexed = true,
                      .eax = cache.type | cache.level << 5 | kSelfInitializing,
                      .ebx = (cache.ways - 1) << 22 | (kCacheLine - 1),
                      .ecx = cache.sets - 1});
  }
}

void add_brand(Leaves& leaves) {
  constexpr std::string_view kBrand = "supermachine software CPU                       ";
  static_assert(kBrand.size() == 48);
  for (std::uint32_t i = 0; i < 3; ++i) {
    const std::string_view part = kBrand.substr(i * std::size_t{16}, 16);
    leaves.push_back({.function = 0x80000002 + i,
                      .eax = text(part.substr(0)),
                      .ebx = text(part.substr(4)),
                      .ecx = text(part.substr(8)),
                      .edx = text(part.substr(12))});
  }
}

const CpuidLeaf* find(std::span<const CpuidLeaf> leaves, std::uint32_t function,
                      std::uint32_t index) {
  const auto it = std::find_if(leaves.begin(), leaves.end(), [&](const CpuidLeaf& leaf) {
    return leaf.function == function && (!leaf.indexed || leaf.index == index);
  });
  return it == leaves.end() ? nullptr : &*it;
}

std::uint32_t largest_of(std::span<const CpuidLeaf> leaves, std::uint32_t range) {
  const CpuidLeaf* first = find(leaves, range, 0);
  return first == nullptr ? 0 : first->eax;
}

// Above the largest leaf of its range a processor of this vendor repeats its largest basic one.
std::uint32_t in_range(std::span<const CpuidLeaf> leaves, std::uint32_t function) {
  constexpr std::uint32_t kHypervisor = 0x40000000, kExtended = 0x80000000;
  const std::uint32_t range = function >= kExtended     ? kExtended
                              : function >= kHypervisor ? kHypervisor
                                                        : 0;
  return function <= largest_of(leaves, range) ? function : largest_of(leaves, 0);
}

// AES, PCLMULQDQ and SHA are executed by the host itself; without them they are undefined.
void hide_what_the_host_lacks(Leaves& leaves) {
  constexpr std::uint32_t kAesPclmul = bits(1, 25), kSha = bits(29);
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  const std::uint32_t crypto = __get_cpuid(1, &a, &b, &c, &d) != 0 ? c & kAesPclmul : 0;
  const std::uint32_t sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 ? b & kSha : 0;
  for (CpuidLeaf& leaf : leaves) {
    if (leaf.function == 1) leaf.ecx &= ~kAesPclmul | crypto;
    if (leaf.function == 7) leaf.ebx &= ~kSha | sha;
  }
}

}  // namespace

std::vector<CpuidLeaf> soft_supported_cpuid(std::uint32_t tsc_khz) {
  Leaves leaves(kFeatures.begin(), kFeatures.end());
  hide_what_the_host_lacks(leaves);
  leaves.push_back({.function = 0x0,
                    .eax = kMaxBasic,
                    .ebx = text("Genu"),
                    .ecx = text("ntel"),
                    .edx = text("ineI")});
  add_caches(leaves);
  // A crystal of 1 MHz, times khz / 1000.
  leaves.push_back({.function = 0x15, .eax = 1000, .ebx = tsc_khz, .ecx = 1'000'000});
  const std::uint32_t mhz = tsc_khz / 1000 & 0xFFFF;
  leaves.push_back({.function = 0x16, .eax = mhz, .ebx = mhz, .ecx = 100});
  leaves.push_back({.function = 0x40000000,
                    .eax = kMaxHypervisor,
                    .ebx = text("KVMK"),
                    .ecx = text("VMKV"),
                    .edx = text("M")});
  leaves.push_back({.function = 0x40000001, .eax = pv_feature::kAll});
  leaves.push_back({.function = 0x80000000, .eax = kMaxExtended});
  add_brand(leaves);
  std::sort(leaves.begin(), leaves.end(), [](const CpuidLeaf& a, const CpuidLeaf& b) {
    return a.function != b.function ? a.function < b.function : a.index < b.index;
  });
  return leaves;
}

void show_arch_capabilities(std::vector<CpuidLeaf>& leaves) {
  for (CpuidLeaf& leaf : leaves) {
    if (leaf.function == 7 && leaf.index == 0) leaf.edx |= bits(29);
  }
}

CpuidLeaf lookup_cpuid(std::span<const CpuidLeaf> leaves, std::uint32_t function,
                       std::uint32_t index) {
  const std::uint32_t real = in_range(leaves, function);
  if (const CpuidLeaf* leaf = find(leaves, real, index)) return *leaf;
  CpuidLeaf empty{.function = real, .index = index};
  if (real != 0xB && real != 0x1F) return empty;
  // Spec: a topology level that does not exist repeats the number and tells the APIC id.
  empty.ecx = index & 0xFF;
  if (const CpuidLeaf* first = find(leaves, real, 0)) empty.edx = first->edx;
  return empty;
}

}  // namespace sm::soft
