#include "vmm/cpu/soft/event/test_cpu.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/event/deliver.h"
#include "vmm/cpu/soft/event/mmu_calls.h"
#include "vmm/cpu/soft/event/permission.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/event/segments.h"
#include "vmm/cpu/soft/exec/groups.h"

namespace sm::soft {

namespace {

TestCpu& test(Cpu& cpu) { return static_cast<TestCpu&>(cpu); }

constexpr std::uint64_t kPage = 4096;

enum class Access : std::uint8_t { kRead, kWrite };

// Raises what the first bad byte raises.
bool check(TestCpu& cpu, std::uint64_t linear, std::uint32_t size, Access access,
           Privilege privilege) {
  for (std::uint64_t at = linear; at != linear + size; ++at) {
    const std::uint64_t page = at % TestCpu::kSize / kPage;
    const bool present = !cpu.absent.contains(page);
    const bool is_write = access == Access::kWrite;
    if (present && !(is_write && cpu.read_only.contains(page))) continue;
    const bool user = cpu.cpl == 3 && privilege == Privilege::kCurrent;
    cpu.fault = {.vector = vector::kPage,
                 .has_error_code = true,
                 .error_code = (present ? 1u : 0u) | (is_write ? 2u : 0u) | (user ? 4u : 0u),
                 .address = at};
    return false;
  }
  return true;
}

// True when the access is the device's; `data` are the bytes that go there or come from there.
bool on_device(const TestCpu& cpu, std::uint64_t linear) {
  return cpu.device.contains(linear % TestCpu::kSize / kPage);
}
bool access_device(TestCpu& cpu, std::uint64_t linear, std::uint8_t* data, std::uint32_t size,
                   bool is_write) {
  for (std::uint32_t done = 0; done < size; done += 8) {
    IoAccess access{.is_write = is_write,
                    .size = static_cast<std::uint8_t>(std::min(size - done, 8u)),
                    .address = linear + done};
    if (is_write) std::memcpy(access.data.data(), data + done, access.size);
    if (!cpu.io.access(access)) return false;
    if (!is_write) std::memcpy(data + done, access.data.data(), access.size);
  }
  return true;
}

Semantic find_semantic(Op op) {
  for (const SemanticEntry& entry : system_semantics()) {
    if (entry.op == op) return entry.function;
  }
  return [](Cpu& cpu, const Insn&) { return raise(cpu, vector::kUndefined); };
}

}  // namespace

// ---- access.h
// -------------------------------------------------------------------------------------

bool load_linear(Cpu& cpu, std::uint64_t linear, void* out, std::uint32_t size,
                 Privilege privilege) {
  TestCpu& self = test(cpu);
  if (!check(self, linear, size, Access::kRead, privilege)) return false;
  auto* bytes = static_cast<std::uint8_t*>(out);
  if (on_device(self, linear)) return access_device(self, linear, bytes, size, false);
  for (std::uint32_t i = 0; i < size; ++i) bytes[i] = self.ram[(linear + i) % TestCpu::kSize];
  return true;
}

bool store_linear(Cpu& cpu, std::uint64_t linear, const void* in, std::uint32_t size,
                  Privilege privilege) {
  TestCpu& self = test(cpu);
  if (!check(self, linear, size, Access::kWrite, privilege)) return false;
  std::vector<std::uint8_t> bytes(size);
  std::memcpy(bytes.data(), in, size);
  if (on_device(self, linear)) return access_device(self, linear, bytes.data(), size, true);
  for (std::uint32_t i = 0; i < size; ++i) self.ram[(linear + i) % TestCpu::kSize] = bytes[i];
  return true;
}

bool check_write(Cpu& cpu, std::uint64_t linear, std::uint32_t size, Privilege privilege) {
  return check(test(cpu), linear, size, Access::kWrite, privilege);
}

// ---- mmu_calls.h
// ----------------------------------------------------------------------------------

void cpl_changed(Cpu& cpu) { test(cpu).calls.push_back("cpl " + std::to_string(cpu.cpl)); }
bool pae_pointers_valid(Cpu& cpu, std::uint64_t /*cr3*/) { return test(cpu).pae_pointers_valid; }
void paging_changed(Cpu& cpu) { test(cpu).calls.push_back("paging"); }
void cr3_written(Cpu& cpu, bool no_flush) {
  test(cpu).calls.push_back(no_flush ? "cr3 no flush" : "cr3");
}
void invalidate_page(Cpu& cpu, std::uint64_t linear) {
  test(cpu).calls.push_back("page " + std::to_string(linear));
}
void invalidate_pcid(Cpu& cpu, InvpcidType type, std::uint16_t pcid, std::uint64_t linear) {
  test(cpu).calls.push_back("pcid " + std::to_string(static_cast<int>(type)) + " " +
                            std::to_string(pcid) + " " + std::to_string(linear));
}
void access_flag_changed(Cpu& cpu) {
  test(cpu).calls.push_back((cpu.other_flags & eflags::kAc) != 0 ? "ac 1" : "ac 0");
}

// ---- platform_calls.h
// -----------------------------------------------------------------------------

bool platform_read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  const auto& msrs = test(cpu).platform_msrs;
  const auto it = msrs.find(index);
  if (it == msrs.end()) return false;
  value = it->second;
  return true;
}
bool platform_write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  auto& msrs = test(cpu).platform_msrs;
  const auto it = msrs.find(index);
  if (it == msrs.end()) return false;
  it->second = value;
  return true;
}
std::uint64_t platform_tsc(Cpu& /*cpu*/) { return 0x123456789A; }
void platform_cpuid(Cpu& /*cpu*/, std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t out[4]) {
  out[0] = leaf;
  out[1] = subleaf;
  out[2] = 0xCCCCCCCC;
  out[3] = 0xDDDDDDDD;
}
std::uint64_t platform_cr8(Cpu& cpu) { return test(cpu).task_priority; }
void platform_set_cr8(Cpu& cpu, std::uint64_t priority) { test(cpu).task_priority = priority; }
std::uint64_t platform_hypercall(Cpu& /*cpu*/, std::uint64_t nr, std::uint64_t a0, std::uint64_t a1,
                                 std::uint64_t a2, std::uint64_t a3) {
  return nr * 10000 + a0 * 1000 + a1 * 100 + a2 * 10 + a3;
}

