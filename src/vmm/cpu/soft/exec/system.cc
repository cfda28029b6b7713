#include "vmm/cpu/soft/exec/system.h"

#include <array>
#include <vector>

#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/event/flags.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/exec/groups.h"

namespace sm::soft {

namespace {

// ---- Interrupt flag, halt, caches ---------------------------------------------------------------

Next cli(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_interrupt_control(cpu)) return Next::kAborted;
  cpu.other_flags &= ~eflags::kIf;
  return Next::kNext;
}

Next sti(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_interrupt_control(cpu)) return Next::kAborted;
  if ((cpu.other_flags & eflags::kIf) != 0) return Next::kNext;
  load_rflags(cpu, cpu.rflags() | eflags::kIf);
  begin_interrupt_shadow(cpu, 1);
  return Next::kNext;
}

// The loop sleeps until something is delivered.
Next hlt(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_privileged(cpu)) return Next::kAborted;
  cpu.halted = true;
  return Next::kNext;
}

Next set_access_flag(Cpu& cpu, std::uint64_t flags) {
  if (cpu.cpl != 0) return raise(cpu, vector::kUndefined);
  load_rflags(cpu, flags);
  return Next::kNext;
}
Next clac(Cpu& cpu, const Insn& /*insn*/) {
  return set_access_flag(cpu, cpu.rflags() & ~std::uint64_t{eflags::kAc});
}
Next stac(Cpu& cpu, const Insn& /*insn*/) {
  return set_access_flag(cpu, cpu.rflags() | eflags::kAc);
}

// INVD, WBINVD: there are no caches that a guest could see.
Next flush_caches(Cpu& cpu, const Insn& /*insn*/) {
  return check_privileged(cpu) ? Next::kNext : Next::kAborted;
}

// ---- What the processor tells of itself
// -----------------------------------------------------------

void write_pair(Cpu& cpu, std::uint64_t value) {
  write_gpr(cpu, kRax, static_cast<std::uint32_t>(value));
  write_gpr(cpu, kRdx, static_cast<std::uint32_t>(value >> 32));
}

Next cpuid(Cpu& cpu, const Insn& /*insn*/) {
  std::uint32_t out[4] = {};
  platform_cpuid(cpu, read_gpr<std::uint32_t>(cpu, kRax), read_gpr<std::uint32_t>(cpu, kRcx), out);
  write_gpr(cpu, kRax, out[0]);
  write_gpr(cpu, kRbx, out[1]);
  write_gpr(cpu, kRcx, out[2]);
  write_gpr(cpu, kRdx, out[3]);
  return Next::kNext;
}

bool check_counter_access(Cpu& cpu) {
  return cpu.cpl == 0 || (cpu.cr4 & cr4::kTsd) == 0 || refuse(cpu, vector::kProtection, 0);
}

Next rdtsc(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_counter_access(cpu)) return Next::kAborted;
  write_pair(cpu, platform_tsc(cpu));
  return Next::kNext;
}

Next rdtscp(Cpu& cpu, const Insn& /*insn*/) {
  if (!check_counter_access(cpu)) return Next::kAborted;
  write_pair(cpu, platform_tsc(cpu));
  write_gpr(cpu, kRcx, static_cast<std::uint32_t>(cpu.tsc_aux));
  return Next::kNext;
}

Next rdpid(Cpu& cpu, const Insn& insn) {
  cpu.gpr[insn.operand[0].reg] = cpu.tsc_aux;
  return Next::kNext;
}

// There are no performance counters, so every number is a wrong one.
Next rdpmc(Cpu& cpu, const Insn& /*insn*/) { return raise(cpu, vector::kProtection, 0); }

// ---- Segment bases ------------------------------------------------------------------------------

bool check_base_access(Cpu& cpu) {
  return (cpu.mode == CodeMode::k64 && (cpu.cr4 & cr4::kFsgsbase) != 0) ||
         refuse(cpu, vector::kUndefined);
}

template <Segment which>
Next read_base(Cpu& cpu, const Insn& insn) {
  if (!check_base_access(cpu)) return Next::kAborted;
  const Operand& to = insn.operand[0];
  write_sized(cpu, to.reg, to.size, cpu.segment[static_cast<std::size_t>(which)].base);
  return Next::kNext;
}

template <Segment which>
Next write_base(Cpu& cpu, const Insn& insn) {
  if (!check_base_access(cpu)) return Next::kAborted;
  const Operand& from = insn.operand[0];
  const std::uint64_t base = read_sized(cpu, from.reg, from.size);
  if (!is_canonical_address(base)) return raise(cpu, vector::kProtection, 0);
  cpu.segment[static_cast<std::size_t>(which)].base = base;
  return Next::kNext;
}

// ---- Hypercalls ---------------------------------------------------------------------------------

// VMCALL and VMMCALL, which KVM's guests use alike. Outside 64-bit mode registers have 32 bits.
Next hypercall(Cpu& cpu, const Insn& /*insn*/) {
  constexpr std::int64_t kNotPermitted = -1;
  const bool wide = cpu.mode == CodeMode::k64;
  const auto argument = [&](std::uint8_t reg) { return read_sized(cpu, reg, wide ? 8 : 4); };
  std::uint64_t result = static_cast<std::uint64_t>(kNotPermitted);
  if (cpu.cpl == 0) {
    result = platform_hypercall(cpu, argument(kRax), argument(kRbx), argument(kRcx), argument(kRdx),
                                argument(kRsi));
  }
  write_sized(cpu, kRax, wide ? 8 : 4, result);
  return Next::kNext;
}

constexpr auto kEntries = std::to_array<SemanticEntry>({
    {Op::kCli, cli},
    {Op::kSti, sti},
    {Op::kHlt, hlt},
    {Op::kClac, clac},
    {Op::kStac, stac},
    {Op::kInvd, flush_caches},
    {Op::kWbinvd, flush_caches},
    {Op::kCpuid, cpuid},
    {Op::kRdtsc, rdtsc},
    {Op::kRdtscp, rdtscp},
    {Op::kRdpid, rdpid},
    {Op::kRdpmc, rdpmc},
    {Op::kRdfsbase, read_base<Segment::kFs>},
    {Op::kRdgsbase, read_base<Segment::kGs>},
    {Op::kWrfsbase, write_base<Segment::kFs>},
    {Op::kWrgsbase, write_base<Segment::kGs>},
    {Op::kVmcall, hypercall},
    {Op::kVmmcall, hypercall},
});

std::vector<SemanticEntry> joined() {
  std::vector<SemanticEntry> all(kEntries.begin(), kEntries.end());
  for (const auto group :
       {control_register_semantics(), segment_semantics(), transfer_semantics()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace

std::span<const SemanticEntry> system_semantics() {
  static const std::vector<SemanticEntry> all = joined();
  return all;
}

}  // namespace sm::soft
