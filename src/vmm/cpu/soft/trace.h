// Tracer: tells a sink what one vCPU does: every instruction, exception, interrupt and device
// access in a line of text. A vCPU that is traced executes single instructions, so that blocks know
// nothing of it; without a sink the functions do nothing. Thread: the vCPU's own.
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/insn.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm::soft {

class Tracer {
 public:
  explicit Tracer(SoftTraceSink* sink) : sink_(sink) {}
  bool on() const { return sink_ != nullptr; }

  // Before it is executed; again when a device has answered or a string goes on.
  void insn(const Cpu& cpu, const Insn& insn) {
    if (on()) [[unlikely]]
      write_insn(cpu, insn);
  }
  // Before delivery.
  void fault(const Cpu& cpu) {
    if (on()) [[unlikely]]
      write_fault(cpu);
  }
  void interrupt(const Cpu& cpu, const char* kind, std::uint8_t vector) {
    if (on()) [[unlikely]]
      write_interrupt(cpu, kind, vector);
  }
  void device(const Cpu& cpu, const IoAccess& access) {
    if (on()) [[unlikely]]
      write_device(cpu, access);
  }

 private:
  void write_insn(const Cpu& cpu, const Insn& insn);
  void write_fault(const Cpu& cpu);
  void write_interrupt(const Cpu& cpu, const char* kind, std::uint8_t vector);
  void write_device(const Cpu& cpu, const IoAccess& access);

  SoftTraceSink* sink_;
};

}  // namespace sm::soft
