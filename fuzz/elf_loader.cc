// The ELF half of the kernel loader on arbitrary files: no bad access, nothing loaded below 1 MiB,
// and what is reported as loaded lies in RAM.
#include "vmm/loader/kernel_image.h"
#include "vmm/memory/addr_map.h"

namespace {

constexpr std::uint64_t kMemory = 32ull << 20;

// The zero page, page tables and MP table live here; no image may write to it.
bool low_memory_is_untouched(const sm::GuestMemory& memory) {
  for (std::uint64_t at = 0; at < sm::addr_map::kHighMemoryStart; at += 0x1'0000) {
    if (memory.read_object<std::uint64_t>(sm::GuestPhysAddr(at)).value_or(1) != 0) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto memory = sm::GuestMemory::create(kMemory);
  if (!memory) return 0;
  const sm::SpanSource image(std::as_bytes(std::span(data, size)));
  const auto kernel = sm::load_elf_kernel(**memory, image);
  if (kernel) {
    const auto length = kernel->end.offset_from(kernel->start);
    if (!length || !(*memory)->contains(kernel->start, *length)) __builtin_trap();
    if (kernel->entry < kernel->start || kernel->entry >= kernel->end) __builtin_trap();
  }
  if (!low_memory_is_untouched(**memory)) __builtin_trap();
  return 0;
}
