// The small devices: i8042, doorbell, console log.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "vmm/memory/addr_map.h"
#include "vmm/platform/console_log.h"
#include "vmm/platform/doorbell.h"
#include "vmm/platform/i8042.h"

namespace sm {
namespace {

TEST(I8042, only_the_reset_command_resets) {
  int resets = 0;
  I8042 device([&] { ++resets; });
  const auto out = [&](std::uint64_t offset, unsigned value) {
    const std::byte byte = static_cast<std::byte>(value);
    device.write(offset, {&byte, 1});
  };
  out(0, 0xFE);
  out(4, 0xAA);
  out(4, 0x20);
  const std::byte wide[2] = {std::byte{0xFE}, std::byte{0}};
  device.write(4, wide);
  EXPECT_EQ(resets, 0);
  out(4, 0xFE);
  EXPECT_EQ(resets, 1);
}

TEST(I8042, status_lets_a_probe_give_up_and_a_reset_pass) {
  I8042 device([] {});
  std::byte status{};
  for (int i = 0; i < 100; ++i) {
    device.read(4, {&status, 1});
    EXPECT_EQ(status & std::byte{1}, std::byte{1}) << "output never drains";
    EXPECT_EQ(status & std::byte{2}, std::byte{0}) << "commands are taken";
  }
}

class RecordingSink final : public DoorbellSink {
 public:
  void on_event(doorbell::Event event, std::uint32_t argument) override {
    events.emplace_back(event, argument);
  }
  std::vector<std::pair<doorbell::Event, std::uint32_t>> events;
};

class DoorbellTest : public ::testing::Test {
 protected:
  template <class T>
  void out(std::uint64_t offset, T value) {
    device.write(offset, std::as_bytes(std::span(&value, 1)));
  }
  template <class T>
  T in(std::uint64_t offset) {
    T value = static_cast<T>(~T{0});
    device.read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  RecordingSink sink;
  Log log = Log::none();
  Doorbell device{sink, log, 7};
};

TEST_F(DoorbellTest, known_events_reach_the_sink_with_their_argument) {
  out<std::uint32_t>(0, doorbell::encode(doorbell::Event::kWorkloadExit, 42));
  out<std::uint32_t>(0, doorbell::encode(doorbell::Event::kBooted, 0xFF'FFFF));
  ASSERT_EQ(sink.events.size(), 2u);
  EXPECT_EQ(sink.events[0], std::pair(doorbell::Event::kWorkloadExit, 42u));
  EXPECT_EQ(sink.events[1], std::pair(doorbell::Event::kBooted, 0xFF'FFFFu));
}

TEST_F(DoorbellTest, other_widths_ports_and_events_do_nothing) {
  out<std::uint8_t>(0, 1);
  out<std::uint16_t>(0, 0x0100);
  out<std::uint64_t>(0, 0x0100'0000);
  out<std::uint32_t>(4, 0x0100'0000);
  EXPECT_EQ(device.unknown_events(), 0u);
  for (const std::uint32_t id : {0u, 7u, 255u}) out<std::uint32_t>(0, id << 24);
  EXPECT_EQ(device.unknown_events(), 3u);
  EXPECT_TRUE(sink.events.empty());
}

TEST_F(DoorbellTest, reads_give_generation_and_magic) {
  EXPECT_EQ(in<std::uint32_t>(4), 7u);
  EXPECT_EQ(in<std::uint32_t>(8), doorbell::kMagic);
  EXPECT_EQ(in<std::uint32_t>(0), 0u);
  EXPECT_EQ(in<std::uint32_t>(12), 0u);
  EXPECT_EQ(in<std::uint8_t>(8), 0u);
  EXPECT_EQ(in<std::uint16_t>(4), 0u);
  device.set_generation(8);
  EXPECT_EQ(in<std::uint32_t>(4), 8u);
  device.add_held(doorbell::Event::kAgentReady);
  device.add_held(doorbell::Event::kImageAwaited);
  EXPECT_EQ(in<std::uint32_t>(0), 1u << 2 | 1u << 6);
  device.set_bound_disks(3);
  EXPECT_EQ(in<std::uint32_t>(12), 3u);
  EXPECT_EQ(in<std::uint16_t>(12), 0u);
}

static_assert(doorbell::kPortBase == addr_map::kDoorbellPort);
static_assert(doorbell::kPortCount == addr_map::kDoorbellSize);

void print(ConsoleLog& log, std::string_view text) { log.console_output(as_byte_span(text)); }

TEST(ConsoleLog, keeps_the_newest_bytes) {
  ConsoleLog log(8);
  print(log, "abc");
  EXPECT_EQ(log.tail(100), "abc");
  print(log, "defghij");
  EXPECT_EQ(log.tail(100), "cdefghij");
  EXPECT_EQ(log.total(), 10u);
  print(log, "0123456789ABCDEF");
  EXPECT_EQ(log.tail(100), "89ABCDEF");
  EXPECT_EQ(log.total(), 26u);
}

TEST(ConsoleLog, tail_is_printable_and_starts_at_a_line) {
  ConsoleLog log;
  print(log, "first line\r\nsecond \x1b[31mline\x80\tend\r\n");
  EXPECT_EQ(log.tail(1000), "first line\nsecond ?[31mline?\tend\n");
  EXPECT_EQ(log.tail(28), "second ?[31mline?\tend\n");
  EXPECT_EQ(log.tail(0), "");
}

TEST(ConsoleLog, reading_continues_and_tells_what_was_lost) {
  ConsoleLog log(4);
  print(log, "ab");
  auto chunk = log.read(0, 100);
  EXPECT_EQ(chunk.position, 0u);
  EXPECT_EQ(as_text(chunk.bytes), "ab");
  print(log, "cdefgh");
  chunk = log.read(2, 3);
  EXPECT_EQ(chunk.position, 4u);
  EXPECT_EQ(as_text(chunk.bytes), "efg");
  EXPECT_TRUE(log.read(8, 100).bytes.empty());
  EXPECT_EQ(log.read(999, 100).position, 8u);
}

TEST(ConsoleLog, listener_is_called_once_per_drain) {
  ConsoleLog log;
  int calls = 0;
  log.set_listener([&] { ++calls; });
  print(log, "a");
  print(log, "b");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(log.read(0, 10).bytes.size(), 2u);
  print(log, "c");
  EXPECT_EQ(calls, 1) << "the reader has not seen the end yet";
  EXPECT_EQ(log.read(2, 10).bytes.size(), 1u);
  EXPECT_TRUE(log.read(3, 10).bytes.empty());
  print(log, "d");
  EXPECT_EQ(calls, 2);
}

TEST(ConsoleLog, many_threads_can_write) {
  ConsoleLog log(1000);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log] {
        for (int i = 0; i < 5000; ++i) print(log, "xy");
      });
    }
  }
  EXPECT_EQ(log.total(), 40'000u);
  EXPECT_EQ(log.tail(5000).size(), 1000u);
}

}  // namespace
}  // namespace sm
