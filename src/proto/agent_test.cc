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
  q.files = {{"/a b", 04755, std::string("x\0y", 3)}, {"/e", 0, ""}};
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
  ASSERT_EQ(out.files.size(), 2u);
  EXPECT_EQ(out.files[0].path, "/a b");
  EXPECT_EQ(out.files[0].mode, 04755u);
  EXPECT_EQ(out.files[0].content, q.files[0].content);
  EXPECT_EQ(out.files[1].content, "");
}

TEST(AgentProtocol, hello_carries_the_revision_which_is_none_of_its_version) {
  Hello hello = decode_hello(only_frame(encode_hello({.generation = 7})).payload).value();
  EXPECT_EQ(hello.revision, kRevision);
  EXPECT_EQ(hello.generation, 7u);
  // An agent of an older snapshot, and one of a newer program.
  for (const std::uint16_t revision : {std::uint16_t{0}, std::uint16_t{99}}) {
    hello.revision = revision;
    EXPECT_EQ(decode_hello(only_frame(encode_hello(hello)).payload).value().revision, revision);
  }
}

TEST(AgentProtocol, attach_main_says_nothing_more) {
  const Frame frame = only_frame(encode_attach_main());
  EXPECT_EQ(frame.type, FrameType::kAttachMain);
  EXPECT_TRUE(frame.payload.empty());
}

TEST(AgentProtocol, signals_of_the_main_workload_have_a_range) {
  const Frame frame = only_frame(encode_signal_main(15));
  EXPECT_EQ(frame.type, FrameType::kSignalMain);
  EXPECT_EQ(decode_signal(frame.payload).value(), 15u);
  for (const std::uint32_t bad : {0u, 65u}) {
    EXPECT_FALSE(decode_signal(only_frame(encode_signal_main(bad)).payload));
  }
  EXPECT_FALSE(decode_signal({}));
}

TEST(AgentProtocol, exec_request_carries_further_commands_without_main_or_terminal) {
  ExecRequest q;
  q.argv = {"a"};
  q.chain = {{"b", "", "c"}, {"d"}};
  EXPECT_EQ(decode_exec(only_frame(encode_exec(q)).payload).value().chain, q.chain);
  q.main = true;
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
  q.main = false;
  q.tty = true;
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
  q.tty = false;
  q.chain = {{}};
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
  q.chain.assign(kMaxCommands + 1, {"x"});
  EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload));
}

TEST(AgentProtocol, detached_exec_request_names_its_output_and_has_nobody_to_answer_to) {
  ExecRequest q;
  q.argv = {"server"};
  q.detached = true;
  q.output = "/var/log/server";
  const ExecRequest out = decode_exec(only_frame(encode_exec(q)).payload).value();
  EXPECT_TRUE(out.detached);
  EXPECT_EQ(out.output, q.output);
  for (const auto change :
       {+[](ExecRequest& r) { r.tty = true; }, +[](ExecRequest& r) { r.keep_stdin = true; },
        +[](ExecRequest& r) { r.timeout_ms = 1; }, +[](ExecRequest& r) { r.chain = {{"true"}}; },
        +[](ExecRequest& r) { r.output = "relative"; }}) {
    ExecRequest bad = q;
    change(bad);
    EXPECT_FALSE(decode_exec(only_frame(encode_exec(bad)).payload));
  }
}

TEST(AgentProtocol, exec_request_for_a_program_of_the_agent_has_only_its_streams) {
  ExecRequest q;
  q.argv = {"unpack", "/srv"};
  q.own_program = true;
  q.keep_stdin = true;
  EXPECT_TRUE(decode_exec(only_frame(encode_exec(q)).payload).value().own_program);
  for (const auto change :
       {+[](ExecRequest& r) { r.main = true; }, +[](ExecRequest& r) { r.tty = true; },
        +[](ExecRequest& r) { r.chain = {{"true"}}; },
        +[](ExecRequest& r) {
          r.files = {{"/file", 0644, ""}};
        }}) {
    ExecRequest bad = q;
    change(bad);
    EXPECT_FALSE(decode_exec(only_frame(encode_exec(bad)).payload));
  }
}

