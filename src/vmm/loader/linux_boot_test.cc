// Everything the loader puts beside the kernel: zero page, initrd, command line, CPU state.
#include "vmm/loader/linux_boot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "vmm/loader/boot_params.h"
#include "vmm/loader/cmdline.h"
#include "vmm/loader/cpio.h"
#include "vmm/loader/initrd.h"
#include "vmm/loader/test_images.h"
#include "vmm/memory/addr_map.h"

namespace sm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint64_t kMiB = 1ull << 20;

boot_params zero_page(const GuestMemory& memory) {
  return memory.read_object<boot_params>(GuestPhysAddr(addr_map::kBootParams)).value();
}

std::string guest_text(const GuestMemory& memory, std::uint64_t at, std::size_t length) {
  std::string text(length, '\0');
  EXPECT_TRUE(memory.read(GuestPhysAddr(at), std::as_writable_bytes(std::span(text))));
  return text;
}

struct Range {
  std::uint64_t start, end;
  std::uint32_t type;
  bool operator==(const Range&) const = default;
};

std::vector<Range> ranges(const GuestMemory& memory) {
  std::vector<Range> out;
  for (const auto& e : e820_map(memory)) out.push_back({e.addr, e.addr + e.size, e.type});
  return out;
}

TEST(E820, small_memory_is_one_range_above_one_mib) {
  const auto memory = GuestMemory::create(64 * kMiB).value();
  EXPECT_EQ(ranges(*memory),
            (std::vector<Range>{{0, 0x9FC00, 1}, {0x9FC00, 0xA0000, 2}, {kMiB, 64 * kMiB, 1}}));
}