// ---- TestCpu
// --------------------------------------------------------------------------------------

TestCpu::TestCpu() {
  constexpr std::uint16_t kRealData = 0x93;
  for (SegmentRegister& each : segment) {
    each = {.limit = 0xFFFF, .attributes = kRealData, .usable = true};
  }
  idt.limit = gdt.limit = 0xFFFF;
  cr0 = cr0::kEt;
}

Next TestCpu::step(std::initializer_list<std::uint8_t> text) {
  const std::uint64_t at = (mode == CodeMode::k64 ? 0 : reg(Segment::kCs).base) + rip;
  for (std::size_t i = 0; i < kMaxInsnLength; ++i) {
    ram[(at + i) % kSize] = i < text.size() ? *(text.begin() + i) : std::uint8_t{0x90};
  }
  Insn insn;
  std::array<std::uint8_t, kMaxInsnLength> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = ram[(at + i) % kSize];
  if (decode(bytes, mode, insn) != DecodeResult::kOk) return raise(*this, vector::kUndefined);
  io.rewind();
  const Next next = find_semantic(insn.op)(*this, insn);
  if (next == Next::kNext) rip += insn.length;
  return next;
}

Next TestCpu::step_and_deliver(std::initializer_list<std::uint8_t> text) {
  const Next next = step(text);
  return next == Next::kAborted ? deliver_fault(*this) : next;
}

bool TestCpu::called(const std::string& what) const {
  return std::find(calls.begin(), calls.end(), what) != calls.end();
}

// ---- Tables
// ---------------------------------------------------------------------------------------

