#include "vmm/bus/bus.h"

#include <gtest/gtest.h>

#include <vector>

namespace sm {
namespace {

class Recorder : public BusDevice {
 public:
  std::string_view name() const override { return "recorder"; }
  void read(std::uint64_t offset, std::span<std::byte> out) override {
    offsets.push_back(offset);
    for (std::byte& b : out) b = std::byte{0x5a};
  }
  void write(std::uint64_t offset, std::span<const std::byte>) override {
    offsets.push_back(offset);
  }
  std::vector<std::uint64_t> offsets;
};

TEST(Bus, refuses_empty_wrapping_and_overlapping_ranges) {
  Bus bus;
  Recorder d;
  EXPECT_FALSE(bus.add(0x100, 0, d));
  EXPECT_FALSE(bus.add(~0ull, 2, d));
  ASSERT_TRUE(bus.add(0x100, 0x10, d));
  EXPECT_FALSE(bus.add(0x100, 0x10, d));
  EXPECT_FALSE(bus.add(0xf8, 9, d));
  EXPECT_FALSE(bus.add(0x10f, 1, d));
  EXPECT_FALSE(bus.add(0x80, 0x1000, d));
  EXPECT_TRUE(bus.add(0x110, 1, d));
  EXPECT_TRUE(bus.add(0xff, 1, d));
}

TEST(Bus, gives_the_device_its_offset) {
  Bus bus;
  Recorder d;
  ASSERT_TRUE(bus.add(0x100, 0x10, d));
  std::byte b[4] = {};
  bus.read(0x10c, b);
  bus.write(0x100, b);
  EXPECT_EQ(d.offsets, (std::vector<std::uint64_t>{0xc, 0}));
  EXPECT_EQ(b[3], std::byte{0x5a});
}

TEST(Bus, empty_space_and_accesses_over_the_end_read_as_ones) {
  Bus bus;
  Recorder d;
  ASSERT_TRUE(bus.add(0x100, 0x10, d));
  for (const std::uint64_t address : {0xffull, 0x10dull, 0x110ull, ~0ull}) {
    std::byte b[4] = {};
    bus.read(address, b);
    bus.write(address, b);
    EXPECT_EQ(b[0], std::byte{0xff}) << address;
  }
  EXPECT_TRUE(d.offsets.empty());
}

}  // namespace
}  // namespace sm
