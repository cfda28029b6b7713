#include "vmm/loader/linux_boot.h"

#include <fmt/format.h>

#include <optional>

#include "vmm/loader/boot_params.h"
#include "vmm/loader/cmdline.h"
#include "vmm/loader/initrd.h"
#include "vmm/loader/kernel_image.h"
#include "vmm/loader/mptable.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

// Devices first: whatever the caller's text ends with ("-- args for init") cannot hide them.
Result<CommandLinePlacement> write_command_line(GuestMemory& memory, const LinuxBoot& boot,
                                                std::uint32_t max_length) {
  CommandLine line(max_length);
  for (std::uint32_t slot = 0; slot < boot.virtio_devices; ++slot) {
    SM_TRY_STATUS(line.add_virtio_mmio(addr_map::virtio_base(slot), addr_map::kVirtioMmioSize,
                                       addr_map::virtio_gsi(slot)));
  }
  SM_TRY_STATUS(line.append(boot.engine_words, "the engine's words"));
  SM_TRY_STATUS(line.append(boot.command_line, "--cmdline"));
  SM_TRY_STATUS(line.write(memory));
  return CommandLinePlacement{.start = GuestPhysAddr(addr_map::kCommandLine),
                              .length = static_cast<std::uint32_t>(line.text().size())};
}

}  // namespace

Result<GuestPhysAddr> load_linux(GuestMemory& memory, const LinuxBoot& boot) {
  if (boot.virtio_devices > addr_map::kMaxVirtioSlots) {
    return fail(Code::kLimit, fmt::format("{} virtio devices, at most {} are possible",
                                          boot.virtio_devices, addr_map::kMaxVirtioSlots));
  }
  const LoadedKernel kernel = SM_TRY_WITH(load_kernel(memory, *boot.kernel), "load kernel");
  std::optional<InitrdPlacement> initrd;
  if (!boot.initrd.empty()) {
    initrd = SM_TRY_WITH(place_initrd(memory, kernel, boot.initrd), "load initramfs");
  }
  const auto line = SM_TRY(write_command_line(memory, boot, kernel.command_line_max));
  SM_TRY_STATUS(write_boot_params(memory, kernel, line, initrd));
  SM_TRY_STATUS(write_mp_table(memory, boot.vcpus));
  return kernel.entry;
}

}  // namespace sm