TEST(E820, large_memory_continues_above_four_gib) {
  const auto memory = GuestMemory::create(6 * 1024 * kMiB).value();
  EXPECT_EQ(
      ranges(*memory),
      (std::vector<Range>{{0, 0x9FC00, 1},
                          {0x9FC00, 0xA0000, 2},
                          {kMiB, addr_map::kLowRamEnd, 1},
                          {0x1'0000'0000, 0x1'0000'0000 + 6 * 1024 * kMiB - 0xD000'0000, 1}}));
}

TEST(E820, one_mib_has_nothing_above_one_mib) {
  const auto memory = GuestMemory::create(kMiB).value();
  EXPECT_EQ(ranges(*memory).size(), 2u);
}

TEST(BootParams, tells_the_kernel_where_everything_is) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto kernel = load_kernel(*memory, SpanSource(test::BzImage().bytes())).value();
  const CommandLinePlacement line{.start = GuestPhysAddr(0x2'0000), .length = 3};
  const InitrdPlacement initrd{.start = GuestPhysAddr(0x1'2345'6000), .size = 0x2'0000'0001};
  ASSERT_TRUE(write_boot_params(*memory, kernel, line, initrd));
  const boot_params params = zero_page(*memory);
  EXPECT_EQ(+params.hdr.header, 0x53726448u);
  EXPECT_EQ(+params.hdr.init_size, 0x20'0000u) << "the image's own header";
  EXPECT_EQ(+params.hdr.type_of_loader, 0xFF);
  EXPECT_EQ(+params.hdr.cmd_line_ptr, 0x2'0000u);
  EXPECT_EQ(+params.hdr.ramdisk_image, 0x2345'6000u);
  EXPECT_EQ(+params.ext_ramdisk_image, 1u);
  EXPECT_EQ(+params.hdr.ramdisk_size, 1u);
  EXPECT_EQ(+params.ext_ramdisk_size, 2u);
  EXPECT_EQ(+params.acpi_rsdp_addr, 0u);
  EXPECT_EQ(+params.sentinel, 0);
  EXPECT_EQ(+params.e820_entries, 3);
}

TEST(Initrd, parts_are_padded_and_lie_at_the_top_of_memory) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto kernel = load_kernel(*memory, SpanSource(test::ElfImage().bytes())).value();
  const auto file = memory_file("base", as_byte_span("abcde")).value();
  const auto base = FileSource::open(file.get()).value();
  const SpanSource extra(as_byte_span("XY"));
  const ByteSource* parts[] = {&base, &extra};
  const auto placed = place_initrd(*memory, kernel, parts);
  ASSERT_TRUE(placed) << placed.error().text();
  EXPECT_EQ(placed->start.raw(), 64 * kMiB - 4096);
  EXPECT_EQ(placed->size, 12u);
  EXPECT_EQ(guest_text(*memory, placed->start.raw(), 12), std::string("abcde\0\0\0XY\0\0", 12));
}

TEST(Initrd, respects_the_kernels_limit) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  auto kernel = load_kernel(*memory, SpanSource(test::ElfImage().bytes())).value();
  const SpanSource part(as_byte_span("abcd"));
  const ByteSource* parts[] = {&part};
  kernel.initrd_end_max = 32 * kMiB + 5;
  EXPECT_EQ(place_initrd(*memory, kernel, parts)->start.raw(), 32 * kMiB);
}

// 17 MiB of kernel: what is left for the initrd is known to the byte.
TEST(Initrd, fits_exactly_or_says_how_much_memory_is_needed) {
  auto memory = GuestMemory::create(20 * kMiB).value();
  const auto kernel = load_kernel(*memory, SpanSource(test::ElfImage().bytes())).value();
  std::vector<std::byte> bytes(20 * kMiB - kernel.end.raw());
  SpanSource exact(bytes);
  const ByteSource* parts[] = {&exact};
  EXPECT_EQ(place_initrd(*memory, kernel, parts)->start, kernel.end);
  bytes.resize(bytes.size() + 1);
  exact = SpanSource(bytes);
  const auto error = place_initrd(*memory, kernel, parts).error();
  EXPECT_EQ(error.code(), Code::kLimit);
  EXPECT_THAT(error.cause(),
              StartsWith("memory too small: kernel and initial RAM disk need 21 MiB"));
  auto more = GuestMemory::create(21 * kMiB).value();
  EXPECT_TRUE(place_initrd(*more, kernel, parts));
}

// A source that only claims its size.
class HugeSource final : public ByteSource {
 public:
  explicit HugeSource(std::uint64_t size) : size_(size) {}
  std::uint64_t size() const override { return size_; }
  Status read(std::uint64_t, std::span<std::byte>) const override { return unreachable(); }
  Status read_to_guest(std::uint64_t, std::uint64_t, GuestMemory&, GuestPhysAddr) const override {
    return unreachable();
  }

 private:
  static Status unreachable() {
    ADD_FAILURE() << "was read";
    return {};
  }
  std::uint64_t size_;
};

TEST(Initrd, absurd_sizes_are_refused_unread) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto kernel = load_kernel(*memory, SpanSource(test::BzImage().bytes())).value();
  for (const std::uint64_t size : {64 * kMiB, 3000 * kMiB, kMiB << 20, ~kMiB, ~std::uint64_t{0}}) {
    const HugeSource one(size);
    const HugeSource two(size);
    const ByteSource* parts[] = {&one, &two};
    EXPECT_EQ(place_initrd(*memory, kernel, parts).error().code(), Code::kLimit) << size;
  }
  const HugeSource beyond_limit(2048 * kMiB);
  const ByteSource* parts[] = {&beyond_limit};
  EXPECT_THAT(place_initrd(*memory, kernel, parts).error().cause(),
              HasSubstr("the most this kernel can reach"));
}

TEST(CommandLine, parts_are_joined_and_devices_announced) {
  CommandLine line(200);
  ASSERT_TRUE(line.append("  console=ttyS0 quiet ", "base"));
  ASSERT_TRUE(line.append("", "empty"));
  ASSERT_TRUE(line.add_virtio_mmio(GuestPhysAddr(0xD000'1000), 0x1000, 6));
  ASSERT_TRUE(line.add_virtio_mmio(GuestPhysAddr(0xD000'2000), 0x200, 7));
  EXPECT_EQ(line.text(),
            "console=ttyS0 quiet virtio_mmio.device=4K@0xd0001000:6 "
            "virtio_mmio.device=512@0xd0002000:7");
  auto memory = GuestMemory::create(kMiB).value();
  ASSERT_TRUE(line.write(*memory));
  EXPECT_EQ(guest_text(*memory, addr_map::kCommandLine, line.text().size() + 1),
            line.text() + std::string(1, '\0'));
}

TEST(CommandLine, the_longest_line_fits_and_one_more_byte_does_not) {
  const std::string text(10, 'a');
  CommandLine line(20);
  ASSERT_TRUE(line.append(text, "first"));
  const auto error = line.append(text, "second").error();
  EXPECT_EQ(error.code(), Code::kLimit);
  EXPECT_EQ(error.cause(),
            "second: the kernel command line would be 21 bytes long, 20 are possible");
  EXPECT_EQ(line.text(), text) << "a refused part leaves nothing behind";
  EXPECT_TRUE(line.append(text.substr(1), "third"));
  EXPECT_FALSE(line.append("b", "fourth"));
  EXPECT_FALSE(CommandLine(0).append("b", "none"));
}

TEST(CommandLine, only_printable_ascii_is_taken) {
  CommandLine line(100);
  for (const std::string& bad : {std::string("a\nb"), std::string("a\0b", 3), std::string("\x7f"),
                                 std::string("t\tb"), std::string("\xc3\xa9")}) {
    const auto status = line.append(bad, "--cmdline");
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(status.error().cause(), StartsWith("--cmdline: byte 0x"));
  }
  EXPECT_EQ(line.text(), "");
}

TEST(CommandLine, nothing_is_hidden_by_quotes_or_end_marks) {
  CommandLine line(200);
  EXPECT_THAT(line.append("dyndbg=\"file x", "a").error().cause(), HasSubstr("not closed"));
  ASSERT_TRUE(line.append("a=\"x -- y\" --no b--", "b"));
  ASSERT_TRUE(line.append("quiet -- init args", "c"));
  EXPECT_THAT(line.append("ro", "d").error().cause(), HasSubstr("would not read it"));
  EXPECT_TRUE(line.append("  ", "blank"));
  CommandLine lone(10);
  ASSERT_TRUE(lone.append("--", "e"));
  EXPECT_FALSE(lone.append("ro", "f"));
}

TEST(LinuxBoot, places_everything_and_devices_come_first) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto image = test::BzImage().bytes();
  const SpanSource kernel(image);
  const SpanSource config(as_byte_span("conf"));
  const LinuxBoot boot{.kernel = &kernel,
                       .initrd = {&config},
                       .engine_words = "nopti",
                       .command_line = "quiet -- x",
                       .virtio_devices = 2,
                       .vcpus = 2};
  EXPECT_EQ(load_linux(*memory, boot)->raw(), 0x100'0200u);
  const boot_params params = zero_page(*memory);
  EXPECT_EQ(+params.hdr.ramdisk_size, 4u);
  EXPECT_EQ(guest_text(*memory, params.hdr.ramdisk_image, 4), "conf");
  const std::string expected =
      "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 nopti quiet -- x";
  EXPECT_EQ(guest_text(*memory, params.hdr.cmd_line_ptr, expected.size() + 1),
            expected + std::string(1, '\0'));
  EXPECT_EQ(guest_text(*memory, addr_map::kMpTable, 4), "_MP_");
}

TEST(LinuxBoot, without_an_initrd_none_is_announced) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto image = test::ElfImage().bytes();
  const SpanSource kernel(image);
  ASSERT_TRUE(load_linux(*memory, {.kernel = &kernel, .command_line = "quiet"}));
  EXPECT_EQ(+zero_page(*memory).hdr.ramdisk_image, 0u);
  EXPECT_EQ(+zero_page(*memory).hdr.ramdisk_size, 0u);
}

TEST(LinuxBoot, impossible_wishes_are_errors) {
  auto memory = GuestMemory::create(64 * kMiB).value();
  const auto image = test::BzImage().bytes();
  const SpanSource kernel(image);
  EXPECT_EQ(load_linux(*memory, {.kernel = &kernel, .vcpus = 0}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(load_linux(*memory, {.kernel = &kernel, .vcpus = 33}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(load_linux(*memory, {.kernel = &kernel, .virtio_devices = 65}).error().code(),
            Code::kLimit);
  EXPECT_THAT(load_linux(*memory, {.kernel = &kernel, .command_line = "a\rb"}).error().cause(),
              HasSubstr("--cmdline: byte 0x0d"));
}

TEST(BootState, maps_the_first_four_gib_onto_themselves) {
  auto memory = GuestMemory::create(kMiB).value();
  CpuState state;
  ASSERT_TRUE(enter_64bit_boot(*memory, GuestPhysAddr(0x100'0200), state));
  const auto entry = [&](std::uint64_t table, std::uint64_t index) {
    return memory->read_object<std::uint64_t>(GuestPhysAddr((table & ~0xFFFull) + index * 8))
        .value();
  };
  for (const std::uint64_t address : {0ull, 0x100'0200ull, 0xD000'0000ull, 0xFFFF'FFFFull}) {
    const std::uint64_t pdpt = entry(state.cr3, address >> 39 & 511);
    const std::uint64_t directory = entry(pdpt, address >> 30 & 511);
    const std::uint64_t page = entry(directory, address >> 21 & 511);
    EXPECT_EQ(pdpt & 0xFFF, 3u);
    EXPECT_EQ(directory & 0xFFF, 3u);
    EXPECT_EQ(page, (address & ~0x1F'FFFFull) | 0x83) << address;
  }
  EXPECT_EQ(entry(entry(state.cr3, 0), 4), 0u) << "nothing above";
  EXPECT_EQ(entry(state.cr3, 1), 0u);
}

TEST(BootState, follows_the_64_bit_boot_protocol) {
  auto memory = GuestMemory::create(kMiB).value();
  CpuState state;
  state.cr0 = 0x6000'0010;
  state.apic_base = 0xFEE0'0900;
  state.gpr.fill(0xAA);
  ASSERT_TRUE(enter_64bit_boot(*memory, GuestPhysAddr(0x100'0200), state));
  EXPECT_EQ(state.rip, 0x100'0200u);
  EXPECT_EQ(state.gpr[6], addr_map::kBootParams);
  EXPECT_EQ(state.gpr[0], 0u);
  EXPECT_EQ(state.rflags, 2u) << "interrupts off";
  EXPECT_EQ(state.cr0, 0x8000'0031u);
  EXPECT_EQ(state.cr4, 0x20u);
  EXPECT_EQ(state.efer, 0x500u);
  EXPECT_EQ(state.apic_base, 0xFEE0'0900u) << "the engine's own";
  EXPECT_EQ(state.cs.selector, 0x10);
  EXPECT_TRUE(state.cs.long_mode);
  EXPECT_FALSE(state.cs.default_big);
  for (const SegmentState* s : {&state.ds, &state.es, &state.ss}) {
    EXPECT_EQ(s->selector, 0x18);
    EXPECT_EQ(s->limit, 0xFFFF'FFFFu);
  }
  // The descriptors in memory say what the loaded segments say.
  const auto descriptor = [&](std::uint16_t selector) {
    return memory->read_object<std::uint64_t>(GuestPhysAddr(state.gdt.base + selector)).value();
  };
  EXPECT_LE(state.tr.selector + 15, state.gdt.limit);
  EXPECT_EQ(descriptor(state.cs.selector) >> 40 & 0xF, state.cs.type);
  EXPECT_EQ(descriptor(state.cs.selector) >> 53 & 1, 1u);
  EXPECT_EQ(descriptor(state.ds.selector) >> 40 & 0xF, state.ds.type);
  EXPECT_EQ(descriptor(state.tr.selector) >> 40 & 0xF, state.tr.type);
}

// Reads an archive back as "path mode size" lines.
std::string listing(std::span<const std::byte> archive) {
  std::string out;
  std::size_t at = 0;
  while (at + 110 <= archive.size()) {
    const std::string_view header = as_text(archive.subspan(at, 110));
    EXPECT_EQ(header.substr(0, 6), "070701");
    const auto field = [&](std::size_t n) {
      return std::stoul(std::string(header.substr(6 + n * 8, 8)), nullptr, 16);
    };
    const std::size_t name_size = field(11);
    const std::size_t size = field(6);
    const std::string name(as_text(archive.subspan(at + 110, name_size - 1)));
    const std::size_t data = (at + 110 + name_size + 3) & ~std::size_t{3};
    char line[64];
    std::snprintf(line, sizeof(line), " %lo %lu %lu\n", field(1), field(4), size);
    out += name + line + std::string(as_text(archive.subspan(data, size)));
    at = (data + size + 3) & ~std::size_t{3};
  }
  EXPECT_EQ(at, archive.size());
  return out;
}

TEST(Cpio, archive_reads_back_as_written) {
  CpioWriter writer;
  ASSERT_TRUE(writer.add_directory("etc", 0755));
  ASSERT_TRUE(writer.add_file("etc/a", 0640, as_byte_span("12345\n")));
  ASSERT_TRUE(writer.add_file("config.json", 0100600, as_byte_span("{}\n")));
  ASSERT_TRUE(writer.add_file("empty", 0400, {}));
  const auto archive = writer.finish();
  EXPECT_EQ(archive.size() % 4, 0u);
  EXPECT_EQ(listing(archive),
            "etc 40755 2 0\n"
            "etc/a 100640 1 6\n12345\n"
            "config.json 100600 1 3\n{}\n"
            "empty 100400 1 0\n"
            "TRAILER!!! 0 1 0\n");
}

TEST(Cpio, the_same_calls_give_the_same_bytes) {
  CpioWriter writer;
  ASSERT_TRUE(writer.add_file("x", 0600, as_byte_span("1")));
  const auto first = writer.finish();
  ASSERT_TRUE(writer.add_file("x", 0600, as_byte_span("1")));
  EXPECT_EQ(writer.finish(), first);
}

TEST(Cpio, paths_that_mean_something_else_are_refused) {
  CpioWriter writer;
  for (const std::string& path :
       {std::string(), std::string("/abs"), std::string("a/../b"), std::string("."),
        std::string("a//b"), std::string("a/"), std::string("TRAILER!!!"), std::string("a\0b", 3),
        std::string(2000, 'p')}) {
    EXPECT_FALSE(writer.add_file(path, 0600, {})) << path;
    EXPECT_FALSE(writer.add_directory(path, 0700)) << path;
  }
  EXPECT_EQ(listing(writer.finish()), "TRAILER!!! 0 1 0\n");
}

}  // namespace
}  // namespace sm
