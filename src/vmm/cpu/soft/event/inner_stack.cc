#include "vmm/cpu/soft/event/inner_stack.h"

#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/segments.h"

namespace sm::soft {

namespace {

constexpr std::uint32_t kRspField = 4, kIstField = 36;  // of the 64-bit TSS

// Reads `size` bytes of the TSS; a field beyond its limit raises #TS for the task register.
bool read_tss(Cpu& cpu, std::uint32_t offset, void* out, std::uint32_t size, std::uint32_t ext) {
  if (!cpu.task.usable || offset + size - 1 > cpu.task.limit) {
    return refuse(cpu, vector::kInvalidTss, selector_error(cpu.task.selector, ext));
  }
  return load_table(cpu, cpu.task.base + offset, out, size);
}

bool read_long_pointer(Cpu& cpu, std::uint32_t offset, std::uint32_t ext, StackTarget& out) {
  out.is_64bit = true;
  out.error_code = ext;
  if (!read_tss(cpu, offset, &out.pointer, sizeof out.pointer, ext)) return false;
  return is_canonical_address(out.pointer) || refuse(cpu, vector::kStack, ext);
}

// SS:ESP or SS:SP of a ring.
bool read_far_pointer(Cpu& cpu, std::uint8_t cpl, std::uint32_t ext, std::uint16_t& selector,
                      std::uint64_t& pointer) {
  const SystemType type = attributes_of(cpu.task).system_type();
  if (type == SystemType::kTss || type == SystemType::kBusyTss) {
    struct {
      std::uint32_t esp;
      std::uint16_t ss;
    } __attribute__((packed)) field{};
    if (!read_tss(cpu, 4 + cpl * 8u, &field, sizeof field, ext)) return false;
    selector = field.ss;
    pointer = field.esp;
    return true;
  }
  struct {
    std::uint16_t sp;
    std::uint16_t ss;
  } field{};
  if (!read_tss(cpu, 2 + cpl * 4u, &field, sizeof field, ext)) return false;
  selector = field.ss;
  pointer = field.sp;
  return true;
}

}  // namespace

bool read_inner_stack(Cpu& cpu, std::uint8_t cpl, std::uint32_t ext, StackTarget& out) {
  out.cpl = cpl;
  if (cpu.long_mode()) {
    out.ss = null_register(cpl, cpl);
    return read_long_pointer(cpu, kRspField + cpl * 8u, ext, out);
  }
  std::uint16_t selector = 0;
  if (!read_far_pointer(cpu, cpl, ext, selector, out.pointer) ||
      !read_stack_segment(cpu, selector, cpl, false, vector::kInvalidTss, ext, out.ss)) {
    return false;
  }
  out.is_64bit = false;
  out.error_code = selector_error(selector, ext);
  return true;
}

bool read_interrupt_stack(Cpu& cpu, std::uint8_t index, std::uint32_t ext, StackTarget& out) {
  return read_long_pointer(cpu, kIstField + (index - 1u) * 8, ext, out);
}

}  // namespace sm::soft
