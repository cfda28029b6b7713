#include "vmm/platform/uart16550.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"

namespace sm {
namespace {

enum Reg : std::uint64_t { kData, kIer, kIir, kLcr, kMcr, kLsr, kMsr, kScr };
constexpr std::uint64_t kFcr = kIir;

class CountingLine final : public IrqLine {
 public:
  void trigger() override { ++count; }
  std::atomic<int> count{0};
};

class UartTest : public ::testing::Test {
 protected:
  std::uint8_t in(std::uint64_t offset) {
    std::byte value{};
    uart.read(offset, {&value, 1});
    return std::to_integer<std::uint8_t>(value);
  }
  void out(std::uint64_t offset, unsigned value) {
    const std::byte byte = static_cast<std::byte>(value);
    uart.write(offset, {&byte, 1});
  }
  // As a driver leaves it when its port is open: FIFOs, DTR, RTS, OUT2.
  void open_port() {
    out(kFcr, 0x07);
    out(kMcr, 0x0B);
    irq.count = 0;
  }
  std::string received(std::size_t n) {
    std::string text;
    while (text.size() < n && (in(kLsr)&1) != 0) text += static_cast<char>(in(kData));
    return text;
  }

  CountingLine irq;
  ConsoleLog log;
  Uart16550 uart{irq, log};
};

TEST_F(UartTest, what_is_sent_reaches_the_sink_in_order) {
  for (const char c : std::string("hello\n")) out(kData, static_cast<unsigned char>(c));
  EXPECT_EQ(log.tail(100), "hello\n");
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(irq.count, 0);
}

TEST_F(UartTest, the_divisor_latch_hides_data_and_interrupt_enable) {
  out(kIer, 0x05);
  out(kLcr, 0x83);
  out(kData, 0x34);
  out(kIer, 0x12);
  EXPECT_EQ(in(kData), 0x34);
  EXPECT_EQ(in(kIer), 0x12);
  out(kLcr, 0x03);
  EXPECT_EQ(in(kIer), 0x05);
  EXPECT_EQ(log.total(), 0u);
}

TEST_F(UartTest, probing_finds_a_16550a) {
  out(kIer, 0xFF);
  EXPECT_EQ(in(kIer), 0x0F);  // the upper half is hard-wired
  out(kIer, 0);
  out(kScr, 0xA5);
  EXPECT_EQ(in(kScr), 0xA5);
  EXPECT_EQ(in(kIir), 0x01);
  out(kFcr, 0x01);
  EXPECT_EQ(in(kIir)&0xC0, 0xC0);
  out(kFcr, 0x00);
  EXPECT_EQ(in(kIir)&0xC0, 0x00);
}

TEST_F(UartTest, loopback_wires_modem_outputs_to_inputs) {
  EXPECT_EQ(in(kMsr), 0xB0);
  out(kMcr, 0x10 | 0x0A);
  EXPECT_EQ(in(kMsr)&0xF0, 0x90);
  EXPECT_EQ(in(kMsr)&0x0F, 0x00) << "reading clears the change bits";
  out(kMcr, 0x10 | 0x04);
  EXPECT_EQ(in(kMsr)&0xF4, 0x40) << "a beginning ring is no change";
  out(kMcr, 0x10);
  EXPECT_EQ(in(kMsr)&0xF4, 0x04);
}

TEST_F(UartTest, loopback_returns_bytes_and_reports_an_overrun) {
  out(kFcr, 0x01);
  out(kMcr, 0x10);
  for (unsigned i = 0; i < 17; ++i) out(kData, 'a' + i);
  EXPECT_EQ(log.total(), 0u);
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kLsr), 0x61) << "the overrun is reported once";
  EXPECT_EQ(received(100), "abcdefghijklmnop");
}

TEST_F(UartTest, transmit_interrupt_comes_when_enabled_and_after_each_acknowledged_byte) {
  out(kIer, 0x02);
  EXPECT_EQ(irq.count, 1);
  EXPECT_EQ(in(kIir), 0x02);
  EXPECT_EQ(in(kIir), 0x01) << "reading it acknowledges";
  out(kData, 'x');
  EXPECT_EQ(irq.count, 2);
  out(kData, 'y');
  EXPECT_EQ(irq.count, 2) << "the line is still high";
  EXPECT_EQ(in(kIir), 0x02);
  out(kIer, 0x00);
  out(kIer, 0x02);
  EXPECT_EQ(irq.count, 3);
}

