#include "runtime/keeper/vm_record.h"

#include <gtest/gtest.h>

#include "runtime/keeper/restart_backoff.h"
#include "runtime/keeper/signal_names.h"

namespace sm {
namespace {

VmRecord full() {
  VmRecord r;
  r.id = std::string(64, 'a');
  r.name = "web";
  r.image = "nginx";
  r.image_digest = "sha256:12";
  r.command = {"sh", "-c", "true"};
  r.labels = {{"a", "1"}, {"b", ""}};
  r.ports = {{"127.0.0.1", 8080, 80}, {"0.0.0.0", 65535, 1}, {"::1", 0, 2, true, 8000, 8010}};
  r.detached = r.auto_remove = r.tty = r.has_disk = true;
  r.disk_bytes = 5ull << 40;
  r.restart = {RestartKind::kOnFailure, 3};
  r.stop_signal = 3;
  r.stop_timeout_s = 77;
  r.memory_bytes = 1ull << 40;
  r.state = VmState::kPaused;
  r.created_ns = 1'700'000'000'123'456'789;
  r.exit_code = 137;
  r.error = "why";
  r.words = {"--name=web", std::string("\xff\0x", 3)};
  r.folder = "/tmp/\xfe";
  r.request = std::string("\0\1\2", 3);
  return r;
}

TEST(VmRecord, ComesBackAsItWas) {
  const VmRecord in = full();
  const auto out = parse_record(encode_record(in), "record");
  ASSERT_TRUE(out) << out.error().text();
  EXPECT_EQ(encode_record(*out), encode_record(in));
  EXPECT_EQ(out->words, in.words);
  EXPECT_EQ(out->request, in.request);
  EXPECT_EQ(out->folder, in.folder);
  EXPECT_EQ(out->disk_bytes, in.disk_bytes);
  EXPECT_EQ(out->state, VmState::kPaused);
  EXPECT_EQ(out->restart.most, 3u);
  EXPECT_EQ(out->ports[1].host, 65535);
  EXPECT_EQ(out->ports[1].last, 0);
  EXPECT_EQ(out->ports[2].ip, "::1");
  EXPECT_EQ(out->ports[2].first, 8000);
  EXPECT_EQ(out->ports[2].last, 8010);
}

TEST(VmRecord, OneOfBeforeThereWereDisksIsRead) {
  std::string text = encode_record(full());
  const std::string member = R"("has_disk":true,)";
  ASSERT_NE(text.find(member), std::string::npos);
  text.erase(text.find(member), member.size());
  const auto out = parse_record(text, "record");
  ASSERT_TRUE(out) << out.error().text();
  EXPECT_FALSE(out->has_disk);
}

TEST(VmRecord, RefusesWhatIsNone) {
  const std::string good = encode_record(full());
  for (const char* text : {"", "[]", "{}", "null", R"({"version":1})"}) {
    EXPECT_EQ(parse_record(text, "record").error().code(), Code::kCorrupt) << text;
  }
  const auto with = [&](std::string from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return parse_record(text, "record");
  };
  EXPECT_EQ(with(R"("version":1)", R"("version":2)").error().code(), Code::kUnsupported);
  EXPECT_FALSE(with(R"("exit_code":137)", R"("exit_code":99999999999)"));
  EXPECT_FALSE(with(R"("host":8080)", R"("host":65536)"));
  EXPECT_FALSE(with(R"("host":8080)", R"("host":-1)"));
  EXPECT_FALSE(with(R"("state":"paused")", R"("state":"asleep")"));
  EXPECT_FALSE(with(R"("restart":"on-failure:3")", R"("restart":"sometimes")"));
  EXPECT_FALSE(with(R"("id":"aaaa)", R"("id":"../a)"));
  EXPECT_FALSE(with(R"("request":"000102")", R"("request":"0001020")"));
}

TEST(RestartPolicy, Texts) {
  for (const char* text : {"no", "always", "unless-stopped", "on-failure", "on-failure:7"}) {
    EXPECT_EQ(restart_text(parse_restart(text).value()), text);
  }
  for (const char* text : {"", "yes", "always:3", "on-failure:", "on-failure:x", "on-failure:-1"}) {
    EXPECT_FALSE(parse_restart(text)) << text;
  }
}

TEST(RestartBackoff, DoublesUntilARunWasGood) {
  RestartBackoff backoff;
  EXPECT_EQ(backoff.next({}), std::chrono::milliseconds(100));
  EXPECT_EQ(backoff.next({}), std::chrono::milliseconds(200));
  for (int i = 0; i < 20; ++i) backoff.next({});
  EXPECT_EQ(backoff.next({}), std::chrono::minutes(1));
  EXPECT_EQ(backoff.next(std::chrono::seconds(10)), std::chrono::milliseconds(100));
}

TEST(Signals, Names) {
  EXPECT_EQ(parse_signal("TERM").value(), 15);
  EXPECT_EQ(parse_signal("sigint").value(), 2);
  EXPECT_EQ(parse_signal("9").value(), 9);
  EXPECT_EQ(parse_signal("SIGRTMIN+3").value(), 37);
  EXPECT_EQ(parse_signal("RTMAX").value(), 64);
  for (const char* text : {"", "0", "65", "-1", "NOPE", "SIGRTMIN+31", "9x"}) {
    EXPECT_FALSE(parse_signal(text)) << text;
  }
}

TEST(Times, Rfc3339) {
  EXPECT_EQ(rfc3339(1'700'000'000'000'000'001), "2023-11-14T22:13:20.000000001Z");
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
}

}  // namespace
}  // namespace sm
