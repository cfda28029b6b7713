#include "vmm/platform/console_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

void print(ConsoleLog& log, std::string_view text) { log.console_output(as_byte_span(text)); }

struct Pipe {
  UniqueFd read_end, write_end;
};
Pipe make_pipe() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::string drain(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

std::string content(int fd) {
  std::string text(static_cast<std::size_t>(file_size(fd).value()), '\0');
  EXPECT_EQ(::pread(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  return text;
}

class ConsoleWriterTest : public ::testing::Test {
 protected:
  void turn() { loop->run_once(Deadline::after(std::chrono::milliseconds(10))); }
  std::unique_ptr<EventLoop> loop = EventLoop::create().value();
};

TEST_F(ConsoleWriterTest, a_file_gets_what_was_and_what_will_be_printed) {
  ConsoleLog log;
  const UniqueFd file = memory_file("console", {}).value();
  print(log, "before\n");
  ConsoleWriter writer(*loop, log, UniqueFd(::dup(file.get())));
  EXPECT_EQ(content(file.get()), "before\n");
  print(log, "after\n");
  print(log, "more\n");
  turn();
  EXPECT_EQ(content(file.get()), "before\nafter\nmore\n");
  print(log, "last\n");
  turn();
  EXPECT_THAT(content(file.get()), EndsWith("more\nlast\n"));
}

TEST_F(ConsoleWriterTest, destruction_writes_the_rest) {
  ConsoleLog log;
  const UniqueFd file = memory_file("console", {}).value();
  {
    ConsoleWriter writer(*loop, log, UniqueFd(::dup(file.get())));
    print(log, "rest\n");
  }
  EXPECT_EQ(content(file.get()), "rest\n");
  print(log, "nobody listens\n");
  turn();  // the posted task finds no writer
  EXPECT_EQ(content(file.get()), "rest\n");
}

TEST_F(ConsoleWriterTest, the_file_is_bounded) {
  ConsoleLog log;
  const UniqueFd file = memory_file("console", {}).value();
  ConsoleWriter writer(*loop, log, UniqueFd(::dup(file.get())), 10);
  for (int i = 0; i < 5; ++i) {
    print(log, "123456\n");
    turn();
  }
  EXPECT_EQ(content(file.get()), "123456\n123\n[console output ends here: limit of 10 bytes]\n");
}

TEST_F(ConsoleWriterTest, a_slow_reader_loses_the_oldest_and_is_told) {
  ConsoleLog log(1000);
  Pipe pipe = make_pipe();
  ConsoleWriter writer(*loop, log, std::move(pipe.write_end));
  std::uint64_t sent = 0;
  for (int i = 0; i < 200; ++i, sent += 1000) {  // more than the pipe holds
    print(log, std::string(1000, 'x'));
    turn();
  }
  std::string text = drain(pipe.read_end.get());
  EXPECT_GT(text.size(), 1000u);
  EXPECT_LT(text.size(), sent);
  for (int i = 0; i < 5; ++i) turn();
  text += drain(pipe.read_end.get());
  EXPECT_THAT(text, HasSubstr("bytes of console output lost]"));
  EXPECT_THAT(text, EndsWith("xxx"));
  print(log, "end\n");
  turn();
  EXPECT_EQ(drain(pipe.read_end.get()), "end\n");
}

TEST_F(ConsoleWriterTest, a_reader_that_left_is_forgotten) {
  std::signal(SIGPIPE, SIG_IGN);
  ConsoleLog log;
  Pipe pipe = make_pipe();
  ConsoleWriter writer(*loop, log, std::move(pipe.write_end));
  pipe.read_end.reset();
  for (int i = 0; i < 3; ++i) {
    print(log, "x");
    turn();
  }
  EXPECT_EQ(log.total(), 3u);
}

TEST_F(ConsoleWriterTest, printing_on_another_thread_is_complete) {
  ConsoleLog log(1u << 20);
  const UniqueFd file = memory_file("console", {}).value();
  {
    ConsoleWriter writer(*loop, log, UniqueFd(::dup(file.get())));
    std::jthread guest([&] {
      for (int i = 0; i < 20'000; ++i) print(log, "line\n");
      loop->stop();
    });
    loop->run();
    guest.join();
  }
  EXPECT_EQ(content(file.get()).size(), 100'000u);
}

}  // namespace
}  // namespace sm
