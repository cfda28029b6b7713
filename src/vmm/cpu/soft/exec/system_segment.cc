// Segment registers, descriptor tables, and questions about descriptors.
// Spec: SDM vol. 2, MOV, LDS, LGDT, LLDT, LTR, SGDT, SLDT, STR, LAR, LSL, VERR, ARPL.
#include <array>
#include <cstring>

#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/exec/system.h"

namespace sm::soft {

namespace {

// ---- Segment registers --------------------------------------------------------------------------

Next mov_segment(Cpu& cpu, const Insn& insn) {
  const Operand &to = insn.operand[0], &from = insn.operand[1];
  if (to.kind != OperandKind::kSegment)
    return write_word(cpu, insn, cpu.segment[from.reg].selector);
  const auto which = static_cast<Segment>(to.reg);
  std::uint16_t selector = 0;
  if (which == Segment::kCs) return raise(cpu, vector::kUndefined);
  if (!read_selector(cpu, insn, 1, selector) || !load_segment(cpu, which, selector)) {
    return Next::kAborted;
  }
  if (which == Segment::kSs) begin_interrupt_shadow(cpu, 2);
  return Next::kNext;
}

// LDS, LES, LFS, LGS, LSS: the offset, then the selector.
template <Segment which>
Next load_far_pointer(Cpu& cpu, const Insn& insn) {
  std::array<std::uint8_t, 10> bytes{};
  const std::uint32_t offset_size = insn.operand_size, size = offset_size + 2;
  std::uint64_t linear = 0;
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, false, linear) ||
      !load_linear(cpu, linear, bytes.data(), size)) {
    return Next::kAborted;
  }
  std::uint64_t offset = 0;
  std::uint16_t selector = 0;
  std::memcpy(&offset, bytes.data(), offset_size);
  std::memcpy(&selector, bytes.data() + offset_size, sizeof selector);
  if (!load_segment(cpu, which, selector)) return Next::kAborted;
  write_sized(cpu, insn.operand[0].reg, insn.operand_size, offset);
  return Next::kNext;
}

// ---- GDTR and IDTR ------------------------------------------------------------------------------

constexpr std::uint32_t kLimitBytes = 2;
std::uint32_t base_bytes(const Cpu& cpu) { return cpu.mode == CodeMode::k64 ? 8 : 4; }

template <TableRegister Cpu::*table>
Next load_table_register(Cpu& cpu, const Insn& insn) {
  if (!check_privileged(cpu)) return Next::kAborted;
  std::array<std::uint8_t, 10> bytes{};
  const std::uint32_t size = kLimitBytes + base_bytes(cpu);
  std::uint64_t linear = 0;
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, false, linear) ||
      !load_linear(cpu, linear, bytes.data(), size)) {
    return Next::kAborted;
  }
  TableRegister loaded;
  std::memcpy(&loaded.limit, bytes.data(), kLimitBytes);
  std::memcpy(&loaded.base, bytes.data() + kLimitBytes, base_bytes(cpu));
  if (cpu.mode != CodeMode::k64 && insn.operand_size == 2) loaded.base &= 0xFFFFFF;
  if (!is_canonical_address(loaded.base)) return raise(cpu, vector::kProtection, 0);
  cpu.*table = loaded;
  return Next::kNext;
}

template <TableRegister Cpu::*table>
Next store_table_register(Cpu& cpu, const Insn& insn) {
  if (!check_umip(cpu)) return Next::kAborted;
  std::array<std::uint8_t, 10> bytes{};
  std::memcpy(bytes.data(), &(cpu.*table).limit, kLimitBytes);
  std::memcpy(bytes.data() + kLimitBytes, &(cpu.*table).base, base_bytes(cpu));
  const std::uint32_t size = kLimitBytes + base_bytes(cpu);
  std::uint64_t linear = 0;
  if (!linear_address(cpu, insn.segment, effective_offset(cpu, insn), size, true, linear) ||
      !store_linear(cpu, linear, bytes.data(), size)) {
    return Next::kAborted;
  }
  return Next::kNext;
}

// ---- LDTR and TR --------------------------------------------------------------------------------

// Instructions that real mode does not know.
bool check_protected_mode(Cpu& cpu) {
  return protected_mode(cpu) || refuse(cpu, vector::kUndefined);
}

