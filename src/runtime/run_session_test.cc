// A session that only waits for a workload which runs since before its snapshot. A shell script
// plays the worker: descriptor 3 is the control socket.
#include "runtime/run_session.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/bytes.h"

namespace sm {
namespace {

class WaitingSession : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/run-session-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // The session of a worker that tells these events and then does what `body` says.
  SessionOutcome run(const std::vector<control::Event>& events, const std::string& body) {
    std::string bytes;
    for (const control::Event& event : events) bytes += as_text(control::encode(event));
    std::ofstream(folder_ + "/events", std::ios::binary) << bytes;
    std::ofstream(folder_ + "/worker") << "#!/bin/sh\ncat " << folder_ << "/events >&3\n"
                                       << body << "\n";
    EXPECT_EQ(::chmod((folder_ + "/worker").c_str(), 0700), 0);
    SessionConfig config;
    config.worker.program = folder_ + "/worker";
    config.worker.guest_config = "{}";
    config.worker.log_file = folder_ + "/log";
    config.exec_socket = folder_ + "/agent";
    config.console_log = folder_ + "/console";
    config.only_wait = true;
    config.stop_deadline = stop_deadline_;
    const SessionSignals signals;
    const TimePoint begin = now();
    const SessionOutcome outcome = run_session(config, signals);
    took_ = now() - begin;
    return outcome;
  }

  std::string folder_;
  Duration stop_deadline_ = std::chrono::seconds(60);
  Duration took_{};
};

const control::Event kStarted = {.name = control::EventName::kStarted};

control::Event exit_with(std::uint32_t status) {
  return {.name = control::EventName::kWorkloadExit, .argument = status};
}

TEST_F(WaitingSession, ends_with_the_workloads_status) {
  for (const std::uint32_t status : {0u, 5u, 143u, 255u}) {
    const SessionOutcome outcome = run({kStarted, exit_with(status)}, "exit 0");
    EXPECT_EQ(outcome.status, static_cast<int>(status));
    EXPECT_FALSE(outcome.error.has_value());
    EXPECT_FALSE(outcome.not_restored);
  }
}

TEST_F(WaitingSession, kills_a_vm_that_goes_on_after_its_workload) {
  stop_deadline_ = std::chrono::milliseconds(200);
  const SessionOutcome outcome =
      run({kStarted, exit_with(5)}, "trap '' TERM INT HUP; exec sleep 600");
  EXPECT_EQ(outcome.status, 5);
  EXPECT_FALSE(outcome.error.has_value());
  EXPECT_GE(took_, stop_deadline_);
  EXPECT_LT(took_, std::chrono::seconds(300));
}

TEST_F(WaitingSession, status_that_no_process_has_is_the_guests_lie) {
  for (const std::uint32_t status : {256u, 300u}) {
    const SessionOutcome outcome = run({kStarted, exit_with(status)}, "exit 0");
    EXPECT_EQ(outcome.status, 125);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->code(), Code::kGuest);
    EXPECT_NE(outcome.error->cause().find(std::to_string(status)), std::string::npos);
  }
  // Beyond what an event may carry, the message is none.
  const SessionOutcome beyond = run({kStarted, exit_with(0xffff'ffff)}, "exit 0");
  EXPECT_EQ(beyond.status, 125);
  EXPECT_TRUE(beyond.error.has_value());
}

TEST_F(WaitingSession, first_status_counts) {
  EXPECT_EQ(run({kStarted, exit_with(3), exit_with(4), exit_with(300)}, "exit 0").status, 3);
}

}  // namespace
}  // namespace sm
