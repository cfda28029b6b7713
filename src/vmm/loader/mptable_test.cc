#include "vmm/loader/mptable.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <optional>
#include <set>
#include <vector>

#include "base/bytes.h"
#include "vmm/memory/addr_map.h"

namespace sm {
namespace {

// The table as a guest reads it: by the specification's own rules, not by the writer's constants.
struct MpTable {
  std::vector<std::array<std::uint8_t, 3>> cpus;  // id, version, flags
  std::vector<std::uint8_t> buses;
  std::vector<std::pair<std::uint8_t, std::uint32_t>> io_apics;  // id, address
  std::vector<std::array<std::uint8_t, 3>> interrupts;           // irq, io_apic, pin
  std::vector<std::array<std::uint8_t, 3>> local;                // type, apic, lint
  std::uint32_t lapic = 0;
};

unsigned sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0u,
                         [](unsigned s, std::byte b) { return s + std::to_integer<unsigned>(b); }) &
         0xFF;
}

std::uint8_t u8(ByteReader& in) { return in.take<std::uint8_t>().value(); }

void read_entry(ByteReader& in, MpTable& out) {
  switch (u8(in)) {
    case 0: {
      const std::uint8_t id = u8(in);
      const std::uint8_t version = u8(in);
      const std::uint8_t flags = u8(in);
      out.cpus.push_back({id, version, flags});
      (void)in.take_bytes(16);
      break;
    }
    case 1:
      out.buses.push_back(u8(in));
      EXPECT_EQ(as_text(*in.take_bytes(6)), "ISA   ");
      break;
    case 2: {
      const std::uint8_t id = u8(in);
      (void)u8(in);
      EXPECT_EQ(u8(in), 1) << "enabled";
      out.io_apics.emplace_back(id, in.take<std::uint32_t>().value());
      break;
    }
    case 3: {
      EXPECT_EQ(u8(in), 0) << "vectored";
      EXPECT_EQ(in.take<std::uint16_t>(), 0x5) << "active high, edge";
      EXPECT_EQ(u8(in), 0) << "bus";
      const std::uint8_t irq = u8(in);
      const std::uint8_t apic = u8(in);
      out.interrupts.push_back({irq, apic, u8(in)});
      break;
    }
    case 4: {
      const std::uint8_t type = u8(in);
      (void)in.take_bytes(4);
      const std::uint8_t apic = u8(in);
      out.local.push_back({type, apic, u8(in)});
      break;
    }
    default:
      ADD_FAILURE() << "unknown entry";
  }
}

std::optional<MpTable> read_table(const GuestMemory& memory) {
  std::array<std::byte, 1024> bytes{};
  EXPECT_TRUE(memory.read(GuestPhysAddr(addr_map::kMpTable), bytes));
  const std::span<const std::byte> base(bytes);
  ByteReader pointer(base.first(16));
  EXPECT_EQ(sum(base.first(16)), 0u);
  EXPECT_EQ(as_text(*pointer.take_bytes(4)), "_MP_");
  const std::uint64_t config = pointer.take<std::uint32_t>().value() - addr_map::kMpTable;
  EXPECT_EQ(u8(pointer), 1);
  EXPECT_EQ(u8(pointer), 4);

  ByteReader header(base.subspan(config));
  EXPECT_EQ(as_text(*header.take_bytes(4)), "PCMP");
  const std::uint16_t length = header.take<std::uint16_t>().value();
  if (config + length > base.size()) return std::nullopt;
  EXPECT_EQ(sum(base.subspan(config, length)), 0u);
  (void)header.take_bytes(2 + 8 + 12 + 6);
  const std::uint16_t count = header.take<std::uint16_t>().value();

  MpTable table;
  table.lapic = header.take<std::uint32_t>().value();
  ByteReader entries(base.subspan(config + 44, length - 44u));
  for (std::uint16_t i = 0; i < count; ++i) read_entry(entries, table);
  EXPECT_TRUE(entries.at_end());
  return table;
}

class MpTableTest : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(MpTableTest, describes_all_cpus_and_pins) {
  auto memory = GuestMemory::create(1u << 20).value();
  ASSERT_TRUE(write_mp_table(*memory, GetParam()));
  const auto table = read_table(*memory);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->lapic, addr_map::kLapicBase);
  ASSERT_EQ(table->cpus.size(), GetParam());
  std::set<std::uint8_t> ids;
  for (std::size_t i = 0; i < table->cpus.size(); ++i) {
    EXPECT_EQ(table->cpus[i][0], i);
    EXPECT_EQ(table->cpus[i][1], 0x14);
    EXPECT_EQ(table->cpus[i][2], i == 0 ? 3 : 1);
    ids.insert(table->cpus[i][0]);
  }
  ASSERT_EQ(table->io_apics.size(), 1u);
  EXPECT_EQ(table->io_apics[0].second, addr_map::kIoApicBase);
  EXPECT_FALSE(ids.contains(table->io_apics[0].first)) << "APIC ids are distinct";
  EXPECT_EQ(table->buses, std::vector<std::uint8_t>{0});

  ASSERT_EQ(table->interrupts.size(), 24u);
  for (std::uint8_t pin = 0; pin < 24; ++pin) {
    EXPECT_EQ(table->interrupts[pin],
              (std::array<std::uint8_t, 3>{pin, table->io_apics[0].first, pin}));
  }
  EXPECT_EQ(table->local, (std::vector<std::array<std::uint8_t, 3>>{{3, 0, 0}, {1, 0xFF, 1}}));
}

INSTANTIATE_TEST_SUITE_P(Cpus, MpTableTest, ::testing::Values(1, 2, 4, 31, 32));

TEST(MpTable, refuses_impossible_counts) {
  auto memory = GuestMemory::create(1u << 20).value();
  for (const std::uint32_t cpus : {0u, 33u, 256u, ~0u}) {
    EXPECT_EQ(write_mp_table(*memory, cpus).error().code(), Code::kInvalidArgument) << cpus;
  }
}

}  // namespace
}  // namespace sm
