// The functions of access.h: loads and stores of any size at linear addresses.
#include "vmm/cpu/soft/access.h"

#include <algorithm>
#include <array>
#include <bit>

#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu/device_access.h"
#include "vmm/cpu/soft/mmu/mmu.h"

namespace sm::soft {

namespace {

// A copy of 1, 2, 4, 8 or 16 bytes is one access: another vCPU sees all of it or nothing. memcpy
// with a size that the compiler does not know may store some bytes twice.
void copy_exactly(void* to, const void* from, std::uint32_t size) {
  switch (size) {
    case 1:
      std::memcpy(to, from, 1);
      return;
    case 2:
      std::memcpy(to, from, 2);
      return;
    case 4:
      std::memcpy(to, from, 4);
      return;
    case 8:
      std::memcpy(to, from, 8);
      return;
    case 16:
      std::memcpy(to, from, 16);
      return;
    default:
      std::memcpy(to, from, size);
      return;
  }
}

// The parts of an access in one or two pages.
struct Part {
  std::uint64_t linear = 0;
  std::uint32_t offset = 0;  // into the access
  std::uint32_t size = 0;
  Target target;
};
struct Parts {
  std::array<Part, 2> part;
  std::uint32_t count = 0;
};

Parts split(const Cpu& cpu, std::uint64_t linear, std::uint32_t size) {
  const auto in_first =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(size, kPageSize - (linear & kPageMask)));
  Parts parts;
  parts.part[0] = {.linear = linear, .size = in_first};
  parts.count = 1;
  if (in_first < size) {
    std::uint64_t next = linear + in_first;
    if (!cpu.long_mode()) next &= 0xFFFF'FFFF;
    parts.part[1] = {.linear = next, .offset = in_first, .size = size - in_first};
    parts.count = 2;
  }
  return parts;
}

bool find_all(Cpu& cpu, Parts& parts, AccessKind kind, Privilege privilege) {
  for (std::uint32_t i = 0; i < parts.count; ++i) {
    Part& part = parts.part[i];
    if (!cpu.mmu->find(part.linear, kind, privilege, part.target)) return false;
  }
  return true;
}

void note(Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write, Privilege privilege) {
  if (cpu.mmu->watching() && privilege == Privilege::kCurrent) {
    cpu.mmu->note_access(linear, size, is_write);
  }
}

// Devices get accesses of 1, 2, 4 or 8 bytes, aligned ones as long as the whole is.
bool access_device(Cpu& cpu, std::uint64_t physical, std::byte* data, std::uint32_t size,
                   bool is_write) {
  while (size != 0) {
    const std::uint32_t piece = std::min(8u, std::bit_floor(size));
    if (!device_access(cpu, physical, data, piece, is_write)) return false;
    physical += piece;
    data += piece;
    size -= piece;
  }
  return true;
}

[[gnu::noinline]] bool load_slow(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size,
                                 Privilege privilege) {
  Parts parts = split(cpu, linear, size);
  if (!find_all(cpu, parts, AccessKind::kRead, privilege)) return false;
  note(cpu, linear, size, false, privilege);
  for (std::uint32_t i = 0; i < parts.count; ++i) {
    const Part& part = parts.part[i];
    std::byte* to = static_cast<std::byte*>(out) + part.offset;
    if (part.target.host != nullptr) {
      copy_exactly(to, part.target.host, part.size);
    } else if (!access_device(cpu, part.target.physical, to, part.size, false)) {
      return false;
    }
  }
  return true;
}

// Devices first: their accesses may stop the instruction, and then nothing was written.
[[gnu::noinline]] bool store_slow(Cpu& cpu, std::uint64_t linear, const void* in,
                                  std::uint32_t size, Privilege privilege) {
  Parts parts = split(cpu, linear, size);
  if (!find_all(cpu, parts, AccessKind::kWrite, privilege)) return false;
  note(cpu, linear, size, true, privilege);
  for (std::uint32_t i = 0; i < parts.count; ++i) {
    const Part& part = parts.part[i];
    if (part.target.host != nullptr) continue;
    std::array<std::byte, 512> bytes;
    std::memcpy(bytes.data(), static_cast<const std::byte*>(in) + part.offset, part.size);
    if (!access_device(cpu, part.target.physical, bytes.data(), part.size, true)) return false;
  }
  for (std::uint32_t i = 0; i < parts.count; ++i) {
    const Part& part = parts.part[i];
    if (part.target.host == nullptr) continue;
    copy_exactly(part.target.host, static_cast<const std::byte*>(in) + part.offset, part.size);
    if (part.target.has_code) cpu.machine->code_written(part.target.physical, part.size);
  }
  return true;
}

}  // namespace

bool load_linear(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size,
                 Privilege privilege) {
  if (privilege == Privilege::kCurrent) {
    if (const std::byte* host = probe(cpu.read_tlb, linear, size)) {
      copy_exactly(out, host, size);
      return true;
    }
  }
  return load_slow(cpu, linear, out, size, privilege);
}

bool store_linear(Cpu& cpu, std::uint64_t linear, const void* in, std::uint32_t size,
                  Privilege privilege) {
  if (privilege == Privilege::kCurrent) {
    if (std::byte* host = probe(cpu.write_tlb, linear, size)) {
      copy_exactly(host, in, size);
      return true;
    }
  }
  return store_slow(cpu, linear, in, size, privilege);
}

bool check_write(Cpu& cpu, std::uint64_t linear, std::uint32_t size, Privilege privilege) {
  if (privilege == Privilege::kCurrent && probe(cpu.write_tlb, linear, size) != nullptr) {
    return true;
  }
  Parts parts = split(cpu, linear, size);
  return find_all(cpu, parts, AccessKind::kWrite, privilege);
}

// Also finds what the current bank of the TLB never holds: the user's pages under SMAP.
std::byte* host_for_run(Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write) {
  if (std::byte* host = probe(is_write ? cpu.write_tlb : cpu.read_tlb, linear, size)) return host;
  if (cpu.mmu->watching() || (linear & kPageMask) + size > kPageSize) return nullptr;
  Target target;
  const AccessKind kind = is_write ? AccessKind::kWrite : AccessKind::kRead;
  if (!cpu.mmu->find(linear, kind, Privilege::kCurrent, target) || target.has_code) return nullptr;
  return target.host;
}

// Null without a fault for what the host cannot do as one atomic access at reasonable cost (across
// two cache lines), for devices, and for pages with code, whose holders have to hear of the write.
std::byte* host_for_atomic(Cpu& cpu, std::uint64_t linear, std::uint32_t size) {
  constexpr std::uint64_t kCacheLine = 64;
  if ((linear & (kCacheLine - 1)) + size > kCacheLine) {
    check_write(cpu, linear, size);
    return nullptr;
  }
  if (std::byte* host = probe(cpu.write_tlb, linear, size)) return host;
  Target target;
  if (!cpu.mmu->find(linear, AccessKind::kWrite, Privilege::kCurrent, target)) return nullptr;
  if (target.has_code || target.host == nullptr) return nullptr;
  note(cpu, linear, size, true, Privilege::kCurrent);
  return target.host;
}

}  // namespace sm::soft
