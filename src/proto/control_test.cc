#include "proto/control.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace sm::control {
namespace {

Message round_trip(const Message& message) {
  MessageParser parser;
  const auto bytes = encode(message);
  // Byte by byte, as the worst socket would.
  for (std::size_t i = 0; i + 1 < bytes.size(); ++i) {
    parser.feed(std::span(bytes).subspan(i, 1));
    EXPECT_FALSE(parser.next().value().has_value());
  }
  parser.feed(std::span(bytes).last(1));
  return parser.next().value().value();
}

Result<Message> decode_text(std::string_view text) { return decode(as_byte_span(text)); }

TEST(ControlProtocol, messages_survive_the_round_trip) {
  EXPECT_EQ(std::get<Hello>(round_trip(Hello{kVersion, "w 1"})).program, "w 1");
  const auto event = std::get<Event>(round_trip(Event{EventName::kWorkloadExit, 42, 1ull << 60}));
  EXPECT_EQ(event.name, EventName::kWorkloadExit);
  EXPECT_EQ(event.argument, 42u);
  EXPECT_EQ(event.at_ns, 1ull << 60);
  EXPECT_EQ(std::get<Failure>(round_trip(Failure{"io", "a \"b\"\n", ""})).cause, "a \"b\"\n");
  EXPECT_TRUE(std::holds_alternative<Stop>(round_trip(Stop{})));
  const auto snapshot =
      std::get<SnapshotRequest>(round_trip(SnapshotRequest{7, true, "/a b", false}));
  EXPECT_EQ(snapshot.id, 7u);
  EXPECT_EQ(snapshot.path, "/a b");
  EXPECT_TRUE(snapshot.changed_only);
  EXPECT_FALSE(snapshot.replace);
  EXPECT_FALSE(snapshot.disk);
  SnapshotRequest with_disk;
  with_disk.disk = true;
  EXPECT_TRUE(std::get<SnapshotRequest>(round_trip(with_disk)).disk);
  EXPECT_FALSE(std::get<PauseRequest>(round_trip(PauseRequest{8, false})).pause);
  EXPECT_EQ(std::get<Done>(round_trip(Done{9, 1ull << 40, 3})).pause_ns, 1ull << 40);
  EXPECT_EQ(std::get<Refused>(round_trip(Refused{1, {"io", "full", "free some"}})).why.cause,
            "full");
  const RestoreRequest restore{{"--restore-from=/a b", "--engine", "soft", ""}};
  EXPECT_EQ(std::get<RestoreRequest>(round_trip(restore)).arguments, restore.arguments);
  EXPECT_TRUE(std::holds_alternative<GetStats>(round_trip(GetStats{})));
  const Stats stats{{{{"instructions", ~0ull}, {"exits_port", 1}}, {}}};
  EXPECT_EQ(std::get<Stats>(round_trip(stats)).vcpus, stats.vcpus);
}

TEST(ControlProtocol, another_version_is_named) {
  const auto r = decode_text(R"({"type":"hello","version":2,"program":"x"})");
  EXPECT_EQ(r.error().code(), Code::kUnsupported);
}

TEST(ControlProtocol, malformed_messages_are_refused) {
  for (const char* text :
       {"", "[]", "{}", R"({"type":1})", R"({"type":"nope"})", R"({"type":"hello","version":"1"})",
        R"({"type":"event","name":"booted","argument":-1,"at_ns":0})",
        R"({"type":"event","name":"booted","argument":16777216,"at_ns":0})",
        R"({"type":"event","name":"what","argument":0,"at_ns":0})", R"({"type":"failure"})",
        R"({"type":"snapshot","id":1,"path":"/a","changed_only":1,"replace":false})",
        R"({"type":"snapshot","path":"/a","changed_only":true,"replace":false})",
        R"({"type":"snapshot","id":1,"path":"","changed_only":true,"replace":false,"disk":1})",
        R"({"type":"pause"})", R"({"type":"restore"})",
        R"({"type":"restore","arguments":"--kernel"})", R"({"type":"restore","arguments":["a",1]})",
        R"({"type":"refused","id":1})",
        // The leak sanitizer looks at these: long texts before what is missing.
        R"({"type":"refused","id":1,"code":"io","cause":"long enough for memory of its own"})",
        R"({"type":"snapshot","id":1,"changed_only":true,"path":"/long/enough/for/memory"})"}) {
    EXPECT_FALSE(decode_text(text)) << text;
  }
}

TEST(ControlProtocol, an_oversized_length_is_refused_at_once) {
  MessageParser parser;
  ByteWriter w;
  w.put(static_cast<std::uint32_t>(kMaxMessage + 1));
  parser.feed(w.bytes());
  EXPECT_EQ(parser.next().error().code(), Code::kLimit);
}

TEST(ControlProtocol, text_that_is_not_utf8_is_replaced) {
  EXPECT_EQ(std::get<Failure>(round_trip(Failure{"io", "\xff", ""})).cause, "\xef\xbf\xbd");
}

}  // namespace
}  // namespace sm::control
