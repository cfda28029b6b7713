// CpuState to and from Cpu, the software engine's own form. The platform's part of a state (local
// APIC, its MSRs, time) is VcpuPlatform's; what an Interpreter holds is filled in by SoftVcpu.
// Thread: the vCPU's own, or none is running it.
#pragma once

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"
#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Everything but mp_state, the injected events and the platform's part. MSRs are not sorted yet.
void save_cpu(const Cpu& cpu, CpuState& state);

// The same parts. kCorrupt or kUnsupported for a state that no such CPU can be in; the Cpu is then
// unchanged. MSRs that are not Cpu's are skipped. The caller tells the Mmu.
Status load_cpu(const CpuState& state, Cpu& cpu);

// For tests and tables.
SegmentState save_segment(const SegmentRegister& segment);
SegmentRegister load_segment(const SegmentState& segment);

}  // namespace sm::soft
