#include "tests/cpu/model_memory.h"

#include <algorithm>
#include <cstring>

#include "tests/cpu/model.h"
#include "tests/cpu/sandbox.h"
#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::cpu_fuzz {

namespace {

using TlbTable = std::array<soft::TlbEntry, soft::kTlbEntries>;

// SAFETY: one thread uses these.
alignas(4096) std::array<std::array<std::byte, kPage>, kLayout.size()> g_pages;
TlbTable g_read_tlb, g_write_tlb, g_empty_tlb;
bool g_unknown = false;

std::byte* native_page(std::size_t i) { return reinterpret_cast<std::byte*>(kSandbox + i * kPage); }

std::byte* page_bytes(std::size_t i) {
  return kLayout[i] == PageKind::kWritable ? g_pages[i].data() : native_page(i);
}

std::byte* host_at(std::uint64_t address) {
  const std::uint64_t offset = address - kSandbox;
  return page_bytes(offset / kPage) + offset % kPage;
}

bool is_canonical(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

// #PF unless `address` can be accessed by a program.
bool check_access(soft::Cpu& cpu, std::uint64_t address, bool is_write) {
  const PageKind kind = kind_at(address);
  // Writes to the code page would work: it only pretends.
  g_unknown |=
      (address >= kUnknownFrom && address < kUserEnd) || (kind == PageKind::kCode && is_write);
  if (kind == PageKind::kWritable || (kind != PageKind::kHole && !is_write)) return true;
  constexpr std::uint32_t kPresent = 1, kWrite = 2, kUser = 4;
  // The host's kernel hides from programs whether its own addresses are mapped.
  const bool present = kind != PageKind::kHole || address >= kUserEnd;
  soft::raise(cpu, soft::vector::kPage, kUser | (is_write ? kWrite : 0) | (present ? kPresent : 0));
  cpu.fault.address = address;
  return false;
}

bool check_range(soft::Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write) {
  const std::uint64_t last_page = (linear + size - 1) & ~(kPage - 1);
  return check_access(cpu, linear, is_write) &&
         (last_page <= linear || check_access(cpu, last_page, is_write));
}

}  // namespace

void prepare_memory() {
  for (std::size_t i = 0; i < soft::kTlbEntries; ++i) {
    g_empty_tlb[i] = {(i ^ 1) << 12, nullptr};
  }
  g_read_tlb = g_write_tlb = g_empty_tlb;
  for (std::size_t i = 0; i < kLayout.size(); ++i) {
    const std::uint64_t page = kSandbox + i * kPage;
    const soft::TlbEntry entry{page, page_bytes(i)};
    const std::size_t slot = (page >> 12) % soft::kTlbEntries;
    if (kLayout[i] != PageKind::kHole) g_read_tlb[slot] = entry;
    if (kLayout[i] == PageKind::kWritable) g_write_tlb[slot] = entry;
  }
}

void forget_unknown_access() { g_unknown = false; }
bool unknown_access() { return g_unknown; }

void use_tlb(soft::Cpu& cpu, bool filled) {
  cpu.read_tlb = filled ? g_read_tlb.data() : g_empty_tlb.data();
  cpu.write_tlb = filled ? g_write_tlb.data() : g_empty_tlb.data();
}

std::byte* Model::bytes(std::uint64_t address, std::uint64_t size) {
  const bool one_page = address / kPage == (address + size - 1) / kPage;
  return kind_at(address) != PageKind::kHole && one_page ? host_at(address) : nullptr;
}

void Model::copy_from_native() {
  for (std::size_t i = 0; i < kLayout.size(); ++i) {
    if (kLayout[i] == PageKind::kWritable) std::memcpy(g_pages[i].data(), native_page(i), kPage);
  }
}

std::uint64_t Model::first_difference() {
  for (std::size_t i = 0; i < kLayout.size(); ++i) {
    if (kLayout[i] != PageKind::kWritable) continue;
    const std::byte* native = native_page(i);
    if (std::memcmp(native, g_pages[i].data(), kPage) == 0) continue;
    const auto [at, other] = std::mismatch(native, native + kPage, g_pages[i].data());
    return kSandbox + i * kPage + static_cast<std::uint64_t>(at - native);
  }
  return 0;
}

}  // namespace sm::cpu_fuzz

namespace sm::soft {

using namespace cpu_fuzz;

std::uint64_t effective_offset(const Cpu& cpu, const Insn& insn) {
  const std::uint64_t base = insn.base == kRipRegister ? cpu.rip + insn.length : cpu.gpr[insn.base];
  const std::uint64_t offset =
      base + (cpu.gpr[insn.index] << insn.scale) + static_cast<std::uint64_t>(insn.displacement);
  return insn.address_size == 4 ? static_cast<std::uint32_t>(offset) : offset;
}

bool linear_address(Cpu& cpu, Segment segment, std::uint64_t offset, std::uint32_t size,
                    bool /*is_write*/, std::uint64_t& linear) {
  const bool based = segment == Segment::kFs || segment == Segment::kGs;
  linear = offset + (based ? cpu.segment[static_cast<std::size_t>(segment)].base : 0);
  if (is_canonical(linear) && (size == 0 || is_canonical(linear + size - 1))) return true;
  raise(cpu, segment == Segment::kSs ? vector::kStack : vector::kProtection, 0);
  return false;
}

bool load_linear(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size, Privilege) {
  if (!check_range(cpu, linear, size, false)) return false;
  const auto first = std::min<std::uint64_t>(size, kPage - linear % kPage);
  std::memcpy(out, host_at(linear), first);
  if (first < size) {
    std::memcpy(static_cast<std::byte*>(out) + first, host_at(linear + first), size - first);
  }
  return true;
}

bool store_linear(Cpu& cpu, std::uint64_t linear, const void* in, std::uint32_t size, Privilege) {
  if (!check_range(cpu, linear, size, true)) return false;
  const auto first = std::min<std::uint64_t>(size, kPage - linear % kPage);
  std::memcpy(host_at(linear), in, first);
  if (first < size) {
    std::memcpy(host_at(linear + first), static_cast<const std::byte*>(in) + first, size - first);
  }
  return true;
}

bool check_write(Cpu& cpu, std::uint64_t linear, std::uint32_t size, Privilege) {
  return check_range(cpu, linear, size, true);
}

std::byte* host_for_run(Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write) {
  return probe(is_write ? cpu.write_tlb : cpu.read_tlb, linear, size);
}

std::byte* host_for_atomic(Cpu& cpu, std::uint64_t linear, std::uint32_t size) {
  return check_range(cpu, linear, size, true) ? Model::bytes(linear, size) : nullptr;
}

}  // namespace sm::soft
