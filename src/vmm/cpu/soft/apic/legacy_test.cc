#include "vmm/cpu/soft/apic/legacy.h"

#include <gtest/gtest.h>

#include "vmm/cpu/soft/apic/apic_fakes.h"

namespace sm::soft {
namespace {

class Legacy : public ::testing::Test {
 protected:
  void out(std::uint16_t port, std::uint8_t value) {
    std::array data = {std::byte{value}};
    EXPECT_TRUE(ports.access(port, true, data)) << port;
  }
  int in(std::uint16_t port) {
    std::array data = {std::byte{0xEE}};
    EXPECT_TRUE(ports.access(port, false, data)) << port;
    return static_cast<int>(data[0]);
  }
  int cmos(std::uint8_t index) {
    out(0x70, index);
    return in(0x71);
  }
  FakeClock clock;
  LegacyPorts ports{clock};
};

TEST_F(Legacy, each_mask_register_reads_back) {
  out(0x21, 0xFB);
  out(0xA1, 0x12);
  EXPECT_EQ(in(0x21), 0xFB);
  EXPECT_EQ(in(0xA1), 0x12);
  EXPECT_EQ(in(0x20), 0);
  EXPECT_EQ(in(0xA0), 0);
}

TEST_F(Legacy, initialization_words_are_not_the_mask) {
  out(0x20, 0x11);  // cascaded, with a fourth word
  EXPECT_EQ(in(0x21), 0);
  out(0x21, 0x30);
  out(0x21, 0x04);
  out(0x21, 0x01);
  EXPECT_EQ(in(0x21), 0);
  out(0x21, 0xFF);
  EXPECT_EQ(in(0x21), 0xFF);
  out(0xA0, 0x12);  // single, three words less two
  out(0xA1, 0x38);
  out(0xA1, 0x55);
  EXPECT_EQ(in(0xA1), 0x55);
  out(0x20, 0x60);  // end of interrupt
  EXPECT_EQ(in(0x21), 0xFF);
}

TEST_F(Legacy, the_clock_tells_the_date_and_never_updates) {
  clock.wall = 1'718'454'896ull * 1'000'000'000;  // Saturday, 2024-06-15 12:34:56
  EXPECT_EQ(cmos(0x00), 0x56);
  EXPECT_EQ(cmos(0x02), 0x34);
  EXPECT_EQ(cmos(0x04), 0x12);
  EXPECT_EQ(cmos(0x06), 7);
  EXPECT_EQ(cmos(0x07), 0x15);
  EXPECT_EQ(cmos(0x88), 0x06);  // with NMI masked
  EXPECT_EQ(cmos(0x09), 0x24);
  EXPECT_EQ(cmos(0x32), 0x20);
  EXPECT_EQ(cmos(0x0A) & 0x80, 0);
  EXPECT_EQ(cmos(0x0B), 2);
  EXPECT_EQ(cmos(0x0D), 0x80);
  EXPECT_EQ(cmos(0x40), 0);
  EXPECT_EQ(in(0x70), 0xFF);
}

TEST_F(Legacy, other_ports_and_widths_are_somebody_else_s) {
  std::array<std::byte, 2> two{};
  EXPECT_FALSE(ports.access(0x20, true, two));
  std::array<std::byte, 1> one{};
  constexpr std::array<std::uint16_t, 9> kOthers = {0x22, 0x40, 0x43, 0x61, 0x64,
                                                    0x72, 0x80, 0xA2, 0x3F8};
  for (const std::uint16_t port : kOthers) {
    EXPECT_FALSE(ports.access(port, false, one)) << port;
  }
}

}  // namespace
}  // namespace sm::soft