TEST_F(UartTest, input_waits_until_the_driver_is_ready_and_survives_its_resets) {
  EXPECT_EQ(uart.offer_input(as_byte_span("early")), 5u);
  EXPECT_EQ(in(kLsr)&1, 0);
  out(kFcr, 0x07);
  out(kMcr, 0x10 | 0x02);
  EXPECT_EQ(in(kLsr)&1, 0) << "not while in loopback";
  out(kIer, 0x05);
  open_port();
  EXPECT_EQ(received(100), "early");
}

TEST_F(UartTest, every_burst_of_input_pulls_the_line) {
  open_port();
  out(kIer, 0x01);
  EXPECT_EQ(uart.offer_input(as_byte_span("0123456789abcdefXY")), 18u);
  EXPECT_EQ(irq.count, 1);
  EXPECT_EQ(in(kIir), 0xC4);
  EXPECT_EQ(received(16), "0123456789abcdef");
  EXPECT_EQ(irq.count, 2) << "the rest is a burst of its own";
  EXPECT_EQ(received(16), "XY");
  EXPECT_EQ(in(kIir), 0xC1);
}

TEST_F(UartTest, input_is_bounded_and_room_is_reported_once) {
  int room = 0;
  uart.on_input_room([&] { ++room; });
  open_port();
  const std::vector<std::byte> flood(10'000, std::byte{'z'});
  const std::size_t taken = uart.offer_input(flood);
  EXPECT_EQ(taken, Uart16550::kInputLimit);
  EXPECT_EQ(uart.offer_input(flood), Uart16550::kFifoSize);
  EXPECT_EQ(uart.offer_input(flood), 0u);
  EXPECT_EQ(received(100'000).size(), Uart16550::kInputLimit + Uart16550::kFifoSize);
  EXPECT_EQ(room, 1);
}

TEST_F(UartTest, clearing_the_receive_fifo_drops_what_was_received) {
  open_port();
  uart.offer_input(as_byte_span("ab"));
  out(kFcr, 0x03);
  EXPECT_EQ(in(kLsr)&1, 0);
  EXPECT_EQ(in(kData), 0);
}

TEST_F(UartTest, without_fifos_one_byte_is_held) {
  out(kMcr, 0x0B);
  uart.offer_input(as_byte_span("ab"));
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(in(kData), 'b');
  EXPECT_EQ(in(kData), 0);
}

TEST_F(UartTest, modem_status_interrupt_follows_a_change) {
  out(kIer, 0x08);
  EXPECT_EQ(irq.count, 0);
  out(kMcr, 0x10);
  EXPECT_EQ(irq.count, 1);
  EXPECT_EQ(in(kIir), 0x00);
  (void)in(kMsr);
  EXPECT_EQ(in(kIir), 0x01);
}

TEST_F(UartTest, wide_accesses_are_bytes_side_by_side) {
  const std::byte word[2] = {std::byte{'w'}, std::byte{0x0F}};
  uart.write(kData, word);
  EXPECT_EQ(log.tail(10), "w");
  EXPECT_EQ(in(kIer), 0x0F);
  std::byte all[8] = {};
  uart.read(0, all);
  EXPECT_EQ(all[kLsr], std::byte{0x60});
}

TEST_F(UartTest, accesses_from_many_threads_lose_nothing) {
  open_port();
  out(kIer, 0x03);
  constexpr int kWriters = 4;
  constexpr int kBytes = 2000;
  std::string read_back;
  {
    std::vector<std::jthread> threads;
    for (int w = 0; w < kWriters; ++w) {
      threads.emplace_back([this] {
        for (int i = 0; i < kBytes; ++i) out(kData, 'o');
      });
    }
    threads.emplace_back([this] {
      for (int i = 0; i < 4; ++i) uart.offer_input(as_byte_span(std::string(1000, 'i')));
    });
    threads.emplace_back([this, &read_back] {
      for (int i = 0; i < 10'000; ++i) read_back += received(1);
    });
  }
  read_back += received(100'000);
  EXPECT_EQ(log.total(), std::uint64_t{kWriters * kBytes});
  EXPECT_EQ(read_back, std::string(4000, 'i'));
}

}  // namespace
}  // namespace sm
