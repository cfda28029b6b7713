#include "vmm/platform/console_input.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {
namespace {

constexpr std::uint64_t kData = 0;
constexpr std::uint64_t kModemControl = 4;
constexpr std::uint64_t kLineStatus = 5;

class SilentLine final : public IrqLine {
 public:
  void trigger() override {}
};

class ConsoleInputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2] = {-1, -1};
    ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    keyboard = UniqueFd(fds[1]);
    input = ConsoleInput::create(*loop, uart, UniqueFd(fds[0])).value();
    const std::byte rts{0x02};
    uart.write(kModemControl, {&rts, 1});
  }
  void turn() { loop->run_once(Deadline::after(std::chrono::milliseconds(5))); }
  // What a polling guest reads while the loop runs `turns` times.
  std::string guest_reads(int turns) {
    std::string text;
    for (int i = 0; i < turns; ++i) {
      turn();
      std::byte byte{};
      while (uart.read(kLineStatus, {&byte, 1}), (byte & std::byte{1}) != std::byte{0}) {
        uart.read(kData, {&byte, 1});
        text += std::to_integer<char>(byte);
      }
    }
    return text;
  }

  SilentLine irq;
  ConsoleLog log;
  std::unique_ptr<EventLoop> loop = EventLoop::create().value();
  Uart16550 uart{irq, log};
  UniqueFd keyboard;
  std::unique_ptr<ConsoleInput> input;
};

TEST_F(ConsoleInputTest, bytes_arrive_unchanged) {
  const std::string typed("ls\r\x03\x1b[A\0\xff", 9);
  ASSERT_TRUE(write_all(keyboard.get(), as_byte_span(typed)));
  EXPECT_EQ(guest_reads(2), typed);
}

TEST_F(ConsoleInputTest, a_guest_that_does_not_read_stops_the_reading) {
  const std::string flood(60'000, 'f');
  ASSERT_TRUE(write_all(keyboard.get(), as_byte_span(flood)));
  for (int i = 0; i < 100; ++i) turn();
  // What the UART and one piece hold has left the pipe, no more.
  std::string rest(1000, 'r');
  std::size_t room = 0;
  while (::write(keyboard.get(), rest.data(), rest.size()) > 0) room += rest.size();
  EXPECT_LT(room, 16'000u);
  EXPECT_EQ(guest_reads(200).size(), flood.size() + room) << "and all of it arrives in the end";
}

TEST_F(ConsoleInputTest, the_end_of_input_is_quiet) {
  ASSERT_TRUE(write_all(keyboard.get(), as_byte_span("bye")));
  keyboard.reset();
  EXPECT_EQ(guest_reads(5), "bye");
}

TEST_F(ConsoleInputTest, may_go_before_its_loop_and_uart) {
  ASSERT_TRUE(write_all(keyboard.get(), as_byte_span(std::string(10'000, 'x'))));
  for (int i = 0; i < 20; ++i) turn();
  input.reset();
  EXPECT_FALSE(guest_reads(5).empty());
}

TEST_F(ConsoleInputTest, a_file_that_cannot_be_waited_for_is_an_error) {
  EXPECT_FALSE(ConsoleInput::create(*loop, uart, memory_file("input", {}).value()));
}

}  // namespace
}  // namespace sm
