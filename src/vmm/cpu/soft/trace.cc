#include "vmm/cpu/soft/trace.h"

#include <fmt/format.h>

#include "vmm/cpu/soft/decode/disassemble.h"

namespace sm::soft {

namespace {

using Line = fmt::memory_buffer;

// "cpu 0 ffffffff81000000 ": what every line begins with.
Line begin(const Cpu& cpu) {
  Line line;
  fmt::format_to(std::back_inserter(line), "cpu {} {:016x} ", cpu.index, cpu.rip);
  return line;
}

}  // namespace

void Tracer::write_insn(const Cpu& cpu, const Insn& insn) {
  Line line = begin(cpu);
  fmt::format_to(std::back_inserter(line), "{}", disassemble(insn));
  sink_->line({line.data(), line.size()});
}

void Tracer::write_fault(const Cpu& cpu) {
  Line line = begin(cpu);
  fmt::format_to(std::back_inserter(line), "exception {} error {:#x} address {:x}",
                 cpu.fault.vector, cpu.fault.has_error_code ? cpu.fault.error_code : 0,
                 cpu.fault.address);
  sink_->line({line.data(), line.size()});
}

void Tracer::write_interrupt(const Cpu& cpu, const char* kind, std::uint8_t vector) {
  Line line = begin(cpu);
  fmt::format_to(std::back_inserter(line), "{} {:#x}", kind, vector);
  sink_->line({line.data(), line.size()});
}

void Tracer::write_device(const Cpu& cpu, const IoAccess& access) {
  Line line = begin(cpu);
  fmt::format_to(std::back_inserter(line), "{} {} of {} bytes at {:#x}",
                 access.is_port ? "port" : "device", access.is_write ? "write" : "read",
                 access.size, access.address);
  sink_->line({line.data(), line.size()});
}

}  // namespace sm::soft