namespace {

void write_gdt(TestCpu& cpu, bool is_long) {
  struct Entry {
    std::uint16_t selector;
    std::uint64_t descriptor;
  };
  const std::uint64_t code = is_long ? kCode64 : kCode32;
  const Entry entries[] = {
      {selector::kKernelCode, code},
      {selector::kKernelData, kData},
      {selector::kUserCode32, with_dpl(kCode32, 3)},
      {selector::kUserData, with_dpl(kData, 3)},
      {selector::kUserCode, with_dpl(code, 3)},
      {selector::kTss, system_descriptor(SystemType::kTss, place::kTss, 0x67)},
      {selector::kConformingCode, code | kConforming},
      {selector::kNotPresentCode, code & ~kNotPresent},
      {selector::kKernelCode32, kCode32},
      {selector::kNotPresentData, kData & ~kNotPresent},
      {selector::kRing1Data, with_dpl(kData, 1)},
      {selector::kReadOnlyData, kData & ~(1ull << 41)},
      {selector::kCode16, kCode16},
      {selector::kData16, kData16},
  };
  for (const Entry& entry : entries) {
    cpu.poke(place::kGdt + (entry.selector & ~7u), entry.descriptor);
  }
  cpu.gdt = {.base = place::kGdt, .limit = selector::kLast + 7};
}

void write_idt(TestCpu& cpu, bool is_long) {
  for (unsigned vector = 0; vector < 256; ++vector) {
    const auto number = static_cast<std::uint8_t>(vector);
    const std::uint64_t gate = gate_descriptor(SystemType::kInterruptGate, selector::kKernelCode,
                                               handler_of(number), vector == 3 ? 3 : 0);
    set_gate(cpu, number, gate);
  }
  cpu.idt = {.base = place::kIdt, .limit = static_cast<std::uint16_t>(is_long ? 0xFFF : 0x7FF)};
}

void load_kernel_segments(TestCpu& cpu, std::uint64_t code) {
  cpu.reg(Segment::kCs) = segment_register({.low = code}, selector::kKernelCode);
  for (const Segment which : {Segment::kDs, Segment::kEs, Segment::kSs}) {
    cpu.reg(which) = segment_register({.low = kData}, selector::kKernelData);
  }
  for (const Segment which : {Segment::kFs, Segment::kGs}) cpu.reg(which) = null_register(0);
  const std::uint64_t task = system_descriptor(SystemType::kBusyTss, place::kTss, 0x67);
  cpu.task = segment_register({.low = task}, selector::kTss);
  cpu.mode = code_mode_of(cpu);
  cpu.cpl = 0;
  cpu.rip = place::kKernelCode;
  cpu.gpr[kRsp] = place::kKernelStack;
}

}  // namespace

void set_gate(TestCpu& cpu, std::uint8_t vector, std::uint64_t first_half,
              std::uint64_t second_half) {
  if (!cpu.long_mode()) {
    cpu.poke(place::kIdt + vector * 8u, first_half);
    return;
  }
  cpu.poke(place::kIdt + vector * 16u, first_half);
  cpu.poke(place::kIdt + vector * 16u + 8, second_half);
}

void enter_long_mode(TestCpu& cpu) {
  cpu.cr0 = cr0::kPe | cr0::kPg | cr0::kEt | cr0::kNe | cr0::kWp;
  cpu.cr4 = cr4::kPae | cr4::kFsgsbase;
  cpu.efer = efer::kLme | efer::kLma | efer::kSce | efer::kNxe;
  write_gdt(cpu, true);
  write_idt(cpu, true);
  load_kernel_segments(cpu, kCode64);
  cpu.poke(place::kTss + 4, place::kKernelStack);      // RSP0
  cpu.poke(place::kTss + 36, place::kInterruptStack);  // IST1
  cpu.poke(place::kTss + 102, std::uint16_t{0x68});    // no I/O bitmap
  cpu.star = std::uint64_t{selector::kUserCode32} << 48 | std::uint64_t{selector::kKernelCode}
                                                              << 32;
  cpu.lstar = 0xFFFF800000001000;
  cpu.syscall_mask = eflags::kIf | eflags::kTf | eflags::kDf | eflags::kAc;
}

void enter_protected_mode(TestCpu& cpu) {
  cpu.cr0 = cr0::kPe | cr0::kEt;
  write_gdt(cpu, false);
  write_idt(cpu, false);
  load_kernel_segments(cpu, kCode32);
  cpu.poke(place::kTss + 4, static_cast<std::uint32_t>(place::kKernelStack));
  cpu.poke(place::kTss + 8, selector::kKernelData);
  cpu.poke(place::kTss + 102, std::uint16_t{0x68});
}

void enter_user(TestCpu& cpu) {
  const bool is_long = cpu.long_mode();
  cpu.reg(Segment::kCs) =
      segment_register({.low = with_dpl(is_long ? kCode64 : kCode32, 3)}, selector::kUserCode);
  for (const Segment which : {Segment::kDs, Segment::kEs, Segment::kSs}) {
    cpu.reg(which) = segment_register({.low = with_dpl(kData, 3)}, selector::kUserData);
  }
  cpu.cpl = 3;
  cpu.mode = code_mode_of(cpu);
  cpu.rip = place::kUserCode;
  cpu.gpr[kRsp] = place::kUserStack;
  cpu.calls.clear();
}

}  // namespace sm::soft
