#include "vmm/loader/kernel_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/file.h"
#include "vmm/loader/test_images.h"
#include "vmm/memory/addr_map.h"

namespace sm {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = 1ull << 20;

Result<LoadedKernel> load(GuestMemory& memory, std::span<const std::byte> bytes) {
  return load_kernel(memory, SpanSource(bytes));
}

std::uint8_t byte_at(const GuestMemory& memory, std::uint64_t at) {
  return memory.read_object<std::uint8_t>(GuestPhysAddr(at)).value();
}

class KernelImageTest : public ::testing::Test {
 protected:
  // The error for a changed image, as "code: cause".
  std::string elf_error(const std::function<void(test::ElfImage&)>& change) {
    test::ElfImage image;
    change(image);
    return error_of(image.bytes());
  }
  std::string bzimage_error(const std::function<void(test::BzImage&)>& change) {
    test::BzImage image;
    change(image);
    return error_of(image.bytes());
  }
  std::string error_of(std::span<const std::byte> bytes) {
    const auto kernel = load(*memory, bytes);
    if (kernel) return "none";
    return std::string(code_name(kernel.error().code())) + ": " + kernel.error().cause();
  }

  std::unique_ptr<GuestMemory> memory = GuestMemory::create(64 * kMiB).value();
};

TEST_F(KernelImageTest, elf_segments_go_to_their_physical_addresses) {
  const auto bytes = test::ElfImage().bytes();
  const auto kernel = load(*memory, bytes);
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_EQ(kernel->format, KernelFormat::kElf);
  EXPECT_EQ(kernel->entry.raw(), 0x100'0040u);
  EXPECT_EQ(kernel->start.raw(), 0x100'0000u);
  EXPECT_EQ(kernel->end.raw(), 0x110'2000u);
  EXPECT_EQ(byte_at(*memory, 0x100'0000), std::to_integer<int>(bytes[0x1000]));
  EXPECT_EQ(byte_at(*memory, 0x100'0FFF), std::to_integer<int>(bytes[0x1FFF]));
  EXPECT_EQ(byte_at(*memory, 0x110'07FF), std::to_integer<int>(bytes[0x27FF]));
  EXPECT_EQ(byte_at(*memory, 0x110'0800), 0) << "the tail stays zero";
  EXPECT_EQ(byte_at(*memory, 0x100'1000), 0);
}

TEST_F(KernelImageTest, elf_is_loaded_from_a_file_too) {
  const auto file = memory_file("vmlinux", test::ElfImage().bytes()).value();
  const auto kernel = load_kernel(*memory, FileSource::open(file.get()).value());
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_EQ(byte_at(*memory, 0x100'0001), byte_at(*memory, 0x100'0000) + 7);
}

TEST_F(KernelImageTest, elf_of_another_kind_is_unsupported) {
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_machine = EM_AARCH64; }),
              HasSubstr("not for x86-64"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_ident[EI_CLASS] = ELFCLASS32; }),
              HasSubstr("not for x86-64"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_ident[EI_DATA] = ELFDATA2MSB; }),
              HasSubstr("not for x86-64"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_type = ET_DYN; }), HasSubstr("file type 3"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_version = 2; }), HasSubstr("ELF version"));
}

TEST_F(KernelImageTest, elf_with_impossible_tables_is_refused) {
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_phnum = 65; }), HasSubstr("at most 64"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_phnum = 0xFFFF; }), HasSubstr("limit"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_phentsize = 32; }), HasSubstr("expected 56"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_phoff = 0x2FF0; }), HasSubstr("ends early"));
  EXPECT_THAT(elf_error([](auto& e) { e.header.e_phoff = ~0ull; }), HasSubstr("ends early"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[0].p_type = e.segments[1].p_type = PT_NULL; }),
              HasSubstr("nothing to load"));
}

TEST_F(KernelImageTest, elf_segments_that_contradict_themselves_are_corrupt) {
  EXPECT_THAT(elf_error([](auto& e) { e.segments[1].p_filesz = 0x2001; }),
              HasSubstr("segment 1 is larger in the file"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[0].p_offset = 0x2001; }),
              HasSubstr("segment 0 lies outside the file"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[0].p_offset = ~0ull - 8; }),
              HasSubstr("segment 0 lies outside the file"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[1].p_memsz = ~0ull; }),
              HasSubstr("segment 1 wraps around"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[1].p_paddr = 0x100'0FFF; }),
              HasSubstr("two segments overlap"));
  EXPECT_THAT(elf_error([](auto& e) { e.segments[0].p_paddr = 0x7000; }), HasSubstr("below 1 MiB"));
}

