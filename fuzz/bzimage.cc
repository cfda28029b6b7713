// The bzImage half of the kernel loader on arbitrary setup headers, and the zero page made from
// them. The input is the setup part's first KiB; a payload of zeros follows, because libFuzzer
// would never find the sizes by itself.
#include <algorithm>
#include <vector>

#include "vmm/loader/boot_params.h"
#include "vmm/loader/initrd.h"
#include "vmm/loader/kernel_image.h"
#include "vmm/memory/addr_map.h"

namespace {

constexpr std::uint64_t kMemory = 32ull << 20;
constexpr std::size_t kFileSize = 0x4000;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto memory = sm::GuestMemory::create(kMemory);
  if (!memory) return 0;
  std::vector<std::byte> file(kFileSize);
  std::copy_n(reinterpret_cast<const std::byte*>(data), std::min(size, file.size()), file.begin());

  const auto kernel = sm::load_bzimage_kernel(**memory, sm::SpanSource(file));
  if (!kernel) return 0;
  const auto length = kernel->end.offset_from(kernel->start);
  if (!length || !(*memory)->contains(kernel->start, *length)) __builtin_trap();
  if (kernel->start.raw() < sm::addr_map::kHighMemoryStart) __builtin_trap();
  if (kernel->entry < kernel->start || kernel->entry >= kernel->end) __builtin_trap();
  if (kernel->command_line_max >= sm::addr_map::kCommandLineMax) __builtin_trap();

  const sm::SpanSource part(std::span(file).first(1000));
  const sm::ByteSource* parts[] = {&part};
  const auto initrd = sm::place_initrd(**memory, *kernel, parts);
  if (initrd &&
      (initrd->start < kernel->end || !(*memory)->contains(initrd->start, initrd->size))) {
    __builtin_trap();
  }
  std::optional<sm::InitrdPlacement> placement;
  if (initrd) placement = *initrd;
  const sm::CommandLinePlacement line{.start = sm::GuestPhysAddr(sm::addr_map::kCommandLine),
                                      .length = 0};
  if (!sm::write_boot_params(**memory, *kernel, line, placement)) __builtin_trap();
  return 0;
}
