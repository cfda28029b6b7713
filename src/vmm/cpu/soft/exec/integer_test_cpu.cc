#include "vmm/cpu/soft/exec/integer_test_cpu.h"

#include "vmm/cpu/soft/access.h"
#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/locked.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMaxText = 15;

}  // namespace

IntegerCpu::IntegerCpu() : read_entries(kTlbEntries), write_entries(kTlbEntries) {
  for (std::size_t i = 0; i < kTlbEntries; ++i) {
    read_entries[i] = write_entries[i] = {(i ^ 1) << 12, nullptr};
  }
  read_tlb = read_entries.data();
  write_tlb = write_entries.data();
}

void IntegerCpu::fill_tlb() {
  for (std::uint64_t page = 0; page < kSize / kPage; ++page) {
    if (absent.contains(page) || device.contains(page)) continue;
    auto* host = reinterpret_cast<std::byte*>(ram.data() + page * kPage);
    read_entries[page % kTlbEntries] = {page * kPage, host};
    if (!read_only.contains(page)) write_entries[page % kTlbEntries] = {page * kPage, host};
  }
}

Next IntegerCpu::run(std::initializer_list<std::uint8_t> text) {
  std::array<std::uint8_t, kMaxText> bytes;
  bytes.fill(0x90);
  std::copy(text.begin(), text.end(), bytes.begin());
  Insn insn;
  if (decode(bytes, mode, insn) != DecodeResult::kOk) return raise(*this, vector::kUndefined);
  io.rewind();
  const Next next = semantic_of(insn.op)(*this, insn);
  if (next != Next::kAborted || !io.waiting()) io.clear();
  if (next == Next::kNext) rip += insn.length;
  return next;
}

Next IntegerCpu::run_to_end(std::initializer_list<std::uint8_t> text) {
  for (looks = 0;; ++looks) {
    const Next next = run(text);
    if (next != Next::kRepeat) return next;
  }
}

void enter_16bit_protected_mode(IntegerCpu& cpu) {
  enter_protected_mode(cpu);
  cpu.reg(Segment::kCs) = segment_register({.low = kCode16}, selector::kCode16);
  cpu.reg(Segment::kSs) = segment_register({.low = kData16}, selector::kData16);
  cpu.mode = CodeMode::k16;
  cpu.rip = 0x1000;
}

std::byte* host_for_run(Cpu& cpu, std::uint64_t linear, std::uint32_t size, bool is_write) {
  return probe(is_write ? cpu.write_tlb : cpu.read_tlb, linear, size);
}

std::byte* host_for_atomic(Cpu& cpu, std::uint64_t linear, std::uint32_t size) {
  auto& self = static_cast<IntegerCpu&>(cpu);
  if (self.refuse_atomic || linear % 64 + size > 64) return nullptr;
  if (self.shared != nullptr) return self.shared + linear % kPage;
  return reinterpret_cast<std::byte*>(self.ram.data() + linear % TestCpu::kSize);
}

bool with_others_stopped(Cpu& cpu, const std::function<bool()>& work) {
  ++static_cast<IntegerCpu&>(cpu).stops;
  return work();
}

}  // namespace sm::soft
