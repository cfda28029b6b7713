#include "runtime/keeper/keeper_protocol.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace sm {
namespace {

std::span<const std::byte> body_of(const std::vector<std::byte>& message) {
  return std::span(message).subspan(4);
}

std::vector<std::byte> body(std::string_view text) {
  const auto bytes = as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

TEST(KeeperProtocol, RequestsComeBack) {
  KeeperRequest in{.verb = KeeperVerb::kStop, .signal = 3, .seconds = 5, .text = {}};
  auto out = decode_request(body_of(encode_request(in))).value();
  EXPECT_EQ(out.verb, KeeperVerb::kStop);
  EXPECT_EQ(out.signal, 3);
  EXPECT_EQ(out.seconds, 5u);
  in = {.verb = KeeperVerb::kExec, .signal = 0, .seconds = {}, .text = std::string("\0\xff", 2)};
  out = decode_request(body_of(encode_request(in))).value();
  EXPECT_EQ(out.text, in.text);
  EXPECT_FALSE(out.seconds.has_value());
  EXPECT_FALSE(out.replace);
  in = {.verb = KeeperVerb::kSave, .signal = 0, .seconds = {}, .text = "/a/b", .replace = true};
  out = decode_request(body_of(encode_request(in))).value();
  EXPECT_EQ(out.verb, KeeperVerb::kSave);
  EXPECT_TRUE(out.replace);
}

TEST(KeeperProtocol, RepliesComeBack) {
  KeeperReply in;
  in.status = 137;
  in.stats.memory_bytes = UINT64_MAX;
  in.error = Error(Code::kGone, "cause", "remedy");
  const auto out = decode_reply(body_of(encode_reply(in))).value();
  EXPECT_EQ(out.status, 137);
  EXPECT_EQ(out.stats.memory_bytes, UINT64_MAX);
  EXPECT_EQ(out.error->code(), Code::kGone);
  EXPECT_EQ(out.error->remedy(), "remedy");
  EXPECT_EQ(out.pause_ns, 0u);
  in = {};
  in.saved_bytes = 5;
  in.pause_ns = 7;
  const auto saved = decode_reply(body_of(encode_reply(in))).value();
  EXPECT_EQ(saved.saved_bytes, 5u);
  EXPECT_EQ(saved.pause_ns, 7u);
}

TEST(KeeperProtocol, RefusesWhatMakesNoSense) {
  for (const char* text :
       {"", "[]", "{}", R"({"version":1})", R"({"version":1,"verb":"stop","signal":65,"text":""})",
        R"({"version":1,"verb":"stop","signal":-1,"text":""})",
        R"({"version":1,"verb":"stop","signal":1,"text":"0"})",
        R"({"version":1,"verb":"stop","signal":1,"text":"zz"})",
        R"({"version":1,"verb":"save","signal":1,"text":"","replace":1})",
        R"({"version":1,"verb":"stop","signal":1,"text":"","seconds":4294967296})"}) {
    EXPECT_EQ(decode_request(body(text)).error().code(), Code::kCorrupt) << text;
  }
  EXPECT_EQ(decode_request(body(R"({"version":2})")).error().code(), Code::kUnsupported);
  EXPECT_EQ(decode_request(body(R"({"version":1,"verb":"dance"})")).error().code(),
            Code::kUnsupported);
  EXPECT_FALSE(decode_reply(body(R"({"version":1,"status":256})")));
}

TEST(KeeperProtocol, MessagesAreCutFromAStream) {
  const auto one = encode_request({});
  std::vector<std::byte> buffer;
  for (std::size_t i = 0; i + 1 < one.size(); ++i) {
    buffer.push_back(one[i]);
    EXPECT_FALSE(take_message(buffer).value().has_value());
  }
  buffer.push_back(one.back());
  buffer.push_back(std::byte{1});
  EXPECT_TRUE(decode_request(**take_message(buffer)));
  EXPECT_EQ(buffer.size(), 1u);
  std::vector<std::byte> huge = {std::byte{1}, std::byte{0}, std::byte{0x10}, std::byte{0}};
  EXPECT_EQ(take_message(huge).error().code(), Code::kLimit);
}

}  // namespace
}  // namespace sm
