// Port I/O. Devices answer through Cpu::io: what is not there yet ends the instruction before it
// has changed anything, and it runs again.
#include <array>

#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/string_registers.h"

namespace sm::soft {

namespace {

template <class T>
bool read_port(Cpu& cpu, std::uint16_t port, T& value) {
  IoAccess access{.is_port = true, .size = sizeof(T), .address = port};
  if (!cpu.io.access(access)) return false;
  std::memcpy(&value, access.data.data(), sizeof(T));
  return true;
}

template <class T>
bool write_port(Cpu& cpu, std::uint16_t port, T value) {
  IoAccess access{.is_port = true, .is_write = true, .size = sizeof(T), .address = port};
  std::memcpy(access.data.data(), &value, sizeof(T));
  return cpu.io.access(access);
}

template <class Work>
Next by_port_size(std::uint32_t size, Work&& work) {
  switch (size) {
    case 1:
      return work(std::uint8_t{});
    case 2:
      return work(std::uint16_t{});
    default:
      return work(std::uint32_t{});
  }
}

// An immediate port number has 8 bits.
std::uint16_t port_number(const Cpu& cpu, const Insn& insn, std::size_t i) {
  const Operand& operand = insn.operand[i];
  return operand.kind == OperandKind::kImm ? static_cast<std::uint8_t>(insn.imm)
                                           : static_cast<std::uint16_t>(cpu.gpr[kRdx]);
}

Next in(Cpu& cpu, const Insn& insn) {
  return by_port_size(insn.operand[0].size, [&](auto tag) {
    decltype(tag) value = 0;
    const std::uint16_t port = port_number(cpu, insn, 1);
    if (!check_io_permission(cpu, port, sizeof(value)) || !read_port(cpu, port, value)) {
      return Next::kAborted;
    }
    write_gpr(cpu, kRax, value);
    return Next::kNext;
  });
}

Next out(Cpu& cpu, const Insn& insn) {
  return by_port_size(insn.operand[1].size, [&](auto tag) {
    using T = decltype(tag);
    const std::uint16_t port = port_number(cpu, insn, 0);
    return done(check_io_permission(cpu, port, sizeof(T)) &&
                write_port(cpu, port, read_gpr<T>(cpu, kRax)));
  });
}

// One element at a time: each waits for its device. Permission is asked even for no element.
Next ins(Cpu& cpu, const Insn& insn) {
  return by_port_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    const auto port = static_cast<std::uint16_t>(cpu.gpr[kRdx]);
    std::uint64_t linear = 0;
    T value = 0;
    if (!check_io_permission(cpu, port, sizeof(T))) return Next::kAborted;
    StringRegisters registers(cpu, insn, StringRegisters::kDestination);
    if (registers.count() == 0) return Next::kNext;
    if (!registers.destination(sizeof(T), true, linear) || !check_write(cpu, linear, sizeof(T)) ||
        !read_port(cpu, port, value) || !store_linear(cpu, linear, &value, sizeof(T))) {
      return Next::kAborted;
    }
    registers.advance(1);
    return registers.finish(false);
  });
}

Next outs(Cpu& cpu, const Insn& insn) {
  return by_port_size(insn.operand_size, [&](auto tag) {
    using T = decltype(tag);
    const auto port = static_cast<std::uint16_t>(cpu.gpr[kRdx]);
    std::uint64_t linear = 0;
    T value = 0;
    if (!check_io_permission(cpu, port, sizeof(T))) return Next::kAborted;
    StringRegisters registers(cpu, insn, StringRegisters::kSource);
    if (registers.count() == 0) return Next::kNext;
    if (!registers.source(sizeof(T), linear) || !load_linear(cpu, linear, &value, sizeof(T)) ||
        !write_port(cpu, port, value)) {
      return Next::kAborted;
    }
    registers.advance(1);
    return registers.finish(false);
  });
}

}  // namespace

std::span<const SemanticEntry> port_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kIn, in},
      {Op::kOut, out},
      {Op::kIns, ins},
      {Op::kOuts, outs},
  });
  return kEntries;
}

}  // namespace sm::soft
