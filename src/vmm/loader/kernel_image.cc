#include "vmm/loader/kernel_image.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>

namespace sm {

namespace {

constexpr std::uint64_t kSetupMagicOffset = 0x202;
constexpr std::uint32_t kSetupMagic = 0x53726448;  // "HdrS"
constexpr std::uint64_t kMiB = 1ull << 20;

}  // namespace

tl::unexpected<Error> kernel_does_not_fit(const GuestMemory& memory, std::uint64_t end) {
  return fail(
      Code::kLimit,
      fmt::format("the kernel needs RAM up to {:#x}, the VM has {} MiB", end, memory.size() / kMiB),
      fmt::format("give the VM at least {} MiB of memory", end / kMiB + 1));
}

Result<LoadedKernel> load_kernel(GuestMemory& memory, const ByteSource& image) {
  const auto elf_magic = image.read_object<std::array<char, SELFMAG>>(0);
  if (elf_magic && std::memcmp(elf_magic->data(), ELFMAG, SELFMAG) == 0) {
    return load_elf_kernel(memory, image);
  }
  const auto setup_magic = image.read_object<std::uint32_t>(kSetupMagicOffset);
  if (setup_magic && *setup_magic == kSetupMagic) return load_bzimage_kernel(memory, image);
  return fail(Code::kUnsupported, "not a bzImage or ELF kernel: neither magic was found",
              "give an uncompressed vmlinux or an x86-64 bzImage");
}

}  // namespace sm
