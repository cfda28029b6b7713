// Operands of integer instructions: registers of all sizes with the rules of partial writes, memory
// and immediates behind one pair of functions, and the frame of read-modify-write instructions.
// Thread: the vCPU's own. Spec: SDM vol. 1, 3.4.1.1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/exec/flags.h"
#include "vmm/cpu/soft/exec/locked.h"
#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/semantic.h"

namespace sm::soft {

// Calls `work` with a value of the unsigned type of `size` bytes.
template <class Work>
Next by_size(std::uint32_t size, Work&& work) {
  switch (size) {
    case 1:
      return work(std::uint8_t{});
    case 2:
      return work(std::uint16_t{});
    case 4:
      return work(std::uint32_t{});
    default:
      return work(std::uint64_t{});
  }
}
// The same for instructions that have no byte form.
template <class Work>
Next by_wide_size(std::uint32_t size, Work&& work) {
  switch (size) {
    case 2:
      return work(std::uint16_t{});
    case 4:
      return work(std::uint32_t{});
    default:
      return work(std::uint64_t{});
  }
}

inline constexpr std::uint8_t kHighByteRegisters = 16;  // 16..19 are ah, ch, dh, bh

template <class T>
T read_gpr(const Cpu& cpu, std::uint8_t reg) {
  if constexpr (sizeof(T) == 1) {
    if (reg >= kHighByteRegisters) {
      return static_cast<T>(cpu.gpr[reg - kHighByteRegisters] >> 8);
    }
  }
  return static_cast<T>(cpu.gpr[reg]);
}

// Writes of 4 bytes clear the upper half, shorter ones leave the rest.
template <class T>
void write_gpr(Cpu& cpu, std::uint8_t reg, T value) {
  if constexpr (sizeof(T) >= 4) {
    cpu.gpr[reg] = value;
  } else {
    const bool high = sizeof(T) == 1 && reg >= kHighByteRegisters;
    std::uint64_t& whole = cpu.gpr[high ? reg - kHighByteRegisters : reg];
    const unsigned shift = high ? 8 : 0;
    const std::uint64_t mask = std::uint64_t{static_cast<T>(-1)} << shift;
    whole = (whole & ~mask) | (std::uint64_t{value} << shift);
  }
}

// A register used as an address or counter of `size` bytes.
inline std::uint64_t address_mask(std::uint8_t size) {
  return size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (size * 8)) - 1;
}
inline std::uint64_t read_sized(const Cpu& cpu, std::uint8_t reg, std::uint8_t size) {
  return cpu.gpr[reg] & address_mask(size);
}
inline void write_sized(Cpu& cpu, std::uint8_t reg, std::uint8_t size, std::uint64_t value) {
  switch (size) {
    case 2:
      return write_gpr(cpu, reg, static_cast<std::uint16_t>(value));
    case 4:
      return write_gpr(cpu, reg, static_cast<std::uint32_t>(value));
    default:
      return write_gpr(cpu, reg, value);
  }
}

// Operand `i` as a T, whatever kind it is. False: as load_operand.
template <class T>
bool read_operand(Cpu& cpu, const Insn& insn, std::size_t i, T& value) {
  const Operand& operand = insn.operand[i];
  switch (operand.kind) {
    case OperandKind::kGpr:
      value = read_gpr<T>(cpu, operand.reg);
      return true;
    case OperandKind::kMem:
      return load_operand(cpu, insn, value);
    case OperandKind::kImm2:
      value = static_cast<T>(insn.imm2);
      return true;
    default:
      value = static_cast<T>(insn.imm);
      return true;
  }
}

// False: as store_operand.
template <class T>
bool write_operand(Cpu& cpu, const Insn& insn, std::size_t i, T value) {
  const Operand& operand = insn.operand[i];
  if (operand.kind == OperandKind::kMem) return store_operand(cpu, insn, value);
  write_gpr(cpu, operand.reg, value);
  return true;
}

// What a semantic function says after its last step.
inline Next done(bool ok) { return ok ? Next::kNext : Next::kAborted; }

// The linear address of the memory operand, `delta` bytes further on, and what a write to it would
// raise is raised.
template <class T>
bool open_for_write(Cpu& cpu, const Insn& insn, std::uint64_t& linear, std::int64_t delta = 0) {
  const std::uint64_t offset = (effective_offset(cpu, insn) + static_cast<std::uint64_t>(delta)) &
                               address_mask(insn.address_size);
  return linear_address(cpu, insn.segment, offset, sizeof(T), true, linear) &&
         check_write(cpu, linear, sizeof(T));
}

// Puts change(old) in place of the T at `linear`, with a load and a store.
template <class T, class Change>
bool replace_plainly(Cpu& cpu, std::uint64_t linear, Change&& change) {
  T old = 0;
  if (!load_linear(cpu, linear, &old, sizeof(T))) return false;
  const T value = change(old);
  return store_linear(cpu, linear, &value, sizeof(T));
}

// The same as one atomic step where it is locked; `linear` is open for writing. `change` is called
// again when somebody else was faster: it must only compute.
template <class T, class Change>
bool replace(Cpu& cpu, std::uint64_t linear, bool locked, Change&& change) {
  if (!locked) return replace_plainly<T>(cpu, linear, change);
  cpu.fault = {};
  void* bytes = host_for_atomic(cpu, linear, sizeof(T));
  if (bytes != nullptr) {
    T old = 0;
    std::memcpy(&old, bytes, sizeof(T));
    while (!host::compare_exchange(static_cast<T*>(bytes), old, change(old))) {
    }
    return true;
  }
  if (cpu.fault.vector != 0) return false;
  return with_others_stopped(cpu, [&] { return replace_plainly<T>(cpu, linear, change); });
}

// destination = change(destination, flags), for operand 0, `delta` bytes further on in memory.
template <class T, class Change>
Next modify(Cpu& cpu, const Insn& insn, Change&& change, std::int64_t delta = 0) {
  StatusFlags flags = cpu.status;
  const Operand& operand = insn.operand[0];
  if (operand.kind != OperandKind::kMem) {
    write_gpr<T>(cpu, operand.reg, change(read_gpr<T>(cpu, operand.reg), flags));
    cpu.status = flags;
    return Next::kNext;
  }
  std::uint64_t linear = 0;
  const bool ok =
      open_for_write<T>(cpu, insn, linear, delta) && replace<T>(cpu, linear, insn.lock, [&](T old) {
        flags = cpu.status;
        return change(old, flags);
      });
  if (ok) cpu.status = flags;
  return done(ok);
}

// `flags` with the bits of EFLAGS in `mask` set or cleared.
inline StatusFlags with_flag(StatusFlags flags, std::uint32_t mask, bool value) {
  return StatusFlags::from_eflags(value ? flags.eflags() | mask : flags.eflags() & ~mask);
}

// The condition of Jcc, SETcc and CMOVcc. Spec: SDM vol. 1, appendix B.
inline bool condition_holds(StatusFlags flags, std::uint8_t condition) {
  bool holds = false;
  switch (condition >> 1) {
    case 0:
      holds = flags.of();
      break;
    case 1:
      holds = flags.cf();
      break;
    case 2:
      holds = flags.zf();
      break;
    case 3:
      holds = flags.cf() || flags.zf();
      break;
    case 4:
      holds = flags.sf();
      break;
    case 5:
      holds = flags.pf();
      break;
    case 6:
      holds = flags.sf() != flags.of();
      break;
    default:
      holds = flags.zf() || flags.sf() != flags.of();
      break;
  }
  return holds != ((condition & 1) != 0);
}

}  // namespace sm::soft
