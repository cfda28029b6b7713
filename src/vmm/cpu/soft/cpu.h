// Cpu: everything one software vCPU holds, in the form the interpreter wants. CpuState is its
// portable form; state.h turns one into the other.
// Thread: the vCPU's own, but for the members that say otherwise.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/io.h"

namespace sm::soft {

class Mmu;
class CodeCache;
class Machine;  // what the vCPUs of one VM share
class LocalApic;
class Clock;
class VcpuPlatform;  // local APIC, time-stamp counter, CPUID, paravirtual registers

// Names of Cpu::gpr.
enum Gpr : std::uint8_t {
  kRax,
  kRcx,
  kRdx,
  kRbx,
  kRsp,
  kRbp,
  kRsi,
  kRdi,
  kR8,
  kR9,
  kR10,
  kR11,
  kR12,
  kR13,
  kR14,
  kR15
};

// Bits of EFLAGS. Spec: SDM vol. 1, 3.4.3.
namespace eflags {
inline constexpr std::uint32_t kCf = 1u << 0, kPf = 1u << 2, kAf = 1u << 4, kZf = 1u << 6,
                               kSf = 1u << 7, kTf = 1u << 8, kIf = 1u << 9, kDf = 1u << 10,
                               kOf = 1u << 11, kIopl = 3u << 12, kNt = 1u << 14, kRf = 1u << 16,
                               kVm = 1u << 17, kAc = 1u << 18, kVif = 1u << 19, kVip = 1u << 20,
                               kId = 1u << 21;
inline constexpr std::uint32_t kStatus = kCf | kPf | kAf | kZf | kSf | kOf;
}  // namespace eflags

// The arithmetic flags as the host's LAHF and SETO leave them in AX: bits 8..15 are
// SF ZF 0 AF 0 PF 1 CF, bit 0 is OF. Producing and testing them costs two host instructions, and
// what the manuals leave undefined is what the host does.
struct StatusFlags {
  std::uint16_t ax = 0x0200;
  static StatusFlags from_eflags(std::uint64_t flags) {
    return {static_cast<std::uint16_t>(((flags & 0xD5) | 2) << 8 | ((flags >> 11) & 1))};
  }
  std::uint32_t eflags() const {
    return ((ax >> 8) & 0xD5u) | (static_cast<std::uint32_t>(ax & 1) << 11);
  }
  bool cf() const { return (ax & 0x0100) != 0; }
  bool pf() const { return (ax & 0x0400) != 0; }
  bool zf() const { return (ax & 0x4000) != 0; }
  bool sf() const { return (ax & 0x8000) != 0; }
  bool of() const { return (ax & 1) != 0; }
};

// A segment register with its cached descriptor. `limit` in bytes, inclusive.
struct SegmentRegister {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;
  std::uint16_t selector = 0;
  std::uint16_t attributes = 0;  // bits 40..47 and 52..55 of the descriptor in bits 0..7 and 12..15
  bool usable = false;
};

struct TableRegister {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
};

// What a faulting instruction leaves behind for delivery. Nothing else of it has happened.
struct Fault {
  std::uint8_t vector = 0;
  bool has_error_code = false;
  std::uint32_t error_code = 0;
  std::uint64_t address = 0;  // of a page fault, for CR2
};

// Requests to a running vCPU, tested at every block entry. Any thread sets them, with Cpu::post().
enum Attention : std::uint32_t {
  kAttentionInterrupt = 1u << 0,  // the local APIC may have something to deliver
  kAttentionNmi = 1u << 1,
  kAttentionInit = 1u << 2,  // INIT or SIPI
  kAttentionKick = 1u << 3,
  kAttentionTimer = 1u << 4,
  kAttentionMemory = 1u << 5,  // TLB or code invalidations from others wait in the Mmu
  kAttentionSingle = 1u << 6,  // TF, an interrupt shadow or armed debug registers: one instruction
  kAttentionPause = 1u << 7,   // another vCPU needs the machine stopped, see Machine
  kAttentionUnhalt = 1u << 8,  // ends HLT whatever EFLAGS.IF is, see VcpuPlatform::take_unhalt()
  kAttentionCount = 1u << 9,   // somebody wants to see the counters
};

// One slot of a translation cache: `tag` is the guest-virtual page address, `host` its bytes.
// va ^ tag <= 4096 - size says in one comparison: this page, and the access does not leave it.
struct TlbEntry {
  std::uint64_t tag;
  std::byte* host;
};
inline constexpr std::size_t kTlbEntries = 2048;

// One slot of a jump cache: where the block of a guest-virtual address in 64-bit mode is.
struct Uop;
struct JumpEntry {
  std::uint64_t address;
  const Uop* block;
};

// A call that has not returned yet, as far as its vCPU remembers: where it will return to, the
// epoch of the bank it was in, and what it knows of the block there (fast/uop.h).
struct CallLink;
struct alignas(32) ExpectedReturn {
  std::uint64_t address = 0;
  std::uint64_t epoch = 0;
  CallLink* link = nullptr;
};
inline constexpr std::size_t kExpectedReturns = 16;

// x87, MMX and SSE registers in FXSAVE64 form. Spec: SDM vol. 1, 10.5.1.
struct alignas(16) FxState {
  std::uint16_t control = 0x37F;
  std::uint16_t status = 0;
  std::uint8_t abridged_tag = 0;  // bit per physical register, 1 = in use
  std::uint8_t reserved = 0;
  std::uint16_t opcode = 0;
  std::uint64_t instruction_pointer = 0;
  std::uint64_t data_pointer = 0;
  std::uint32_t mxcsr = 0x1F80;
  std::uint32_t mxcsr_mask = 0xFFFF;
  std::array<std::array<std::uint8_t, 16>, 8> st{};  // st[i] is ST(i), 10 bytes used
  std::array<std::array<std::uint8_t, 16>, 16> xmm{};
  std::array<std::uint8_t, 96> padding{};
};
static_assert(sizeof(FxState) == 512);

// A branch, or a call that is returned to.
struct BlockLink {
  const Uop* from = nullptr;
  bool returns = false;
};

class InsnCache;

// What happened in run_blocks() on its way out, and how often things happened; see fast/.
struct BlockState {
  InsnCache* insns = nullptr;  // of slow cases
  BlockLink link;              // may know the block at Cpu::rip from then on, if `from` is not null
  bool aborted = false;        // the instruction at Cpu::rip said Next::kAborted
  bool stale = false;          // blocks do not say what is in memory
  std::uint64_t instructions = 0;
  std::uint64_t semantic_calls = 0;  // slow cases and what has no handler
  std::uint64_t lookups = 0;         // jump caches and links did not know
  std::uint64_t blocks_made = 0;
  std::uint64_t insns_made = 0;
};

// How often things happened, outside of blocks.
struct EventCounts {
  std::uint64_t instructions = 0;  // executed one by one
  std::uint64_t tlb_misses = 0;    // page walks
  std::uint64_t exceptions = 0;
  std::uint64_t page_faults = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t halts = 0;
};

struct alignas(64) Cpu {
  // rax .. r15 in encoding order; [16] is always 0 and [17] is the page of the code that runs, so
  // that any base or index register is one load.
  std::array<std::uint64_t, 18> gpr{};
  StatusFlags status;
  std::uint8_t cpl = 0;
  CodeMode mode = CodeMode::k16;
  std::atomic<std::uint32_t> attention{0};
  const TlbEntry* read_tlb = nullptr;  // of the current privilege and address space
  const TlbEntry* write_tlb = nullptr;
  const JumpEntry* jumps = nullptr;  // of the current bank, as the two above
  std::int64_t budget = 0;           // instructions that run_blocks() may still execute
  // The instruction that runs or, between instructions, the next one.
  std::uint64_t rip = 0;
  std::uint32_t other_flags = 0;  // EFLAGS but the status flags and the always-one bit 1

