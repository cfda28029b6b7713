#include "vmm/loader/boot_state.h"

#include <array>

#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint64_t kPageTableSize = 4096;
constexpr std::size_t kEntriesPerTable = 512;
constexpr std::uint64_t kLargePage = 2ull << 20;
constexpr std::size_t kPageDirectories = 4;  // 1 GiB each

constexpr std::uint64_t kPresentWritable = 0x3;
constexpr std::uint64_t kLargePageBit = 0x80;

constexpr std::uint64_t kCr0ProtectedMode = 1ull << 0;
constexpr std::uint64_t kCr0ExtensionType = 1ull << 4;
constexpr std::uint64_t kCr0NumericError = 1ull << 5;
constexpr std::uint64_t kCr0Paging = 1ull << 31;
constexpr std::uint64_t kCr4Pae = 1ull << 5;
constexpr std::uint64_t kEferLongModeEnable = 1ull << 8;
constexpr std::uint64_t kEferLongModeActive = 1ull << 10;
constexpr std::uint64_t kRflagsReserved = 2;

// __BOOT_CS and __BOOT_DS of the boot protocol; the task register is needed by VT-x.
constexpr std::uint16_t kCodeSelector = 0x10;
constexpr std::uint16_t kDataSelector = 0x18;
constexpr std::uint16_t kTaskSelector = 0x20;

constexpr std::uint64_t kCodeDescriptor = 0x00AF'9B00'0000'FFFF;
constexpr std::uint64_t kDataDescriptor = 0x00CF'9300'0000'FFFF;
constexpr std::uint64_t kTaskDescriptorLow = 0x0000'8B00'0000'0067;
constexpr std::array<std::uint64_t, 6> kGdt = {
    0, 0, kCodeDescriptor, kDataDescriptor, kTaskDescriptorLow, 0};

constexpr std::size_t kRsp = 4;
constexpr std::size_t kRsi = 6;

static_assert(addr_map::kBootPageTables + (2 + kPageDirectories) * kPageTableSize <=
              addr_map::kCommandLine);
static_assert(addr_map::kGdtStart + sizeof(kGdt) <= addr_map::kBootParams);

// PML4, one PDPT, four page directories of 2 MiB pages: virtual = physical below 4 GiB.
Status write_page_tables(GuestMemory& memory) {
  const std::uint64_t pml4 = addr_map::kBootPageTables;
  const std::uint64_t pdpt = pml4 + kPageTableSize;
  const std::uint64_t directories = pdpt + kPageTableSize;
  SM_TRY_STATUS(memory.write_object(GuestPhysAddr(pml4), pdpt | kPresentWritable));

  std::array<std::uint64_t, kPageDirectories> pdpt_entries{};
  std::array<std::uint64_t, kPageDirectories * kEntriesPerTable> pages{};
  for (std::size_t i = 0; i < pdpt_entries.size(); ++i) {
    pdpt_entries[i] = (directories + i * kPageTableSize) | kPresentWritable;
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    pages[i] = i * kLargePage | kPresentWritable | kLargePageBit;
  }
  SM_TRY_STATUS(memory.write_object(GuestPhysAddr(pdpt), pdpt_entries));
  return memory.write_object(GuestPhysAddr(directories), pages);
}

SegmentState flat_segment(std::uint16_t selector, std::uint8_t type) {
  return SegmentState{.limit = 0xFFFF'FFFF,
                      .selector = selector,
                      .type = type,
                      .present = true,
                      .code_or_data = true,
                      .granularity = true};
}

void set_segments(CpuState& state) {
  constexpr std::uint8_t kCodeReadable = 0xB;  // accessed
  constexpr std::uint8_t kDataWritable = 0x3;  // accessed
  constexpr std::uint8_t kBusyTss = 0xB;
  state.cs = flat_segment(kCodeSelector, kCodeReadable);
  state.cs.long_mode = true;
  SegmentState data = flat_segment(kDataSelector, kDataWritable);
  data.default_big = true;
  state.ds = state.es = state.fs = state.gs = state.ss = data;
  state.tr =
      SegmentState{.limit = 0x67, .selector = kTaskSelector, .type = kBusyTss, .present = true};
  state.ldt = SegmentState{.unusable = true};
  state.gdt = {.base = addr_map::kGdtStart, .limit = sizeof(kGdt) - 1};
  state.idt = {};
}

}  // namespace

Status enter_64bit_boot(GuestMemory& memory, GuestPhysAddr entry, CpuState& state) {
  SM_TRY_STATUS(write_page_tables(memory));
  SM_TRY_STATUS(memory.write_object(GuestPhysAddr(addr_map::kGdtStart), kGdt));

  set_segments(state);
  state.gpr.fill(0);
  state.gpr[kRsp] = addr_map::kBootStackTop;
  state.gpr[kRsi] = addr_map::kBootParams;
  state.rip = entry.raw();
  state.rflags = kRflagsReserved;
  // The reset state's cache-disable bits are cleared: the kernel would run uncached at first.
  state.cr0 = kCr0ProtectedMode | kCr0ExtensionType | kCr0NumericError | kCr0Paging;
  state.cr2 = 0;
  state.cr3 = addr_map::kBootPageTables;
  state.cr4 = kCr4Pae;
  state.efer |= kEferLongModeEnable | kEferLongModeActive;
  state.mp_state = MpState::kRunnable;
  return {};
}

}  // namespace sm