// The system descriptor for LLDT or LTR: in the GDT, of the right type, present.
bool fetch_system_segment(Cpu& cpu, std::uint16_t selector, bool (*accepts)(const Cpu&, SystemType),
                          DescriptorEntry& entry) {
  constexpr std::uint16_t kLocalTable = 4;
  const std::uint32_t error = selector_error(selector);
  if ((selector & kLocalTable) != 0) return refuse(cpu, vector::kProtection, error);
  if (!fetch_descriptor(cpu, selector, vector::kProtection, 0, entry)) return false;
  const Attributes attributes = entry.attributes();
  const bool right = attributes.is_system() && accepts(cpu, attributes.system_type()) &&
                     entry.descriptor.second_type_clear() &&
                     is_canonical_address(entry.descriptor.base());
  if (!right) return refuse(cpu, vector::kProtection, error);
  return attributes.present() || refuse(cpu, vector::kSegmentNotPresent, error);
}

bool is_ldt(const Cpu& /*cpu*/, SystemType type) { return type == SystemType::kLdt; }
bool is_available_tss(const Cpu& cpu, SystemType type) {
  return type == SystemType::kTss || (type == SystemType::kTss16 && !cpu.long_mode());
}

Next lldt(Cpu& cpu, const Insn& insn) {
  std::uint16_t selector = 0;
  if (!check_protected_mode(cpu) || !check_privileged(cpu) ||
      !read_selector(cpu, insn, 0, selector)) {
    return Next::kAborted;
  }
  if (is_null_selector(selector)) {
    cpu.ldt = null_register(selector);
    return Next::kNext;
  }
  DescriptorEntry entry;
  if (!fetch_system_segment(cpu, selector, is_ldt, entry)) return Next::kAborted;
  cpu.ldt = segment_register(entry.descriptor, selector);
  return Next::kNext;
}

Next ltr(Cpu& cpu, const Insn& insn) {
  std::uint16_t selector = 0;
  if (!check_protected_mode(cpu) || !check_privileged(cpu) ||
      !read_selector(cpu, insn, 0, selector)) {
    return Next::kAborted;
  }
  if (is_null_selector(selector)) return raise(cpu, vector::kProtection, 0);
  DescriptorEntry entry;
  if (!fetch_system_segment(cpu, selector, is_available_tss, entry) ||
      !set_type_bits(cpu, entry, kTssBusyBit)) {
    return Next::kAborted;
  }
  cpu.task = segment_register(entry.descriptor, selector);
  return Next::kNext;
}

template <SegmentRegister Cpu::*reg>
Next store_system_selector(Cpu& cpu, const Insn& insn) {
  if (!check_protected_mode(cpu) || !check_umip(cpu)) return Next::kAborted;
  return write_word(cpu, insn, (cpu.*reg).selector);
}

// ---- Questions about descriptors ----------------------------------------------------------------

void set_zero_flag(Cpu& cpu, bool value) {
  const std::uint32_t flags = cpu.status.eflags() & ~eflags::kZf;
  cpu.status = StatusFlags::from_eflags(flags | (value ? eflags::kZf : 0u));
}

// Whether the program could use the segment with this selector.
bool is_visible(const Cpu& cpu, const DescriptorEntry& entry) {
  const Attributes attributes = entry.attributes();
  return attributes.is_conforming_code() ||
         (cpu.cpl <= attributes.dpl() && requested_privilege(entry.selector) <= attributes.dpl());
}

// Bit per system type that LAR and LSL know, in long mode and outside.
struct KnownTypes {
  std::uint16_t legacy, long_mode;
};
constexpr std::uint16_t types(std::initializer_list<SystemType> list) {
  unsigned bits = 0;
  for (const SystemType type : list) bits |= 1u << static_cast<unsigned>(type);
  return static_cast<std::uint16_t>(bits);
}
constexpr KnownTypes kLarTypes = {
    types({SystemType::kTss16, SystemType::kLdt, SystemType::kBusyTss16, SystemType::kCallGate16,
           SystemType::kTaskGate, SystemType::kTss, SystemType::kBusyTss, SystemType::kCallGate}),
    types({SystemType::kLdt, SystemType::kTss, SystemType::kBusyTss, SystemType::kCallGate})};
constexpr KnownTypes kLslTypes = {
    types({SystemType::kTss16, SystemType::kLdt, SystemType::kBusyTss16, SystemType::kTss,
           SystemType::kBusyTss}),
    types({SystemType::kLdt, SystemType::kTss, SystemType::kBusyTss})};

