#include "vmm/loader/initrd.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint64_t kPartAlignment = 4;
constexpr std::uint64_t kMiB = 1ull << 20;

tl::unexpected<Error> too_large() {
  return fail(Code::kLimit, "the initial RAM disk is larger than any guest's memory");
}

Result<std::uint64_t> total_size(std::span<const ByteSource* const> parts) {
  std::uint64_t total = 0;
  for (const ByteSource* part : parts) {
    const auto padded = align_up(part->size(), kPartAlignment);
    const auto sum = padded ? checked_add(total, *padded) : std::nullopt;
    if (!sum || *sum > addr_map::kLowRamEnd) return too_large();
    total = *sum;
  }
  return total;
}

}  // namespace

Result<InitrdPlacement> place_initrd(GuestMemory& memory, const LoadedKernel& kernel,
                                     std::span<const ByteSource* const> parts) {
  const std::uint64_t size = SM_TRY(total_size(parts));
  const std::uint64_t limit = std::min(memory.regions().front().size, kernel.initrd_end_max);
  const std::uint64_t lowest = align_up(kernel.end.raw(), addr_map::kPageSize).value_or(limit);
  const std::uint64_t start = size > limit ? 0 : (limit - size) & ~(addr_map::kPageSize - 1);
  if (start < lowest) {
    // Below kLowRamEnd twice: no overflow.
    const std::uint64_t needed = (lowest + size + addr_map::kPageSize) / kMiB + 1;
    if (needed * kMiB > kernel.initrd_end_max) {
      return fail(Code::kLimit,
                  fmt::format("the initial RAM disk of {} MiB does not fit below {:#x}, the most "
                              "this kernel can reach",
                              size / kMiB, kernel.initrd_end_max));
    }
    return fail(Code::kLimit,
                fmt::format("memory too small: kernel and initial RAM disk need {} MiB, the VM has "
                            "{} MiB",
                            needed, memory.size() / kMiB),
                fmt::format("give the VM at least {} MiB of memory", needed));
  }
  std::uint64_t at = start;
  for (const ByteSource* part : parts) {
    SM_TRY_STATUS(part->read_to_guest(0, part->size(), memory, GuestPhysAddr(at)));
    at += align_up(part->size(), kPartAlignment).value_or(0);
  }
  return InitrdPlacement{.start = GuestPhysAddr(start), .size = size};
}

}  // namespace sm
