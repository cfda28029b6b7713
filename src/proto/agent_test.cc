#include "proto/agent.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace sm::agent {
namespace {

Frame only_frame(std::span<const std::byte> bytes) {
  FrameParser parser;
  parser.feed(bytes);
  auto frame = parser.next().value();
  EXPECT_FALSE(parser.next().value().has_value());
  if (frame.has_value()) return *frame;
  ADD_FAILURE() << "no whole frame";
  return Frame{FrameType::kDone, 0, {}};
}

TEST(AgentProtocol, exec_request_survives_the_round_trip_with_any_bytes) {
  ExecRequest q;
  q.main = true;
  q.tty = true;
  q.create_cwd = true;
  q.argv = {"printf", "", " a\n\xff\"\\"};
  q.env = {"K=v=w", "EMPTY=", "NL=a\nb"};
  q.cwd = "/a b";
  q.user = "1000:staff";
  q.window = {24, 80};
  q.timeout_ms = 1ull << 40;
  const Frame frame = only_frame(encode_exec(q));
  ASSERT_EQ(frame.type, FrameType::kExec);
  const ExecRequest out = decode_exec(frame.payload).value();
  EXPECT_TRUE(out.main && out.tty && out.create_cwd && !out.keep_stdin);
  EXPECT_EQ(out.argv, q.argv);
  EXPECT_EQ(out.env, q.env);
  EXPECT_EQ(out.cwd, q.cwd);
  EXPECT_EQ(out.user, q.user);
  EXPECT_EQ(out.window.columns, 80);
  EXPECT_EQ(out.timeout_ms, q.timeout_ms);
}

TEST(AgentProtocol, exec_request_without_program_or_with_a_nul_is_refused) {
  ExecRequest q;
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
  q.argv = {std::string("a\0b", 3)};
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
  q.argv = {"a"};
  q.env = {"NOEQUALS"};
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
}

TEST(AgentProtocol, every_truncation_of_an_exec_request_is_refused) {
  ExecRequest q;
  q.argv = {"true", "x"};
  q.env = {"A=b"};
  q.cwd = "/";
  const Frame frame = only_frame(encode_exec(q));
  for (std::size_t n = 0; n < frame.payload.size(); ++n) {
    EXPECT_FALSE(decode_exec(std::span(frame.payload).first(n))) << n;
  }
}

TEST(AgentProtocol, a_huge_word_count_allocates_nothing_and_is_refused) {
  ByteWriter w;
  w.put(0u);
  w.put(std::uint16_t{0});
  w.put(std::uint16_t{0});
  w.put(std::uint64_t{0});
  w.put(0xffffffffu);
  EXPECT_FALSE(decode_exec(w.bytes()));
}

TEST(AgentProtocol, small_messages_survive_the_round_trip) {
  EXPECT_EQ(decode_hello(only_frame(encode_hello({kVersion, 7})).payload).value().generation, 7u);
  const ExitReport exit{true, true, 9, 1234, 5678};
  const ExitReport exit_out = decode_exit(only_frame(encode_exit(exit)).payload).value();
  EXPECT_TRUE(exit_out.signalled && exit_out.timed_out);
  EXPECT_EQ(exit_out.value, 9u);
  EXPECT_EQ(exit_out.peak_rss_kib, 1234u);
  const ErrorReport error{ErrorKind::kUser, 2, "no such user"};
  EXPECT_EQ(decode_error(only_frame(encode_error(error)).payload).value().message, "no such user");
  EXPECT_EQ(decode_started(only_frame(encode_started({5, 6})).payload).value().size, 6u);
  EXPECT_EQ(decode_u32(only_frame(encode_signal(15)).payload).value(), 15u);
  EXPECT_EQ(decode_resize(only_frame(encode_resize({3, 4})).payload).value().rows, 3);
  const FileRequest file{"/etc/x", 0600, 99};
  EXPECT_EQ(decode_file(only_frame(encode_file(FrameType::kWriteFile, file)).payload).value().path,
            "/etc/x");
}

TEST(AgentProtocol, another_version_or_magic_is_refused) {
  auto bytes = encode_hello({});
  bytes[kHeaderSize + 4] = std::byte{9};
  EXPECT_EQ(decode_hello(std::span(bytes).subspan(kHeaderSize)).error().code(), Code::kUnsupported);
  bytes[kHeaderSize] = std::byte{0};
  EXPECT_EQ(decode_hello(std::span(bytes).subspan(kHeaderSize)).error().code(), Code::kCorrupt);
}

TEST(FrameParser, reassembles_frames_that_arrive_byte_by_byte) {
  auto stream = encode_data(Stream::kStdout, as_byte_span("hello"));
  const auto second = encode_data(Stream::kStderr, {});
  stream.insert(stream.end(), second.begin(), second.end());
  FrameParser parser;
  std::vector<Frame> frames;
  for (const std::byte b : stream) {
    parser.feed({&b, 1});
    while (auto frame = parser.next().value()) frames.push_back(*frame);
  }
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(as_text(frames[0].payload), "hello");
  EXPECT_EQ(frames[1].stream, 2);
  EXPECT_TRUE(frames[1].payload.empty());
}

TEST(FrameParser, oversized_and_unknown_frames_are_refused_before_their_payload_arrives) {
  const auto header = [](std::uint32_t length, std::uint8_t type) {
    ByteWriter w;
    w.put(length);
    w.put(type);
    w.put(std::uint8_t{0});
    w.put(std::uint16_t{0});
    FrameParser parser;
    parser.feed(w.bytes());
    return parser.next();
  };
  EXPECT_FALSE(header(kMaxData + 1, 6));
  EXPECT_FALSE(header(kMaxPayload + 1, 2));
  EXPECT_FALSE(header(0, 0));
  EXPECT_FALSE(header(0, 14));
  EXPECT_TRUE(header(kMaxData, 6));
}

TEST(FrameParser, the_rest_after_the_last_frame_is_kept_for_raw_bytes) {
  auto stream = encode_forward(80);
  stream.push_back(std::byte{'G'});
  FrameParser parser;
  parser.feed(stream);
  ASSERT_TRUE(parser.next().value());
  EXPECT_EQ(as_text(parser.take_rest()), "G");
}

}  // namespace
}  // namespace sm::agent
