// The host's side of a resume against agents that answer well, badly, or not at all.

#include "runtime/resume_client.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <array>
#include <functional>
#include <optional>
#include <thread>

#include "base/file.h"

namespace sm {
namespace {

using agent::FrameType;

constexpr auto kPatience = std::chrono::seconds(60);

// The agent's end: reads what the host sends, with a deadline.
class Agent {
 public:
  explicit Agent(UniqueFd socket) : socket_(std::move(socket)) {}

  void send(const std::vector<std::byte>& frame) {
    EXPECT_TRUE(write_all(socket_.get(), frame).has_value());
  }
  std::optional<agent::Frame> next() {
    const Deadline deadline = Deadline::after(kPatience);
    for (;;) {
      auto frame = parser_.next();
      EXPECT_TRUE(frame.has_value());
      if (!frame) return std::nullopt;
      if (*frame) return std::move(**frame);
      pollfd waiting{socket_.get(), POLLIN, 0};
      std::array<std::byte, 4096> buffer;
      if (::poll(&waiting, 1, deadline.poll_timeout_ms()) != 1) return std::nullopt;
      const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) return std::nullopt;
      parser_.feed(std::span(buffer).first(static_cast<std::size_t>(n)));
    }
  }
  bool is_quiet() {
    pollfd waiting{socket_.get(), POLLIN, 0};
    return ::poll(&waiting, 1, 0) == 0;
  }
  // Takes hello and request; the request, if that is what came.
  std::optional<agent::ResumeRequest> take_request(std::uint32_t generation) {
    const auto hello = next();
    EXPECT_TRUE(hello && hello->type == FrameType::kHello);
    send(agent::encode_hello({.generation = generation}));
    const auto frame = next();
    if (!frame || frame->type != FrameType::kResume) return std::nullopt;
    auto request = agent::decode_resume(frame->payload);
    EXPECT_TRUE(request.has_value());
    if (!request) return std::nullopt;
    return std::move(*request);
  }
  void close() { socket_.reset(); }

 private:
  UniqueFd socket_;
  agent::FrameParser parser_;
};

struct Ends {
  UniqueFd host;
  UniqueFd agent;
};

Ends make_ends() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

agent::ResumeRequest request_for(std::uint32_t generation) {
  agent::ResumeRequest request;
  request.generation = generation;
  request.secrets = {"TOKEN=x"};
  return request;
}

agent::ResumeReport report_for(std::uint32_t generation) {
  agent::ResumeReport report{generation, {}};
  for (std::uint8_t step = 1; step <= agent::kResumeSteps; ++step) {
    report.steps.push_back({static_cast<agent::ResumeStep>(step), agent::StepResult::kDone});
  }
  return report;
}

// Runs the host's side in a thread of its own against the given agent.
Result<agent::ResumeReport> resume_with(const std::function<void(Agent&)>& play,
                                        std::uint32_t generation = 3) {
  Ends ends = make_ends();
  Agent agent(std::move(ends.agent));
  std::optional<Result<agent::ResumeReport>> result;
  std::thread host([&] {
    result =
        resume_guest(std::move(ends.host), request_for(generation), Deadline::after(kPatience));
  });
  play(agent);
  host.join();
  return std::move(*result);
}

void expect_code(const Result<agent::ResumeReport>& result, Code code) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), code) << result.error().text();
}

std::uint64_t host_clock() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

TEST(ResumeClient, RequestHasTheClockOfTheHelloAndAFreshSeed) {
  std::array<std::byte, agent::kSeedSize> seeds[2];
  for (auto& seed : seeds) {
    const auto result = resume_with([&](Agent& agent) {
      // The clock must not be older than the agent's hello.
      ASSERT_TRUE(agent.next().has_value());
      const std::uint64_t before = host_clock();
      agent.send(agent::encode_hello({.generation = 3}));
      const auto frame = agent.next();
      ASSERT_TRUE(frame && frame->type == FrameType::kResume);
      const auto request = agent::decode_resume(frame->payload);
      ASSERT_TRUE(request.has_value());
      EXPECT_GE(request->wall_clock_ns, before);
      EXPECT_LE(request->wall_clock_ns, host_clock());
      EXPECT_EQ(request->secrets, std::vector<std::string>{"TOKEN=x"});
      seed = request->seed;
      agent.send(agent::encode_resumed(report_for(3)));
    });
    ASSERT_TRUE(result.has_value()) << result.error().text();
    EXPECT_EQ(result->steps.size(), agent::kResumeSteps);
  }
  EXPECT_NE(seeds[0], seeds[1]);
}

