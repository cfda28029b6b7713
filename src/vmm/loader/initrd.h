// Places the initial RAM disk: cpio archives one behind the other, each starting at a multiple of 4
// as Linux wants it.
#pragma once

#include <span>

#include "base/result.h"
#include "vmm/loader/boot_params.h"
#include "vmm/loader/byte_source.h"
#include "vmm/loader/kernel_image.h"

namespace sm {

// Copies all parts to the highest page-aligned place below the kernel's limit and above the kernel.
// kLimit when they do not fit, naming the memory that is needed.
Result<InitrdPlacement> place_initrd(GuestMemory& memory, const LoadedKernel& kernel,
                                     std::span<const ByteSource* const> parts);

}  // namespace sm
