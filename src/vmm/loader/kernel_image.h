// Puts a Linux kernel image into guest memory. Two formats, told apart by their exact magics: an
// ELF64 vmlinux and a bzImage with a 64-bit entry. The image is untrusted.
// Spec: Linux Documentation/x86/boot.rst (protocol 2.12+); ELF-64 object file format.
#pragma once

#include <asm/bootparam.h>

#include <cstdint>

#include "base/result.h"
#include "vmm/loader/byte_source.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

enum class KernelFormat : std::uint8_t { kElf, kBzImage };

struct LoadedKernel {
  KernelFormat format;
  GuestPhysAddr entry;  // the 64-bit entry point
  // [start, end) is the kernel's alone until it has read the memory map.
  GuestPhysAddr start, end;
  std::uint64_t initrd_end_max;    // the initrd must end at or below this address
  std::uint32_t command_line_max;  // the longest command line it takes, without the final NUL
  setup_header header;             // for the zero page; made up for an ELF kernel
};

// `memory` is fresh (all zero): the parts that a kernel expects zeroed are not written.
// Errors: kUnsupported for a file that is not such a kernel or lacks what is needed here, kCorrupt
// for one that contradicts itself, kLimit when it does not fit into the memory.
Result<LoadedKernel> load_kernel(GuestMemory& memory, const ByteSource& image);

// The two formats, for images whose magic was recognised.
Result<LoadedKernel> load_elf_kernel(GuestMemory& memory, const ByteSource& image);
Result<LoadedKernel> load_bzimage_kernel(GuestMemory& memory, const ByteSource& image);

// The error for a kernel that needs RAM up to `end`.
tl::unexpected<Error> kernel_does_not_fit(const GuestMemory& memory, std::uint64_t end);

}  // namespace sm
