#include "vmm/cpu/soft/event/code_target.h"

#include "vmm/cpu/soft/event/permission.h"

namespace sm::soft {

namespace {

// In long mode L and D together are reserved.
bool has_reserved_size(const Cpu& cpu, Attributes attributes) {
  return cpu.long_mode() && attributes.is_long() && attributes.is_big();
}

bool check_present(Cpu& cpu, const DescriptorEntry& entry, std::uint32_t ext) {
  return entry.attributes().present() ||
         refuse(cpu, vector::kSegmentNotPresent, selector_error(entry.selector, ext));
}

}  // namespace

bool check_gate_target(Cpu& cpu, std::uint16_t selector, std::uint32_t ext, CodeTarget& out) {
  if (is_null_selector(selector)) return refuse(cpu, vector::kProtection, ext);
  if (!fetch_descriptor(cpu, selector, vector::kProtection, ext, out.entry)) return false;
  const Attributes attributes = out.entry.attributes();
  const bool wrong_size = cpu.long_mode() && (!attributes.is_long() || attributes.is_big());
  if (!attributes.is_code() || attributes.dpl() > cpu.cpl || wrong_size) {
    return refuse(cpu, vector::kProtection, selector_error(selector, ext));
  }
  out.cpl = attributes.is_conforming_code() ? cpu.cpl : attributes.dpl();
  return check_present(cpu, out.entry, ext);
}

bool check_direct_target(Cpu& cpu, CodeTarget& out) {
  const Attributes attributes = out.entry.attributes();
  const bool allowed =
      attributes.is_conforming_code()
          ? attributes.dpl() <= cpu.cpl
          : attributes.dpl() == cpu.cpl && requested_privilege(out.entry.selector) <= cpu.cpl;
  if (!attributes.is_code() || !allowed || has_reserved_size(cpu, attributes)) {
    return refuse(cpu, vector::kProtection, selector_error(out.entry.selector));
  }
  out.cpl = cpu.cpl;
  return check_present(cpu, out.entry, 0);
}

bool check_return_target(Cpu& cpu, std::uint16_t selector, CodeTarget& out) {
  if (is_null_selector(selector)) return refuse(cpu, vector::kProtection, 0);
  if (!fetch_descriptor(cpu, selector, vector::kProtection, 0, out.entry)) return false;
  const Attributes attributes = out.entry.attributes();
  out.cpl = requested_privilege(selector);
  const bool allowed =
      attributes.is_conforming_code() ? attributes.dpl() <= out.cpl : attributes.dpl() == out.cpl;
  if (!attributes.is_code() || out.cpl < cpu.cpl || !allowed ||
      has_reserved_size(cpu, attributes)) {
    return refuse(cpu, vector::kProtection, selector_error(selector));
  }
  return check_present(cpu, out.entry, 0);
}

bool check_target_offset(Cpu& cpu, const CodeTarget& target, std::uint32_t ext,
                         std::uint64_t& offset) {
  if (target.is_64bit(cpu)) {
    return is_canonical_address(offset) || refuse(cpu, vector::kProtection, ext);
  }
  offset &= 0xFFFFFFFF;
  return offset <= target.entry.descriptor.limit() || refuse(cpu, vector::kProtection, ext);
}

bool mark_target_accessed(Cpu& cpu, CodeTarget& target) {
  return set_type_bits(cpu, target.entry, attribute::kAccessed);
}

void enter_target(Cpu& cpu, const CodeTarget& target, std::uint64_t offset) {
  set_code_segment(cpu, segment_register(target.entry.descriptor, target.entry.selector),
                   target.cpl);
  cpu.rip = offset;
}

}  // namespace sm::soft
