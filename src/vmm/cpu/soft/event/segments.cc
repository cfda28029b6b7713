#include "vmm/cpu/soft/event/segments.h"

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/event/permission.h"

namespace sm::soft {

namespace {

SegmentRegister& register_of(Cpu& cpu, Segment which) {
  return cpu.segment[static_cast<std::size_t>(which)];
}

// In long mode these take two slots of the table.
bool has_second_half(Attributes attributes) {
  if (!attributes.is_system()) return false;
  switch (attributes.system_type()) {
    case SystemType::kLdt:
    case SystemType::kTss:
    case SystemType::kBusyTss:
    case SystemType::kCallGate:
      return true;
    default:
      return false;
  }
}

// Spec: SDM vol. 2, MOV; DS, ES, FS and GS.
bool check_data_segment(Cpu& cpu, std::uint16_t selector, Attributes attributes) {
  const std::uint32_t error = selector_error(selector);
  if (!attributes.is_readable()) return refuse(cpu, vector::kProtection, error);
  const std::uint8_t dpl = attributes.dpl();
  if (!attributes.is_conforming_code() && (requested_privilege(selector) > dpl || cpu.cpl > dpl)) {
    return refuse(cpu, vector::kProtection, error);
  }
  return attributes.present() || refuse(cpu, vector::kSegmentNotPresent, error);
}

bool read_data_segment(Cpu& cpu, std::uint16_t selector, SegmentRegister& out) {
  if (is_null_selector(selector)) {
    out = null_register(selector);
    return true;
  }
  DescriptorEntry entry;
  if (!fetch_descriptor(cpu, selector, vector::kProtection, 0, entry) ||
      !check_data_segment(cpu, selector, entry.attributes()) ||
      !set_type_bits(cpu, entry, attribute::kAccessed)) {
    return false;
  }
  out = segment_register(entry.descriptor, selector);
  return true;
}

}  // namespace

Lookup find_descriptor(Cpu& cpu, std::uint16_t selector, DescriptorEntry& entry) {
  constexpr std::uint16_t kLocalTable = 4;
  if (is_null_selector(selector)) return Lookup::kOutside;
  const bool local = (selector & kLocalTable) != 0;
  if (local && !cpu.ldt.usable) return Lookup::kOutside;
  const std::uint64_t base = local ? cpu.ldt.base : cpu.gdt.base;
  const std::uint32_t limit = local ? cpu.ldt.limit : cpu.gdt.limit;
  const std::uint32_t offset = selector & 0xFFF8u;
  if (offset + 7 > limit) return Lookup::kOutside;
  entry = {.linear = base + offset, .selector = selector};
  if (!load_table(cpu, entry.linear, &entry.descriptor.low, 8)) return Lookup::kAborted;
  if (cpu.long_mode() && has_second_half(entry.attributes())) {
    if (offset + 15 > limit) return Lookup::kOutside;
    if (!load_table(cpu, entry.linear + 8, &entry.descriptor.high, 8)) return Lookup::kAborted;
  }
  return Lookup::kFound;
}

bool fetch_descriptor(Cpu& cpu, std::uint16_t selector, std::uint8_t vector, std::uint32_t ext,
                      DescriptorEntry& entry) {
  const Lookup lookup = find_descriptor(cpu, selector, entry);
  if (lookup == Lookup::kOutside) return refuse(cpu, vector, selector_error(selector, ext));
  return lookup == Lookup::kFound;
}

bool load_table(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size) {
  if (!cpu.long_mode()) linear &= 0xFFFFFFFF;
  return load_linear(cpu, linear, out, size, Privilege::kSystem);
}

bool set_type_bits(Cpu& cpu, DescriptorEntry& entry, std::uint16_t bits) {
  if (entry.attributes().has(bits)) return true;
  constexpr std::uint64_t kTypeByte = 5;
  const std::uint64_t low = entry.descriptor.low | std::uint64_t{bits} << (kTypeByte * 8);
  const auto byte = static_cast<std::uint8_t>(low >> (kTypeByte * 8));
  std::uint64_t linear = entry.linear + kTypeByte;
  if (!cpu.long_mode()) linear &= 0xFFFFFFFF;
  if (!store_linear(cpu, linear, &byte, 1, Privilege::kSystem)) return false;
  entry.descriptor.low = low;
  return true;
}

bool read_stack_segment(Cpu& cpu, std::uint16_t selector, std::uint8_t cpl, bool null_allowed,
                        std::uint8_t vector, std::uint32_t ext, SegmentRegister& out) {
  const std::uint32_t error = selector_error(selector, ext);
  if (is_null_selector(selector)) {
    if (!null_allowed || requested_privilege(selector) != cpl) return refuse(cpu, vector, ext);
    out = null_register(selector, cpl);
    return true;
  }
  DescriptorEntry entry;
  if (!fetch_descriptor(cpu, selector, vector, ext, entry)) return false;
  const Attributes attributes = entry.attributes();
  if (requested_privilege(selector) != cpl || !attributes.is_writable_data() ||
      attributes.dpl() != cpl) {
    return refuse(cpu, vector, error);
  }
  if (!attributes.present()) return refuse(cpu, vector::kStack, error);
  if (!set_type_bits(cpu, entry, attribute::kAccessed)) return false;
  out = segment_register(entry.descriptor, selector);
  return true;
}

bool load_segment(Cpu& cpu, Segment which, std::uint16_t selector) {
  if (!protected_mode(cpu)) {
    load_real_segment(cpu, which, selector);
    return true;
  }
  SegmentRegister loaded;
  const bool null_stack = cpu.mode == CodeMode::k64 && cpu.cpl != 3;
  const bool ok = which == Segment::kSs ? read_stack_segment(cpu, selector, cpu.cpl, null_stack,
                                                             vector::kProtection, 0, loaded)
                                        : read_data_segment(cpu, selector, loaded);
  if (ok) register_of(cpu, which) = loaded;
  return ok;
}

void load_real_segment(Cpu& cpu, Segment which, std::uint16_t selector) {
  SegmentRegister& reg = register_of(cpu, which);
  constexpr std::uint16_t kData = attribute::kPresent | attribute::kCodeOrData |
                                  attribute::kReadableOrWritable | attribute::kAccessed;
  if (!reg.usable) {  // what a null selector left behind in protected mode
    reg.limit = 0xFFFF;
    reg.attributes = kData;
    reg.usable = true;
  }
  // Real mode writes through CS as well.
  if (which == Segment::kCs) {
    reg.attributes = static_cast<std::uint16_t>((reg.attributes & 0xFF00) | kData);
  }
  reg.selector = selector;
  reg.base = std::uint64_t{selector} << 4;
}

void set_cpl(Cpu& cpu, std::uint8_t cpl) {
  if (cpu.cpl == cpl) return;
  cpu.cpl = cpl;
  cpl_changed(cpu);
}

CodeMode code_mode_of(const Cpu& cpu) {
  const Attributes cs = attributes_of(cpu.segment[static_cast<std::size_t>(Segment::kCs)]);
  if (cpu.long_mode() && cs.is_long()) return CodeMode::k64;
  return cs.is_big() ? CodeMode::k32 : CodeMode::k16;
}

void set_code_segment(Cpu& cpu, const SegmentRegister& cs, std::uint8_t cpl) {
  SegmentRegister& reg = register_of(cpu, Segment::kCs);
  reg = cs;
  reg.selector = with_privilege(cs.selector, cpl);
  set_cpl(cpu, cpl);
  cpu.mode = code_mode_of(cpu);
}

void drop_inner_segments(Cpu& cpu) {
  for (const Segment which : {Segment::kEs, Segment::kDs, Segment::kFs, Segment::kGs}) {
    SegmentRegister& reg = register_of(cpu, which);
    const Attributes attributes = attributes_of(reg);
    // A register that is null already keeps its base: FS and GS have one of their own.
    if (!reg.usable || attributes.is_conforming_code() || attributes.dpl() >= cpu.cpl) continue;
    reg = null_register(0);
  }
}

}  // namespace sm::soft