TEST(AgentProtocol, exec_request_with_a_bad_staged_file_is_refused) {
  const std::vector<StagedFile> bad = {{"relative", 0644, ""},
                                       {"", 0644, ""},
                                       {"/mode", 010000, ""},
                                       {std::string("/n\0", 3), 0, ""}};
  for (const StagedFile& file : bad) {
    ExecRequest q;
    q.argv = {"a"};
    q.files = {file};
    EXPECT_FALSE(decode_exec(only_frame(encode_exec(q)).payload)) << file.path;
  }
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
  q.files = {{"/f", 0644, "xy"}};
  q.chain = {{"b", "c"}};
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
  EXPECT_EQ(decode_hello(only_frame(encode_hello({.generation = 7})).payload).value().generation,
            7u);
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

ResumeRequest full_resume() {
  ResumeRequest q;
  q.generation = 7;
  q.wall_clock_ns = 1'700'000'000'123'456'789;
  for (std::size_t i = 0; i < q.seed.size(); ++i) q.seed[i] = static_cast<std::byte>(i * 3);
  q.hostname = "web-1";
  q.machine_id_policy = MachineIdPolicy::kReplace;
  q.machine_id = "0123456789abcdef0123456789abcdef";
  q.env = {"A=b=c", "EMPTY=", "NL=a\nb"};
  q.secrets = {"TOKEN=\xff\"\\"};
  q.dns = {"10.0.0.1", "fd00::1"};
  q.hosts = {{"10.0.0.2", "db"}, {"::1", "cache.internal"}};
  q.root_disk = "root";
  return q;
}

TEST(AgentProtocol, resume_request_survives_the_round_trip) {
  const ResumeRequest q = full_resume();
  const Frame frame = only_frame(encode_resume(q));
  ASSERT_EQ(frame.type, FrameType::kResume);
  const ResumeRequest out = decode_resume(frame.payload).value();
  EXPECT_EQ(out.generation, q.generation);
  EXPECT_EQ(out.wall_clock_ns, q.wall_clock_ns);
  EXPECT_EQ(out.seed, q.seed);
  EXPECT_EQ(out.hostname, q.hostname);
  EXPECT_EQ(out.machine_id_policy, q.machine_id_policy);
  EXPECT_EQ(out.machine_id, q.machine_id);
  EXPECT_EQ(out.env, q.env);
  EXPECT_EQ(out.secrets, q.secrets);
  EXPECT_EQ(out.dns, q.dns);
  EXPECT_EQ(out.hosts, q.hosts);
  EXPECT_EQ(out.root_disk, "root");
}

TEST(AgentProtocol, resume_request_without_a_root_disk_has_the_form_it_always_had) {
  ResumeRequest q = full_resume();
  const std::size_t with = encode_resume(q).size();
  q.root_disk.clear();
  const Frame frame = only_frame(encode_resume(q));
  EXPECT_EQ(frame.payload[0], std::byte{0});
  EXPECT_EQ(encode_resume(q).size(), with - 8);
  EXPECT_EQ(decode_resume(frame.payload).value().root_disk, "");
}

TEST(AgentProtocol, every_truncation_of_a_resume_request_is_refused) {
  Frame frame = only_frame(encode_resume(full_resume()));
  for (std::size_t n = 0; n < frame.payload.size(); ++n) {
    EXPECT_FALSE(decode_resume(std::span(frame.payload).first(n))) << n;
  }
  frame.payload.push_back(std::byte{0});
  EXPECT_FALSE(decode_resume(frame.payload)) << "one byte too many";
}

TEST(AgentProtocol, unknown_flags_of_a_resume_request_are_refused) {
  Frame frame = only_frame(encode_resume(full_resume()));
  frame.payload[0] = std::byte{3};
  EXPECT_FALSE(decode_resume(frame.payload));
}

TEST(AgentProtocol, resume_request_that_breaks_a_rule_is_refused_by_both_sides) {
  const std::vector<void (*)(ResumeRequest&)> breaks = {
      [](ResumeRequest& q) { q.wall_clock_ns = 0; },
      [](ResumeRequest& q) { q.wall_clock_ns = 1ull << 63; },
      [](ResumeRequest& q) { q.hostname = "a b"; },
      [](ResumeRequest& q) { q.root_disk = "../vda"; },
      [](ResumeRequest& q) { q.root_disk = "twenty-one-characters"; },
      [](ResumeRequest& q) { q.hostname = std::string(65, 'a'); },
      [](ResumeRequest& q) { q.machine_id = "0123"; },
      [](ResumeRequest& q) { q.machine_id = "0123456789ABCDEF0123456789ABCDEF"; },
      [](ResumeRequest& q) { q.machine_id = std::string(32, '0'); },
      [](ResumeRequest& q) { q.machine_id.clear(); },
      [](ResumeRequest& q) { q.machine_id_policy = MachineIdPolicy::kKeep; },
      [](ResumeRequest& q) { q.env = {"NOEQUALS"}; },
      [](ResumeRequest& q) { q.env = {"=value"}; },
      [](ResumeRequest& q) { q.secrets = {std::string("A=\0", 3)}; },
      [](ResumeRequest& q) { q.secrets.assign(kMaxWords + 1, "A="); },
      [](ResumeRequest& q) { q.dns = {"example.com"}; },
      [](ResumeRequest& q) { q.dns.assign(kMaxNameServers + 1, "10.0.0.1"); },
      [](ResumeRequest& q) {
        q.hosts = {{"10.0.0.1", "a b"}};
      },
      [](ResumeRequest& q) {
        q.hosts = {{"10.0.0", "db"}};
      },
      [](ResumeRequest& q) {
        q.hosts.assign(kMaxHostEntries + 1, {"10.0.0.1", "db"});
      },
  };
  EXPECT_TRUE(check_resume(full_resume()));
  for (std::size_t i = 0; i < breaks.size(); ++i) {
    ResumeRequest q = full_resume();
    breaks[i](q);
    EXPECT_FALSE(check_resume(q)) << i;
    EXPECT_FALSE(decode_resume(only_frame(encode_resume(q)).payload)) << i;
  }
}

TEST(AgentProtocol, resume_report_has_each_step_once_and_in_order) {
  ResumeReport report{9, {}};
  for (std::uint8_t step = 1; step <= kResumeSteps; ++step) {
    report.steps.push_back({static_cast<ResumeStep>(step), StepResult::kKept});
  }
  report.steps[6].result = StepResult::kSkipped;
  const Frame frame = only_frame(encode_resumed(report));
  ASSERT_EQ(frame.type, FrameType::kResumed);
  const ResumeReport out = decode_resumed(frame.payload).value();
  EXPECT_EQ(out.generation, 9u);
  EXPECT_EQ(out.steps[6].step, ResumeStep::kGeneration);
  EXPECT_EQ(out.steps[6].result, StepResult::kSkipped);
  const auto decode_changed = [&](auto change) {
    ResumeReport changed = report;
    change(changed.steps);
    return decode_resumed(only_frame(encode_resumed(changed)).payload).has_value();
  };
  EXPECT_FALSE(decode_changed([](auto& steps) { steps.pop_back(); }));
  EXPECT_FALSE(decode_changed([](auto& steps) { std::swap(steps[0], steps[1]); }));
  EXPECT_FALSE(decode_changed([](auto& steps) { steps[2].result = StepResult{4}; }));
  EXPECT_FALSE(decode_changed([](auto& steps) { steps[2].result = StepResult{0}; }));
  EXPECT_FALSE(decode_changed([](auto& steps) { steps.push_back(steps.back()); }));
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
  EXPECT_TRUE(header(0, 17).value().has_value());  // the last one
  EXPECT_FALSE(header(0, 18));
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