TEST_F(KernelImageTest, elf_entry_must_be_loaded_code) {
  for (const std::uint64_t entry : {0ull, 0xFF'FFFFull, 0x100'1000ull, 0x110'0000ull, ~0ull}) {
    EXPECT_THAT(elf_error([&](auto& e) { e.header.e_entry = entry; }), HasSubstr("entry point"));
  }
}

TEST_F(KernelImageTest, elf_that_does_not_fit_names_the_memory_needed) {
  const auto too_high = [](test::ElfImage& e) { e.segments[1].p_paddr = 64 * kMiB - 0x1000; };
  EXPECT_THAT(elf_error(too_high), HasSubstr("needs RAM up to 0x4001000, the VM has 64 MiB"));
  EXPECT_EQ(byte_at(*memory, 0x100'0001), 0) << "nothing is copied before all is checked";
  EXPECT_THAT(elf_error([](auto& e) { e.segments[1].p_memsz = 1ull << 40; }), HasSubstr("limit"));
}

TEST_F(KernelImageTest, elf_above_the_hole_is_refused_even_where_ram_is) {
  auto large = GuestMemory::create(addr_map::kLowRamEnd + kMiB).value();
  test::ElfImage image;
  image.segments[1].p_paddr = addr_map::kHighRamStart;
  EXPECT_EQ(load(*large, image.bytes()).error().code(), Code::kLimit);
}

TEST_F(KernelImageTest, bzimage_is_loaded_at_its_preferred_address) {
  const auto bytes = test::BzImage().bytes();
  const auto kernel = load(*memory, bytes);
  ASSERT_TRUE(kernel) << kernel.error().text();
  EXPECT_EQ(kernel->format, KernelFormat::kBzImage);
  EXPECT_EQ(kernel->start.raw(), 0x100'0000u);
  EXPECT_EQ(kernel->entry.raw(), 0x100'0200u);
  EXPECT_EQ(kernel->end.raw(), 0x120'0000u);
  EXPECT_EQ(kernel->initrd_end_max, 0x8000'0000u);
  EXPECT_EQ(kernel->command_line_max, 2047u);
  EXPECT_EQ(+kernel->header.pref_address, 0x100'0000u);
  EXPECT_EQ(byte_at(*memory, 0x100'0001), 5);
  EXPECT_EQ(byte_at(*memory, 0x100'0FFF), static_cast<std::uint8_t>(0xFFF * 5));
  EXPECT_EQ(byte_at(*memory, 0x100'1000), 0);
}

TEST_F(KernelImageTest, bzimage_moves_when_its_preferred_address_is_not_usable) {
  test::BzImage image;
  image.header.pref_address = 64 * kMiB - 0x10'0000;
  EXPECT_EQ(load(*memory, image.bytes())->start.raw(), 0x20'0000u);
  image.header.pref_address = 0x100'1000;
  EXPECT_EQ(load(*memory, image.bytes())->start.raw(), 0x20'0000u) << "not aligned";
  image.header.pref_address = 0x1000;
  EXPECT_EQ(load(*memory, image.bytes())->start.raw(), 0x20'0000u) << "not above 1 MiB";
  image.header.relocatable_kernel = 0;
  EXPECT_THAT(error_of(image.bytes()), HasSubstr("below 1 MiB"));
  image.header.pref_address = 64 * kMiB;
  EXPECT_THAT(error_of(image.bytes()), HasSubstr("needs RAM up to 0x4200000"));
}

TEST_F(KernelImageTest, bzimage_needs_all_of_init_size) {
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.init_size = 63 * kMiB; }),
              HasSubstr("the VM has 64 MiB"));
  EXPECT_EQ(bzimage_error([](auto& b) { b.header.init_size = 48 * kMiB; }), "none");
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.init_size = 0xFFFF'FFFF; }), HasSubstr("limit"));
  EXPECT_EQ(bzimage_error([](auto& b) { b.header.pref_address = ~0ull << 21; }), "none");
}

TEST_F(KernelImageTest, bzimage_that_is_too_old_or_32_bit_is_unsupported) {
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.version = 0x020B; }), HasSubstr("2.11"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.xloadflags = 0; }), HasSubstr("64-bit"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.loadflags = 0; }), HasSubstr("below 1 MiB"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.jump = 0x10; }), HasSubstr("64-bit"))
      << "fields behind the header's end do not count";
}

TEST_F(KernelImageTest, bzimage_that_contradicts_itself_is_corrupt) {
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.boot_flag = 0; }), HasSubstr("boot flag"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.syssize += 1; }), HasSubstr("truncated"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.syssize = ~0u; }), HasSubstr("truncated"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.syssize = 0x20; }), HasSubstr("no room"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.kernel_alignment = 0; }),
              HasSubstr("alignment"));
  EXPECT_THAT(bzimage_error([](auto& b) { b.header.kernel_alignment = 0x30'0000; }),
              HasSubstr("alignment"));
}

TEST_F(KernelImageTest, bzimage_may_carry_a_signature_behind_it) {
  auto bytes = test::BzImage().bytes();
  bytes.resize(bytes.size() + 333, std::byte{0xEE});
  const auto kernel = load(*memory, bytes);
  ASSERT_TRUE(kernel);
  EXPECT_EQ(byte_at(*memory, 0x100'1000), 0);
}

TEST_F(KernelImageTest, bzimage_without_a_sector_count_has_four) {
  test::BzImage image;
  image.header.setup_sects = 4;
  auto bytes = image.bytes();
  bytes[0x1F1] = std::byte{0};
  ASSERT_TRUE(load(*memory, bytes));
  EXPECT_EQ(byte_at(*memory, 0x100'0001), 5);
}

TEST_F(KernelImageTest, anything_else_is_no_kernel) {
  for (const std::size_t size : {0u, 1u, 4u, 0x205u, 0x206u, 4096u}) {
    const std::vector<std::byte> bytes(size, std::byte{0x7F});
    EXPECT_THAT(error_of(bytes), HasSubstr("not a bzImage or ELF kernel")) << size;
  }
  EXPECT_FALSE(FileSource::open(-1));
}

// Cutting a valid image anywhere gives an error, never a partly checked kernel.
TEST_F(KernelImageTest, truncation_is_always_noticed) {
  const auto elf = test::ElfImage().bytes();
  for (std::size_t size = 0; size < 0x2800; size += 61) {
    EXPECT_FALSE(load(*memory, std::span(elf).first(size))) << size;
  }
  const auto bz = test::BzImage().bytes();
  for (std::size_t size = 0; size < bz.size(); size += 61) {
    EXPECT_FALSE(load(*memory, std::span(bz).first(size))) << size;
  }
}

}  // namespace
}  // namespace sm
