#include "vmm/loader/mptable.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "vmm/cpu/engine.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint32_t kIoApicPins = 24;
constexpr std::size_t kFloatingPointerSize = 16;
constexpr std::size_t kRoom = 1024;        // the rest of base memory
constexpr std::uint8_t kSpecRevision = 4;  // 1.4
// What the local APIC and IOAPIC version registers of both engines read as.
constexpr std::uint8_t kLapicVersion = 0x14;
constexpr std::uint8_t kIoApicVersion = 0x11;

// Entry types. Spec: 4.3.
constexpr std::uint8_t kEntryCpu = 0;
constexpr std::uint8_t kEntryBus = 1;
constexpr std::uint8_t kEntryIoApic = 2;
constexpr std::uint8_t kEntryIoInterrupt = 3;
constexpr std::uint8_t kEntryLocalInterrupt = 4;

constexpr std::uint8_t kCpuEnabled = 1;
constexpr std::uint8_t kCpuBoot = 2;
constexpr std::uint32_t kCpuSignature = 0x600;       // family 6; informative
constexpr std::uint32_t kCpuFeatures = 1 | 1u << 9;  // FPU, APIC; informative
constexpr std::uint8_t kIsaBus = 0;
constexpr std::uint8_t kIoApicEnabled = 1;
constexpr std::uint8_t kTypeInt = 0;
constexpr std::uint8_t kTypeNmi = 1;
constexpr std::uint8_t kTypeExtInt = 3;
constexpr std::uint16_t kEdgeActiveHigh = 1 | 1 << 2;
constexpr std::uint16_t kConforming = 0;
constexpr std::uint8_t kAllCpus = 0xFF;

void put_text(ByteWriter& out, std::string_view text) { out.put_bytes(as_byte_span(text)); }

// Sets the byte at `at` so that [from, from+length) sums to zero.
void set_checksum(std::vector<std::byte>& bytes, std::size_t from, std::size_t length,
                  std::size_t at) {
  unsigned sum = 0;
  for (std::size_t i = from; i < from + length; ++i) sum += std::to_integer<unsigned>(bytes[i]);
  bytes[at] = static_cast<std::byte>(0u - sum);
}

void put_interrupt(ByteWriter& out, std::uint8_t entry, std::uint8_t type, std::uint16_t flags,
                   std::array<std::uint8_t, 3> irq_destination_pin) {
  out.put(entry);
  out.put(type);
  out.put(flags);
  out.put(kIsaBus);
  for (const std::uint8_t byte : irq_destination_pin) out.put(byte);
}

// All entries; returns how many.
std::uint16_t put_entries(ByteWriter& out, std::uint8_t cpus) {
  std::uint16_t count = 0;
  for (std::uint8_t id = 0; id < cpus; ++id, ++count) {
    out.put(kEntryCpu);
    out.put(id);
    out.put(kLapicVersion);
    out.put(static_cast<std::uint8_t>(id == 0 ? kCpuEnabled | kCpuBoot : kCpuEnabled));
    out.put(kCpuSignature);
    out.put(kCpuFeatures);
    out.put(std::uint64_t{0});
  }
  out.put(kEntryBus);
  out.put(kIsaBus);
  put_text(out, "ISA   ");
  ++count;

  // Spec: 3.6.6: APIC ids of CPUs and IOAPICs are distinct.
  const std::uint8_t io_apic_id = cpus;
  out.put(kEntryIoApic);
  out.put(io_apic_id);
  out.put(kIoApicVersion);
  out.put(kIoApicEnabled);
  out.put(static_cast<std::uint32_t>(addr_map::kIoApicBase));
  ++count;

  // Pin 0 is announced like the others although no timer chip is behind it: Linux uses the local
  // APIC's deadline timer and then never looks.
  for (std::uint8_t pin = 0; pin < kIoApicPins; ++pin, ++count) {
    put_interrupt(out, kEntryIoInterrupt, kTypeInt, kEdgeActiveHigh, {pin, io_apic_id, pin});
  }
  // LINT0 of the boot CPU is where an 8259 would be, LINT1 of all is NMI.
  put_interrupt(out, kEntryLocalInterrupt, kTypeExtInt, kConforming, {0, 0, 0});
  put_interrupt(out, kEntryLocalInterrupt, kTypeNmi, kConforming, {0, kAllCpus, 1});
  return static_cast<std::uint16_t>(count + 2);
}

}  // namespace

Status write_mp_table(GuestMemory& memory, std::uint32_t cpus) {
  if (cpus == 0 || cpus > kMaxVcpus) {
    return fail(Code::kInvalidArgument, fmt::format("{} vCPUs are not possible", cpus),
                fmt::format("use 1 to {}", kMaxVcpus));
  }
  constexpr std::size_t kConfig = kFloatingPointerSize;
  ByteWriter out;
  // Floating pointer. Spec: 4.1. Feature byte 2 = 0: virtual wire mode, no IMCR.
  put_text(out, "_MP_");
  out.put(static_cast<std::uint32_t>(addr_map::kMpTable + kConfig));
  out.put(std::uint8_t{1});  // length in paragraphs
  out.put(kSpecRevision);
  out.put(std::uint8_t{0});  // checksum
  for (int i = 0; i < 5; ++i) out.put(std::uint8_t{0});

  // Configuration table header. Spec: 4.2.
  put_text(out, "PCMP");
  out.put(std::uint16_t{0});  // length
  out.put(kSpecRevision);
  out.put(std::uint8_t{0});  // checksum
  put_text(out, "SUPERMCH");
  put_text(out, "MICROVM     ");
  out.put(std::uint32_t{0});  // OEM table
  out.put(std::uint16_t{0});
  out.put(std::uint16_t{0});  // entry count
  out.put(static_cast<std::uint32_t>(addr_map::kLapicBase));
  out.put(std::uint32_t{0});  // extended table: none

  const std::uint16_t entries = put_entries(out, static_cast<std::uint8_t>(cpus));
  std::vector<std::byte> bytes = out.release();
  const auto length = static_cast<std::uint16_t>(bytes.size() - kConfig);
  std::memcpy(&bytes[kConfig + 4], &length, sizeof(length));
  std::memcpy(&bytes[kConfig + 34], &entries, sizeof(entries));
  set_checksum(bytes, 0, kFloatingPointerSize, 10);
  set_checksum(bytes, kConfig, length, kConfig + 7);
  static_assert(kFloatingPointerSize + 44 + kMaxVcpus * 20 + 8 + 8 + (kIoApicPins + 2) * 8 <=
                kRoom);
  return memory.write(GuestPhysAddr(addr_map::kMpTable), bytes);
}

}  // namespace sm
