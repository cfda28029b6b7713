// The ELF half of kernel_image.h: PT_LOAD segments go to their physical addresses.
#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "vmm/loader/kernel_image.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

// Limit: Linux has at most half a dozen; more is a broken or hostile file.
constexpr std::uint16_t kMaxProgramHeaders = 64;

struct Segment {
  std::uint64_t file_offset;
  std::uint64_t file_size;
  std::uint64_t start;
  std::uint64_t end;       // start + size in memory
  std::uint64_t data_end;  // start + size in the file
  bool executable;
};

tl::unexpected<Error> bad(Code code, std::string_view what) {
  return fail(code, fmt::format("ELF kernel: {}", what));
}

Status check_header(const Elf64_Ehdr& header) {
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64) {
    return bad(Code::kUnsupported, "not for x86-64");
  }
  if (header.e_ident[EI_VERSION] != EV_CURRENT || header.e_version != EV_CURRENT) {
    return bad(Code::kCorrupt, "unknown ELF version");
  }
  if (header.e_type != ET_EXEC) {
    return bad(Code::kUnsupported,
               fmt::format("file type {} is not a fixed-address executable", header.e_type));
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return bad(Code::kCorrupt, fmt::format("program headers of {} bytes, expected {}",
                                           header.e_phentsize, sizeof(Elf64_Phdr)));
  }
  if (header.e_phnum == 0) return bad(Code::kCorrupt, "no program headers");
  if (header.e_phnum > kMaxProgramHeaders) {
    return bad(Code::kLimit, fmt::format("{} program headers, at most {} are read", header.e_phnum,
                                         kMaxProgramHeaders));
  }
  return {};
}

// The n-th program header as a checked segment.
Result<Segment> checked_segment(const Elf64_Phdr& header, std::size_t n, std::uint64_t file_size) {
  if (header.p_filesz > header.p_memsz) {
    return bad(Code::kCorrupt, fmt::format("segment {} is larger in the file than in memory", n));
  }
  if (!fits(header.p_offset, header.p_filesz, file_size)) {
    return bad(Code::kCorrupt, fmt::format("segment {} lies outside the file", n));
  }
  const auto end = checked_add<std::uint64_t>(header.p_paddr, header.p_memsz);
  if (!end) return bad(Code::kCorrupt, fmt::format("segment {} wraps around", n));
  // Below are the zero page, the page tables and the MP table.
  if (header.p_paddr < addr_map::kHighMemoryStart) {
    return bad(Code::kUnsupported, fmt::format("segment {} is at {:#x}, below 1 MiB", n,
                                               std::uint64_t{header.p_paddr}));
  }
  return Segment{.file_offset = header.p_offset,
                 .file_size = header.p_filesz,
                 .start = header.p_paddr,
                 .end = *end,
                 .data_end = header.p_paddr + header.p_filesz,
                 .executable = (header.p_flags & PF_X) != 0};
}

// All loadable segments in order of address, none overlapping another.
Result<std::vector<Segment>> read_segments(const ByteSource& image, const Elf64_Ehdr& header) {
  std::vector<Elf64_Phdr> table(header.e_phnum);
  SM_TRY_STATUS(image.read(header.e_phoff, std::as_writable_bytes(std::span(table))));
  std::vector<Segment> segments;
  for (std::size_t n = 0; n < table.size(); ++n) {
    if (table[n].p_type != PT_LOAD || table[n].p_memsz == 0) continue;
    segments.push_back(SM_TRY(checked_segment(table[n], n, image.size())));
  }
  if (segments.empty()) return bad(Code::kCorrupt, "nothing to load");
  std::sort(segments.begin(), segments.end(),
            [](const Segment& a, const Segment& b) { return a.start < b.start; });
  for (std::size_t n = 1; n < segments.size(); ++n) {
    if (segments[n].start < segments[n - 1].end) {
      return bad(Code::kCorrupt, fmt::format("two segments overlap at {:#x}", segments[n].start));
    }
  }
  return segments;
}

// What a boot loader would find in a bzImage of the same kernel, as far as the kernel reads it.
setup_header header_of_elf_kernel() {
  setup_header header{};
  header.boot_flag = 0xAA55;
  header.header = 0x53726448;  // "HdrS"
  header.version = 0x020F;
  header.loadflags = LOADED_HIGH;
  header.cmdline_size = addr_map::kCommandLineMax - 1;
  return header;
}

}  // namespace

Result<LoadedKernel> load_elf_kernel(GuestMemory& memory, const ByteSource& image) {
  const auto header = SM_TRY_WITH(image.read_object<Elf64_Ehdr>(0), "ELF kernel");
  SM_TRY_STATUS(check_header(header));
  const auto segments = SM_TRY_WITH(read_segments(image, header), "program headers");

  const auto holds_entry = [&](const Segment& s) {
    return s.executable && header.e_entry >= s.start && header.e_entry < s.data_end;
  };
  if (std::none_of(segments.begin(), segments.end(), holds_entry)) {
    return bad(Code::kCorrupt, fmt::format("the entry point {:#x} is in no executable segment",
                                           std::uint64_t{header.e_entry}));
  }
  const std::uint64_t end = segments.back().end;
  for (const Segment& s : segments) {
    if (s.end > addr_map::kLowRamEnd || !memory.contains(GuestPhysAddr(s.start), s.end - s.start)) {
      return kernel_does_not_fit(memory, s.end);
    }
  }
  for (const Segment& s : segments) {
    SM_TRY_STATUS(image.read_to_guest(s.file_offset, s.file_size, memory, GuestPhysAddr(s.start)));
  }
  return LoadedKernel{.format = KernelFormat::kElf,
                      .entry = GuestPhysAddr(header.e_entry),
                      .start = GuestPhysAddr(segments.front().start),
                      .end = GuestPhysAddr(end),
                      .initrd_end_max = addr_map::kLowRamEnd,
                      .command_line_max = addr_map::kCommandLineMax - 1,
                      .header = header_of_elf_kernel()};
}

}  // namespace sm
