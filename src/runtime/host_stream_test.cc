#include "runtime/host_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/bytes.h"

namespace sm {
namespace {

class HostStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);
    int fds[2] = {-1, -1};
    ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    read_ = UniqueFd(fds[0]);
    write_ = UniqueFd(fds[1]);
  }

  // An unnamed file with that content, to be read from its start.
  UniqueFd file_with(const std::string& content) {
    char name[] = "/tmp/host-stream-test-XXXXXX";
    UniqueFd fd(::mkostemp(name, O_CLOEXEC));
    ::unlink(name);
    EXPECT_EQ(::pwrite(fd.get(), content.data(), content.size(), 0),
              static_cast<ssize_t>(content.size()));
    return fd;
  }

  bool until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(10));
    while (!done()) {
      if (deadline.passed()) return false;
      loop_->run_once(deadline);
    }
    return true;
  }
  void settle() {
    for (int i = 0; i < 20; ++i) loop_->run_once(Deadline::after(Duration(0)));
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  UniqueFd read_, write_;
};

// --- output ---

class OutputStreamTest : public HostStreamTest {
 protected:
  std::unique_ptr<OutputStream> stream_to(int fd) {
    return std::make_unique<OutputStream>(
        *loop_, fd, [this](std::size_t n) { written_ += n; },
        [this](Error e) {
          ++breaks_;
          broken_ = std::move(e);
        });
  }

  std::size_t written_ = 0;
  int breaks_ = 0;
  std::optional<Error> broken_;
};

// More than a pipe holds, to a reader that takes a little at a time.
TEST_F(OutputStreamTest, a_slow_reader_gets_everything_in_order) {
  std::string sent(1u << 20, '\0');
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i % 251);
  const auto out = stream_to(write_.get());
  out->write(as_byte_span(sent));
  EXPECT_FALSE(out->empty());
  EXPECT_LT(written_, sent.size());
  std::string got;
  for (ssize_t n = 1; got.size() < sent.size() && n > 0;
       loop_->run_once(Deadline::after(Duration(0)))) {
    char buffer[5000];
    n = ::read(read_.get(), buffer, sizeof(buffer));
    got.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
  EXPECT_TRUE(got == sent);
  EXPECT_TRUE(out->empty());
  EXPECT_EQ(written_, sent.size());
}

// The shell shares the descriptor's flags.
TEST_F(OutputStreamTest, the_given_descriptor_stays_blocking) {
  const int before = ::fcntl(write_.get(), F_GETFL);
  const auto out = stream_to(write_.get());
  out->write(as_byte_span(std::string("x")));
  EXPECT_EQ(::fcntl(write_.get(), F_GETFL), before);
  EXPECT_EQ(before & O_NONBLOCK, 0);
}

TEST_F(OutputStreamTest, a_reader_that_goes_breaks_the_stream_once) {
  const auto out = stream_to(write_.get());
  out->write(as_byte_span(std::string(1u << 20, 'x')));
  read_.reset();
  ASSERT_TRUE(until([&] { return breaks_ > 0; }));
  EXPECT_EQ(written_, 1u << 20);
  EXPECT_TRUE(out->empty());
  out->write(as_byte_span(std::string("more")));
  settle();
  EXPECT_EQ(written_, (1u << 20) + 4);
  EXPECT_EQ(breaks_, 1);
}