bool is_known(const Cpu& cpu, const DescriptorEntry& entry, const KnownTypes& known) {
  const Attributes attributes = entry.attributes();
  if (!attributes.is_system()) return true;
  const std::uint16_t set = cpu.long_mode() ? known.long_mode : known.legacy;
  return (set >> static_cast<unsigned>(attributes.system_type()) & 1) != 0 &&
         entry.descriptor.second_type_clear();
}

// ZF says whether `accepts` likes the descriptor that operand `source` names; `use` takes it then.
template <class Accepts, class Use>
Next ask(Cpu& cpu, const Insn& insn, std::size_t source, Accepts&& accepts, Use&& use) {
  std::uint16_t selector = 0;
  if (!check_protected_mode(cpu) || !read_selector(cpu, insn, source, selector)) {
    return Next::kAborted;
  }
  DescriptorEntry entry;
  const Lookup lookup = find_descriptor(cpu, selector, entry);
  if (lookup == Lookup::kAborted) return Next::kAborted;
  const bool yes = lookup == Lookup::kFound && is_visible(cpu, entry) && accepts(entry);
  if (yes) use(entry);
  set_zero_flag(cpu, yes);
  return Next::kNext;
}

Next lar(Cpu& cpu, const Insn& insn) {
  // With bits 19:16 of the limit, which the manual leaves undefined and processors hand out.
  constexpr std::uint64_t kRights = 0x00FFFF00;
  return ask(
      cpu, insn, 1, [&](const DescriptorEntry& entry) { return is_known(cpu, entry, kLarTypes); },
      [&](const DescriptorEntry& entry) {
        write_sized(cpu, insn.operand[0].reg, insn.operand_size,
                    (entry.descriptor.low >> 32) & kRights);
      });
}

Next lsl(Cpu& cpu, const Insn& insn) {
  return ask(
      cpu, insn, 1, [&](const DescriptorEntry& entry) { return is_known(cpu, entry, kLslTypes); },
      [&](const DescriptorEntry& entry) {
        write_sized(cpu, insn.operand[0].reg, insn.operand_size, entry.descriptor.limit());
      });
}

Next verr(Cpu& cpu, const Insn& insn) {
  return ask(
      cpu, insn, 0, [](const DescriptorEntry& entry) { return entry.attributes().is_readable(); },
      [](const DescriptorEntry&) {});
}

Next verw(Cpu& cpu, const Insn& insn) {
  return ask(
      cpu, insn, 0,
      [](const DescriptorEntry& entry) { return entry.attributes().is_writable_data(); },
      [](const DescriptorEntry&) {});
}

// Raises the privilege that a selector asks for to that of another.
Next arpl(Cpu& cpu, const Insn& insn) {
  std::uint16_t selector = 0;
  if (!check_protected_mode(cpu) || !read_selector(cpu, insn, 0, selector)) return Next::kAborted;
  const std::uint8_t wanted =
      requested_privilege(read_gpr<std::uint16_t>(cpu, insn.operand[1].reg));
  const bool lower = requested_privilege(selector) < wanted;
  if (lower && !write_operand(cpu, insn, 0, with_privilege(selector, wanted))) {
    return Next::kAborted;
  }
  set_zero_flag(cpu, lower);
  return Next::kNext;
}

constexpr auto kEntries = std::to_array<SemanticEntry>({
    {Op::kMovSegment, mov_segment},
    {Op::kLds, load_far_pointer<Segment::kDs>},
    {Op::kLes, load_far_pointer<Segment::kEs>},
    {Op::kLfs, load_far_pointer<Segment::kFs>},
    {Op::kLgs, load_far_pointer<Segment::kGs>},
    {Op::kLss, load_far_pointer<Segment::kSs>},
    {Op::kLgdt, load_table_register<&Cpu::gdt>},
    {Op::kLidt, load_table_register<&Cpu::idt>},
    {Op::kSgdt, store_table_register<&Cpu::gdt>},
    {Op::kSidt, store_table_register<&Cpu::idt>},
    {Op::kLldt, lldt},
    {Op::kLtr, ltr},
    {Op::kSldt, store_system_selector<&Cpu::ldt>},
    {Op::kStr, store_system_selector<&Cpu::task>},
    {Op::kLar, lar},
    {Op::kLsl, lsl},
    {Op::kVerr, verr},
    {Op::kVerw, verw},
    {Op::kArpl, arpl},
});

}  // namespace

std::span<const SemanticEntry> segment_semantics() { return kEntries; }

}  // namespace sm::soft
