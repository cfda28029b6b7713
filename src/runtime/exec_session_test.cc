#include "runtime/exec_session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace sm {
namespace {

using agent::FrameType;
using agent::Stream;
using Bytes = std::vector<std::byte>;

Bytes bytes_of(const std::string& text) {
  Bytes out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

// The agent's end of the connection, by hand; the session's end under test.
class ExecSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int pair[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    agent_ = UniqueFd(pair[0]);
    ASSERT_EQ(::fcntl(agent_.get(), F_SETFL, O_NONBLOCK), 0);
    agent::ExecRequest request;
    request.argv = {"true"};
    session_ = ExecSession::start(*loop_, UniqueFd(pair[1]), request, callbacks()).value();
  }

  ExecSession::Callbacks callbacks() {
    return {.on_started = [this](agent::Started s) { started_ = s.pid; },
            .on_output =
                [this](Stream stream, std::span<const std::byte> bytes) {
                  if (bytes.empty()) ++ends_of_file_;
                  received_[static_cast<std::size_t>(stream)] += bytes.size();
                },
            .on_stdin_room = [this] { ++rooms_; },
            .on_exit =
                [this](agent::ExitReport r) {
                  exit_ = r;
                  if (destroy_at_end_) session_.reset();
                },
            .on_refused = [this](const agent::ErrorReport& r) { refused_ = r; },
            .on_lost =
                [this](Error e) {
                  ++losses_;
                  lost_ = std::move(e);
                  if (destroy_at_end_) session_.reset();
                }};
  }

  bool until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(10));
    while (!done()) {
      if (deadline.passed()) return false;
      loop_->run_once(deadline);
    }
    return true;
  }
  // Everything that is ready now has been handled.
  void settle() {
    for (int i = 0; i < 50; ++i) loop_->run_once(Deadline::after(Duration(0)));
  }

  void say(const Bytes& bytes) {
    std::span<const std::byte> rest(bytes);
    const bool sent = until([&] {
      const ssize_t n = ::send(agent_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (n > 0) rest = rest.subspan(static_cast<std::size_t>(n));
      if (n < 0 && errno == EAGAIN) settle();
      return rest.empty() || (n < 0 && errno != EAGAIN);
    });
    ASSERT_TRUE(sent && rest.empty());
  }
  void say_hello() { say(agent::encode_hello({})); }

  // The next frame that the session has sent.
  agent::Frame hear() {
    std::optional<agent::Frame> frame;
    EXPECT_TRUE(until([&] {
      settle();
      std::byte buffer[65536];
      ssize_t n = 0;
      while ((n = ::recv(agent_.get(), buffer, sizeof(buffer), 0)) > 0) {
        parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
      }
      frame = parser_.next().value();
      return frame.has_value();
    }));
    return frame.value_or(agent::Frame{FrameType::kDone, 0, {}});
  }
  void hear_request() {
    EXPECT_EQ(hear().type, FrameType::kHello);
    EXPECT_EQ(hear().type, FrameType::kExec);
  }
  void expect_lost(Code code, const std::string& cause) {
    ASSERT_TRUE(until([&] { return lost_.has_value(); }));
    EXPECT_EQ(lost_->code(), code);
    EXPECT_NE(lost_->cause().find(cause), std::string::npos) << lost_->cause();
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  UniqueFd agent_;
  agent::FrameParser parser_;
  std::unique_ptr<ExecSession> session_;
  bool destroy_at_end_ = false;
  std::optional<std::uint32_t> started_;
  std::size_t received_[3] = {};
  int ends_of_file_ = 0, rooms_ = 0, losses_ = 0;
  std::optional<agent::ExitReport> exit_;
  std::optional<agent::ErrorReport> refused_;
  std::optional<Error> lost_;
};

TEST_F(ExecSessionTest, the_request_goes_out_without_waiting_for_the_agent) { hear_request(); }

TEST_F(ExecSessionTest, one_exec_from_start_to_exit) {
  say_hello();
  say(agent::encode_started({.pid = 7}));
  say(agent::encode_data(Stream::kStdout, bytes_of("out")));
  say(agent::encode_data(Stream::kStderr, bytes_of("error")));
  say(agent::encode_data(Stream::kStdout, {}));
  say(agent::encode_exit({.value = 3}));
  ASSERT_TRUE(until([&] { return exit_.has_value(); }));
  EXPECT_EQ(started_, 7u);
  EXPECT_EQ(received_[1], 3u);
  EXPECT_EQ(received_[2], 5u);
  EXPECT_EQ(ends_of_file_, 1);
  EXPECT_EQ(exit_->value, 3u);
}

TEST_F(ExecSessionTest, nothing_after_the_exit_report_counts) {
  say_hello();
  Bytes both = agent::encode_exit({.value = 3});
  const Bytes more = agent::encode_data(Stream::kStdout, bytes_of("late"));
  both.insert(both.end(), more.begin(), more.end());
  say(both);
  ASSERT_TRUE(until([&] { return exit_.has_value(); }));
  agent_.reset();
  session_->send_signal(15);
  session_->send_stdin(bytes_of("late"));
  settle();
  EXPECT_EQ(received_[1], 0u);
  EXPECT_EQ(losses_, 0);
}

TEST_F(ExecSessionTest, a_callback_may_destroy_the_session) {
  destroy_at_end_ = true;
  say_hello();
  Bytes twice = agent::encode_exit({});
  const Bytes again = agent::encode_exit({});
  twice.insert(twice.end(), again.begin(), again.end());
  say(twice);
  ASSERT_TRUE(until([&] { return exit_.has_value(); }));
  settle();
  EXPECT_EQ(session_, nullptr);
}

TEST_F(ExecSessionTest, a_loss_may_destroy_the_session) {
  destroy_at_end_ = true;
  say(agent::encode_exit({}));  // without a hello
  ASSERT_TRUE(until([&] { return lost_.has_value(); }));
  settle();
  EXPECT_EQ(session_, nullptr);
  EXPECT_EQ(losses_, 1);
}

TEST_F(ExecSessionTest, a_refusal_ends_the_session) {
  say_hello();
  say(agent::encode_error({.kind = agent::ErrorKind::kExecNotFound, .message = "no such program"}));
  ASSERT_TRUE(until([&] { return refused_.has_value(); }));
  EXPECT_EQ(refused_->message, "no such program");
  agent_.reset();
  settle();
  EXPECT_EQ(losses_, 0);
}

TEST_F(ExecSessionTest, frames_may_come_byte_by_byte) {
  Bytes all = agent::encode_hello({});
  for (const Bytes& frame :
       {agent::encode_started({.pid = 9}), agent::encode_data(Stream::kStdout, bytes_of("x")),
        agent::encode_exit({.value = 1})}) {
    all.insert(all.end(), frame.begin(), frame.end());
  }
  for (const std::byte b : all) {
    say({b});
    loop_->run_once(Deadline::after(Duration(0)));
  }
  ASSERT_TRUE(until([&] { return exit_.has_value(); }));
  EXPECT_EQ(started_, 9u);
  EXPECT_EQ(received_[1], 1u);
}

// --- the agent dies or lies ---

TEST_F(ExecSessionTest, a_program_starts_once) {
  hear_request();
  say_hello();
  say(agent::encode_started({.pid = 7}));
  say(agent::encode_started({.pid = 7}));
  expect_lost(Code::kCorrupt, "started twice");
}

TEST_F(ExecSessionTest, the_end_of_the_connection_is_a_loss) {
  hear_request();
  say_hello();
  agent_.reset();
  expect_lost(Code::kGone, "closed the connection");
  settle();
  EXPECT_EQ(losses_, 1);
}

TEST_F(ExecSessionTest, an_agent_that_only_stops_sending_is_lost_too) {
  say_hello();
  ASSERT_EQ(::shutdown(agent_.get(), SHUT_WR), 0);
  expect_lost(Code::kGone, "closed the connection");
}

TEST_F(ExecSessionTest, what_was_sent_before_the_end_is_seen_first) {
  say_hello();
  say(agent::encode_exit({.value = 4}));
  agent_.reset();
  ASSERT_TRUE(until([&] { return exit_.has_value() || lost_.has_value(); }));
  EXPECT_TRUE(exit_.has_value());
}

TEST_F(ExecSessionTest, the_first_frame_must_be_a_hello) {
  say(agent::encode_started({.pid = 1}));
  expect_lost(Code::kCorrupt, "no hello");
}

TEST_F(ExecSessionTest, a_second_hello_is_refused) {
  say_hello();
  say_hello();
  expect_lost(Code::kCorrupt, "never sends");
}

TEST_F(ExecSessionTest, requests_from_the_agent_are_refused) {
  say_hello();
  say(agent::encode_signal(9));
  expect_lost(Code::kCorrupt, "never sends");
}

TEST_F(ExecSessionTest, data_on_standard_input_is_refused) {
  say_hello();
  say(agent::encode_data(Stream::kStdin, bytes_of("x")));
  expect_lost(Code::kCorrupt, "stream 0");
}

TEST_F(ExecSessionTest, a_stream_that_does_not_exist_is_refused) {
  say_hello();
  Bytes frame = agent::encode_data(Stream::kStdout, bytes_of("x"));
  frame[5] = std::byte{3};
  say(frame);
  expect_lost(Code::kCorrupt, "frame header");
}

TEST_F(ExecSessionTest, a_frame_above_the_limit_is_refused_before_its_bytes_come) {
  say_hello();
  Bytes header = agent::encode_data(Stream::kStdout, {});
  header[3] = std::byte{1};  // 16 MiB
  say(header);
  expect_lost(Code::kLimit, "a frame of 16777216 bytes");
}

TEST_F(ExecSessionTest, a_payload_of_the_wrong_size_is_refused) {
  say_hello();
  Bytes frame = agent::encode_window(Stream::kStdin, 1);
  frame[0] = std::byte{3};
  frame.pop_back();
  say(frame);
  expect_lost(Code::kCorrupt, "");
}

// --- flow control ---

TEST_F(ExecSessionTest, output_beyond_the_window_is_refused) {
  say_hello();
  const Bytes piece(agent::kMaxData);
  for (std::size_t sent = 0; sent < agent::kInitialWindow; sent += piece.size()) {
    say(agent::encode_data(Stream::kStdout, piece));
  }
  ASSERT_TRUE(until([&] { return received_[1] == agent::kInitialWindow; }));
  say(agent::encode_data(Stream::kStderr, bytes_of("has its own")));
  say(agent::encode_data(Stream::kStdout, bytes_of("x")));
  expect_lost(Code::kCorrupt, "more output than was granted");
  EXPECT_EQ(received_[1], agent::kInitialWindow);
  EXPECT_EQ(received_[2], 11u);
}

TEST_F(ExecSessionTest, consumed_output_is_granted_again_in_lumps) {
  hear_request();
  say_hello();
  const Bytes piece(agent::kMaxData);
  for (std::size_t sent = 0; sent < agent::kInitialWindow; sent += piece.size()) {
    say(agent::encode_data(Stream::kStdout, piece));
  }
  ASSERT_TRUE(until([&] { return received_[1] == agent::kInitialWindow; }));
  session_->consumed(Stream::kStdout, agent::kInitialWindow / 4 - 1);
  session_->consumed(Stream::kStdout, 1);
  const agent::Frame grant = hear();
  EXPECT_EQ(grant.type, FrameType::kWindow);
  EXPECT_EQ(grant.stream, 1);
  EXPECT_EQ(agent::decode_u32(grant.payload).value(), agent::kInitialWindow / 4);
  say(agent::encode_data(Stream::kStdout, piece));
  ASSERT_TRUE(until([&] { return received_[1] == agent::kInitialWindow + piece.size(); }));
  EXPECT_EQ(losses_, 0);
}

TEST_F(ExecSessionTest, input_waits_for_the_agents_window) {
  hear_request();
  say_hello();
  const Bytes piece(agent::kMaxData);
  while (session_->stdin_room() > 0) session_->send_stdin(piece);
  std::size_t sent = 0;
  while (sent < agent::kInitialWindow && !HasFailure()) sent += hear().payload.size();
  EXPECT_EQ(sent, agent::kInitialWindow);
  say(agent::encode_window(Stream::kStdin, 10));
  ASSERT_TRUE(until([&] { return rooms_ == 1; }));
  EXPECT_EQ(session_->stdin_room(), 10u);
}

TEST_F(ExecSessionTest, an_agent_cannot_grant_more_than_the_whole_window) {
  say_hello();
  for (int i = 0; i < 3; ++i) say(agent::encode_window(Stream::kStdin, 0xFFFF'FFFF));
  settle();
  std::size_t taken = 0;
  for (const Bytes piece(agent::kMaxData); session_->stdin_room() > 0; taken += piece.size()) {
    session_->send_stdin(piece);
  }
  EXPECT_EQ(taken, agent::kInitialWindow);
  EXPECT_EQ(rooms_, 0);
}

// The agent does not read: what the session has to say waits, in order, and nothing is lost.
TEST_F(ExecSessionTest, a_full_connection_delays_but_does_not_lose) {
  const int small = 4096;
  ASSERT_EQ(::setsockopt(agent_.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
  say_hello();
  const Bytes piece(agent::kMaxData, std::byte{'p'});
  while (session_->stdin_room() > 0) session_->send_stdin(piece);
  session_->send_signal(2);
  settle();
  hear_request();
  std::size_t bytes = 0;
  agent::Frame frame = hear();
  for (; frame.type == FrameType::kData; frame = hear()) bytes += frame.payload.size();
  EXPECT_EQ(bytes, agent::kInitialWindow);
  EXPECT_EQ(frame.type, FrameType::kSignal);
}

TEST(ExecSessionStart, a_request_above_the_limit_is_refused) {
  auto loop = EventLoop::create().value();
  int pair[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd other(pair[0]);
  agent::ExecRequest request;
  request.argv = {"true", std::string(agent::kMaxPayload, 'x')};
  const auto session = ExecSession::start(*loop, UniqueFd(pair[1]), request, {});
  ASSERT_FALSE(session.has_value());
  EXPECT_EQ(session.error().code(), Code::kLimit);
}

}  // namespace
}  // namespace sm