TEST_F(OutputStreamTest, a_socket_is_neither_blocked_nor_killed_by_its_peer) {
  int pair[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  const auto out = stream_to(ours.get());
  out->write(as_byte_span(std::string(4u << 20, 'x')));
  EXPECT_FALSE(out->empty());
  theirs.reset();
  ASSERT_TRUE(until([&] { return breaks_ == 1; }));
  EXPECT_EQ(written_, 4u << 20);
}

TEST_F(OutputStreamTest, a_file_takes_everything_at_once) {
  const UniqueFd file = file_with("");
  const auto out = stream_to(file.get());
  out->write(as_byte_span(std::string(200'000, 'f')));
  EXPECT_TRUE(out->empty());
  EXPECT_EQ(written_, 200'000u);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), 200'000);
}

TEST_F(OutputStreamTest, a_full_device_breaks_the_stream) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const auto out = stream_to(full.get());
  out->write(as_byte_span(std::string("x")));
  EXPECT_EQ(breaks_, 1);
  EXPECT_EQ(written_, 1u);
}

TEST_F(OutputStreamTest, destroyed_with_bytes_to_write_it_leaves_no_watch) {
  auto out = stream_to(write_.get());
  out->write(as_byte_span(std::string(1u << 20, 'x')));
  const std::size_t before = written_;
  out.reset();
  read_.reset();
  settle();
  EXPECT_EQ(written_, before);
  EXPECT_EQ(breaks_, 0);
}

// --- input ---

class InputStreamTest : public HostStreamTest {
 protected:
  void start(int fd) {
    stream_ = std::make_unique<InputStream>(
        *loop_, fd, [this] { return room_; },
        [this](std::span<const std::byte> bytes) {
          ++calls_;
          if (bytes.empty()) {
            ++ends_;
          } else {
            // SAFETY: char may alias bytes.
            got_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          }
          room_ -= std::min(room_, bytes.size());
          if (destroy_) stream_.reset();
        });
  }
  void feed(const std::string& text) {
    ASSERT_EQ(::write(write_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  std::unique_ptr<InputStream> stream_;
  std::size_t room_ = 1u << 30;
  std::string got_;
  int calls_ = 0, ends_ = 0;
  bool destroy_ = false;
};

TEST_F(InputStreamTest, bytes_then_the_end_of_a_pipe) {
  start(read_.get());
  feed("hello");
  ASSERT_TRUE(until([&] { return got_ == "hello"; }));
  write_.reset();
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  settle();
  EXPECT_EQ(calls_, 2);
}

TEST_F(InputStreamTest, never_more_than_there_is_room_for) {
  room_ = 3;
  start(read_.get());
  feed("abcdefgh");
  ASSERT_TRUE(until([&] { return got_.size() == 3; }));
  settle();
  EXPECT_EQ(got_, "abc");
  room_ = 2;
  stream_->resume();
  settle();
  EXPECT_EQ(got_, "abcde");
}

// A hung-up pipe is always readable: without room it must not wake the loop again and again.
TEST_F(InputStreamTest, a_hung_up_pipe_waits_for_room) {
  room_ = 0;
  start(read_.get());
  feed("x");
  write_.reset();
  settle();
  EXPECT_EQ(calls_, 0);
  bool timer = false;
  loop_->add_timer(now() + std::chrono::milliseconds(1), [&] { timer = true; });
  int turns = 0;
  ASSERT_TRUE(until([&] { return ++turns > 0 && timer; }));
  EXPECT_LE(turns, 4);
  room_ = 10;
  stream_->resume();
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  EXPECT_EQ(got_, "x");
}

TEST_F(InputStreamTest, a_file_is_read_to_its_end) {
  const std::string content(200'000, 'q');
  const UniqueFd file = file_with(content);
  start(file.get());
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  EXPECT_EQ(got_, content);
}

TEST_F(InputStreamTest, a_file_waits_for_room) {
  const UniqueFd file = file_with("abcdef");
  room_ = 4;
  start(file.get());
  settle();
  EXPECT_EQ(got_, "abcd");
  EXPECT_EQ(ends_, 0);
  room_ = 10;
  stream_->resume();
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  EXPECT_EQ(got_, "abcdef");
}

TEST_F(InputStreamTest, dev_null_ends_at_once) {
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  start(null.get());
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  EXPECT_EQ(got_, "");
}

TEST_F(InputStreamTest, a_descriptor_that_cannot_be_read_is_at_its_end) {
  start(write_.get());  // the wrong end
  read_.reset();        // which makes it "ready"
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
}

TEST_F(InputStreamTest, a_half_closed_socket_ends_and_can_still_be_written) {
  int pair[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd ours(pair[0]), theirs(pair[1]);
  start(ours.get());
  ASSERT_EQ(::send(theirs.get(), "ab", 2, 0), 2);
  ASSERT_EQ(::shutdown(theirs.get(), SHUT_WR), 0);
  ASSERT_TRUE(until([&] { return ends_ == 1; }));
  EXPECT_EQ(got_, "ab");
  EXPECT_EQ(::send(ours.get(), "c", 1, 0), 1);
}

TEST_F(InputStreamTest, after_stop_nothing_comes) {
  start(read_.get());
  feed("x");
  stream_->stop();
  stream_->resume();
  settle();
  EXPECT_EQ(calls_, 0);
}

TEST_F(InputStreamTest, may_be_destroyed_by_its_own_callback) {
  destroy_ = true;
  start(read_.get());
  feed("x");
  ASSERT_TRUE(until([&] { return calls_ == 1; }));
  settle();
  const UniqueFd file = file_with(std::string(200'000, 'q'));
  start(file.get());
  ASSERT_TRUE(until([&] { return calls_ == 2; }));
  settle();
  EXPECT_EQ(calls_, 2);
}

}  // namespace
}  // namespace sm