  std::array<SegmentRegister, 6> segment;  // the order of Segment
  SegmentRegister ldt, task;
  TableRegister gdt, idt;
  std::uint64_t cr0 = 0x60000010, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0;
  std::array<std::uint64_t, 4> dr{};
  std::uint64_t dr6 = 0xFFFF0FF0, dr7 = 0x400;
  FxState fx;

  // Model-specific registers that are plain values.
  std::uint64_t star = 0, lstar = 0, cstar = 0, syscall_mask = 0, kernel_gs_base = 0;
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  std::uint64_t pat = 0x0007040600070406, tsc_aux = 0, misc_enable = 1;

  Fault fault;  // valid after a semantic function said kAborted while io is not waiting
  IoReplay io;
  // 1 after STI, 2 after MOV SS or POP SS: nothing is delivered before the next instruction is
  // over.
  std::uint8_t interrupt_shadow = 0;
  // There may be an interrupt that EFLAGS.IF keeps back: when the flag is set somebody has to look.
  bool interrupt_waits = true;
  bool halted = false;
  bool nmi_masked = false;
  bool shutdown = false;  // a triple fault: only a reset goes on

  BlockState blocks;
  EventCounts counts;
  // A ring, the last call at `last_return`. Wrong guesses cost time and nothing else.
  std::array<ExpectedReturn, kExpectedReturns> returns;
  std::uint32_t last_return = 0;

  std::uint32_t index = 0;  // of the vCPU; its APIC id
  Mmu* mmu = nullptr;
  CodeCache* code = nullptr;
  Machine* machine = nullptr;
  LocalApic* apic = nullptr;
  Clock* clock = nullptr;
  VcpuPlatform* platform = nullptr;

  // Completed so far, but for those of a run_blocks() that has not come back.
  std::uint64_t instructions() const { return blocks.instructions + counts.instructions; }
  bool long_mode() const { return (efer & (1u << 10)) != 0; }  // EFER.LMA
  std::uint64_t rflags() const { return status.eflags() | other_flags | 2u; }
  void set_rflags(std::uint64_t flags) {
    status = StatusFlags::from_eflags(flags);
    other_flags = static_cast<std::uint32_t>(flags) & ~(eflags::kStatus | 2u);
  }
};

}  // namespace sm::soft
