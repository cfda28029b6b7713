// Small kernels made by hand for the loader's tests: just enough of an ELF and of a bzImage.
#pragma once

#include <asm/bootparam.h>
#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace sm::test {

struct ElfImage {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> segments;
  std::uint64_t payload_size = 0x3000;

  // Two segments as a vmlinux has them: code at 16 MiB, data with a zeroed tail behind it.
  ElfImage() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x100'0040;
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_phentsize = sizeof(Elf64_Phdr);
    segments.push_back({.p_type = PT_LOAD,
                        .p_flags = PF_R | PF_X,
                        .p_offset = 0x1000,
                        .p_vaddr = 0xFFFF'FFFF'8100'0000,
                        .p_paddr = 0x100'0000,
                        .p_filesz = 0x1000,
                        .p_memsz = 0x1000,
                        .p_align = 0x1000});
    segments.push_back({.p_type = PT_LOAD,
                        .p_flags = PF_R | PF_W,
                        .p_offset = 0x2000,
                        .p_vaddr = 0xFFFF'FFFF'8110'0000,
                        .p_paddr = 0x110'0000,
                        .p_filesz = 0x800,
                        .p_memsz = 0x2000,
                        .p_align = 0x1000});
    segments.push_back({.p_type = PT_NOTE,
                        .p_flags = PF_R,
                        .p_offset = 0,
                        .p_vaddr = 0,
                        .p_paddr = 0,
                        .p_filesz = 0x10,
                        .p_memsz = 0x10,
                        .p_align = 4});
  }

  // Byte i of the file behind the headers is i * 7.
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> out(payload_size);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7);
    Elf64_Ehdr copy = header;
    if (copy.e_phnum == 0) copy.e_phnum = static_cast<Elf64_Half>(segments.size());
    std::memcpy(out.data(), &copy, sizeof(copy));
    std::memcpy(out.data() + sizeof(copy), segments.data(), segments.size() * sizeof(segments[0]));
    return out;
  }
};

struct BzImage {
  setup_header header{};
  std::uint8_t jump = 0x6A;  // the header of protocol 2.15 ends at 0x26C
  std::uint64_t payload_size = 0x1000;

  BzImage() {
    header.setup_sects = 3;
    header.syssize = static_cast<std::uint32_t>(payload_size / 16);
    header.boot_flag = 0xAA55;
    header.header = 0x53726448;
    header.version = 0x020F;
    header.loadflags = LOADED_HIGH;
    header.initrd_addr_max = 0x7FFF'FFFF;
    header.kernel_alignment = 0x20'0000;
    header.relocatable_kernel = 1;
    header.xloadflags = XLF_KERNEL_64;
    header.cmdline_size = 2047;
    header.pref_address = 0x100'0000;
    header.init_size = 0x20'0000;
  }

  // Byte i of the payload is i * 5.
  std::vector<std::byte> bytes() const {
    const std::size_t setup = (header.setup_sects + 1u) * 512u;
    std::vector<std::byte> out(setup + payload_size);
    for (std::size_t i = 0; i < payload_size; ++i) out[setup + i] = static_cast<std::byte>(i * 5);
    std::memcpy(out.data() + 0x1F1, &header, sizeof(header));
    out[0x201] = static_cast<std::byte>(jump);
    return out;
  }
};

}  // namespace sm::test
