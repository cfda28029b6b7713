// Everything that must lie in guest memory before a Linux kernel's first instruction, in one call.
//
//   LinuxBoot boot{.kernel = &vmlinux, .initrd = {&base, &config}, .command_line = "quiet", .vcpus
//   = 2}; GuestPhysAddr entry = SM_TRY(load_linux(memory, boot)); CpuState state =
//   SM_TRY(vcpu0.state()); SM_TRY_STATUS(enter_64bit_boot(memory, entry, state));
//   SM_TRY_STATUS(vcpu0.set_state(state));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "vmm/loader/boot_state.h"
#include "vmm/loader/byte_source.h"

namespace sm {

struct LinuxBoot {
  const ByteSource* kernel = nullptr;
  std::vector<const ByteSource*> initrd;  // cpio archives, later ones win; may be empty
  std::string_view engine_words;          // before the command line
  std::string command_line;
  std::uint32_t virtio_devices = 0;  // slots 0..n-1 are announced to the kernel
  std::uint32_t vcpus = 1;
};

// Loads kernel, initrd, command line, zero page and MP table into fresh memory; returns the 64-bit
// entry point.
Result<GuestPhysAddr> load_linux(GuestMemory& memory, const LinuxBoot& boot);

}  // namespace sm