TEST(ResumeClient, FailedStepIsAnErrorOfTheGuest) {
  const auto result = resume_with([](Agent& agent) {
    ASSERT_TRUE(agent.take_request(3).has_value());
    agent.send(agent::encode_error({agent::ErrorKind::kResume, 1, "resume: clock: no"}));
  });
  expect_code(result, Code::kGuest);
  EXPECT_NE(result.error().cause().find("clock: no"), std::string::npos);
}

TEST(ResumeClient, OtherGenerationGetsNoSecrets) {
  const auto result =
      resume_with([](Agent& agent) { EXPECT_FALSE(agent.take_request(2).has_value()); });
  expect_code(result, Code::kGuest);
}

TEST(ResumeClient, AnswersThatMakeNoSenseAreErrors) {
  auto other_generation = report_for(4);
  auto no_clock = report_for(3);
  no_clock.steps[1].result = agent::StepResult::kSkipped;
  auto step_missing = report_for(3);
  step_missing.steps.pop_back();
  for (const auto& answer :
       {agent::encode_resumed(other_generation), agent::encode_resumed(no_clock),
        agent::encode_resumed(step_missing), agent::encode_done(), agent::encode_hello({})}) {
    const auto result = resume_with([&](Agent& agent) {
      ASSERT_TRUE(agent.take_request(3).has_value());
      agent.send(answer);
    });
    expect_code(result, Code::kCorrupt);
  }
}

TEST(ResumeClient, LostAgentIsGone) {
  expect_code(resume_with([](Agent& agent) {
                ASSERT_TRUE(agent.take_request(3).has_value());
                agent.close();
              }),
              Code::kGone);
}

TEST(ResumeClient, SilentAgentEndsAtTheDeadline) {
  Ends ends = make_ends();
  const auto result = resume_guest(std::move(ends.host), request_for(1),
                                   Deadline::after(std::chrono::milliseconds(20)));
  expect_code(result, Code::kTimeout);
}

TEST(ResumeClient, BadRequestIsNotSent) {
  Ends ends = make_ends();
  Agent agent(std::move(ends.agent));
  auto request = request_for(1);
  request.hostname = "no good";
  const int host = ends.host.get();
  UniqueFd keep(::dup(host));
  expect_code(resume_guest(std::move(ends.host), std::move(request), Deadline::after(kPatience)),
              Code::kInvalidArgument);
  EXPECT_TRUE(agent.is_quiet());
  auto large = request_for(1);
  large.env = {"A=" + std::string(agent::kMaxPayload, 'x')};
  expect_code(resume_guest(std::move(keep), std::move(large), Deadline::after(kPatience)),
              Code::kInvalidArgument);
}

TEST(ResumeClient, LargeRequestPassesASmallSocket) {
  Ends ends = make_ends();
  const int small = 4096;
  ASSERT_EQ(::setsockopt(ends.host.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
  Agent agent(std::move(ends.agent));
  auto request = request_for(1);
  request.env = {"A=" + std::string(3u << 20, 'x')};
  std::optional<Result<agent::ResumeReport>> result;
  std::thread host([&] {
    result = resume_guest(std::move(ends.host), std::move(request), Deadline::after(kPatience));
  });
  const auto received = agent.take_request(1);
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->env.at(0).size(), (3u << 20) + 2);
  agent.send(agent::encode_resumed(report_for(1)));
  host.join();
  EXPECT_TRUE(result->has_value());
}

TEST(ResumeClient, DestroyingItOnTheLoopIsSilent) {
  const auto loop = EventLoop::create().value();
  Ends ends = make_ends();
  bool called = false;
  auto client = ResumeClient::start(*loop, std::move(ends.host), request_for(1),
                                    Deadline::after(std::chrono::milliseconds(1)),
                                    [&](const auto&) { called = true; });
  ASSERT_TRUE(client.has_value());
  client->reset();
  loop->run_once(Deadline::after(std::chrono::milliseconds(20)));
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace sm
