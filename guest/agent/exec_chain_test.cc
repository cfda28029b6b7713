// Execs of several commands and with staged files: one request, one round trip.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "agent/testing/agent_client.h"
#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {
namespace {

using agent::ErrorKind;
using agent::ExecRequest;
using testing::AgentProcess;
using ::testing::HasSubstr;
using testing::HostConnection;
using testing::Outcome;
using testing::shell;
using testing::wait_until_gone;

std::vector<std::string> sh(const std::string& script) { return {"sh", "-c", script}; }

class ExecChain : public ::testing::Test {
 protected:
  ExecChain() { folder_ = ::mkdtemp(template_.data()); }
  ~ExecChain() override { EXPECT_EQ(std::system(("rm -rf '" + folder_ + "'").c_str()), 0); }

  std::array<char, 32> template_{"/tmp/sm-chain-XXXXXX"};
  std::string folder_;
  AgentProcess agent_;
};

TEST_F(ExecChain, CommandsRunOneAfterTheOtherOnTheSameStreams) {
  ExecRequest request = shell("echo 1; echo e1 >&2");
  request.chain = {sh("echo 2"), sh("echo 3; echo e3 >&2; exit 7")};
  const Outcome outcome = agent_.run(request);
  EXPECT_EQ(outcome.out, "1\n2\n3\n");
  EXPECT_EQ(outcome.err, "e1\ne3\n");
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_EQ(outcome.exit->value, 7u);
  EXPECT_EQ(outcome.exit->step, 2u);
  EXPECT_FALSE(outcome.violation);
}

TEST_F(ExecChain, FailureEndsItAndSaysWhere) {
  ExecRequest request = shell("true");
  request.chain = {sh("exit 3"), sh("echo never")};
  const Outcome outcome = agent_.run(request);
  EXPECT_EQ(outcome.out, "");
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_EQ(outcome.exit->value, 3u);
  EXPECT_EQ(outcome.exit->step, 1u);
}

TEST_F(ExecChain, DeathBySignalEndsIt) {
  ExecRequest request = shell("kill -9 $$");
  request.chain = {sh("echo never")};
  const Outcome outcome = agent_.run(request);
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->signalled);
  EXPECT_EQ(outcome.exit->step, 0u);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(ExecChain, MissingLaterProgramIsAnErrorBehindTheOutputSoFar) {
  ExecRequest request = shell("echo before");
  request.chain = {{"no-such-program"}, sh("echo never")};
  const Outcome outcome = agent_.run(request);
  EXPECT_EQ(outcome.out, "before\n");
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kExecNotFound);
  EXPECT_TRUE(outcome.started.has_value());
  EXPECT_FALSE(outcome.exit.has_value());
}

TEST_F(ExecChain, InputIsSharedByAllCommands) {
  ExecRequest request = shell("read line; echo \"first $line\"");
  request.keep_stdin = true;
  request.chain = {sh("cat")};
  EXPECT_EQ(agent_.run(request, "a\nb\nc\n").out, "first a\nb\nc\n");
}

TEST_F(ExecChain, MegabytesOfEachCommandAreKept) {
  ExecRequest request = shell("head -c 1000000 /dev/zero");
  request.chain = {sh("head -c 2000000 /dev/zero"), sh("head -c 1 /dev/zero")};
  EXPECT_EQ(agent_.run(request).out.size(), 3'000'001u);
}

TEST_F(ExecChain, TimeoutCountsForAllCommandsTogether) {
  ExecRequest request = shell("true");
  request.chain = {sh("sleep 1000"), sh("echo never")};
  request.timeout_ms = 3000;  // in which the first ends
  const Outcome outcome = agent_.run(request);
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->timed_out);
  EXPECT_EQ(outcome.exit->step, 1u);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(ExecChain, LostConnectionKillsTheCommandThatRuns) {
  ExecRequest request = shell("true");
  request.chain = {sh("echo $$.; exec sleep 1000")};
  HostConnection host = agent_.connect();
  host.send(agent::encode_exec(request));
  host.expect_output(".\n");
  const pid_t pid = std::stoi(host.so_far().out);
  host.close();
  EXPECT_TRUE(wait_until_gone(pid));
}

TEST_F(ExecChain, ManyCommandsLeaveNothingBehind) {
  ExecRequest request = shell("true");
  request.chain.assign(100, {"true"});
  const std::size_t before = agent_.open_descriptors();
  const Outcome outcome = agent_.run(request);
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_EQ(outcome.exit->step, 100u);
  EXPECT_TRUE(testing::eventually(
      [&] { return agent_.open_descriptors() == before && agent_.children() == 0; }));
}

TEST_F(ExecChain, StagedFilesAreThereBeforeTheFirstCommand) {
  ExecRequest request = shell(folder_ + "/run");
  const std::string data("a\0b\n", 4);
  request.files = {{folder_ + "/run", 0755, "#!/bin/sh\ncat " + folder_ + "/data\n"},
                   {folder_ + "/data", 0600, data}};
  request.chain = {{"stat", "-c", "%a", folder_ + "/data"}};
  const Outcome outcome = agent_.run(request);
  EXPECT_EQ(outcome.out, data + "600\n");
}

TEST_F(ExecChain, LaterFileOfTheSameNameWins) {
  ExecRequest request = shell("cat " + folder_ + "/f");
  request.files = {{folder_ + "/f", 0644, "old"}, {folder_ + "/f", 0644, "new"}};
  EXPECT_EQ(agent_.run(request).out, "new");
}

TEST_F(ExecChain, FileThatCannotBeStagedRunsNothing) {
  ExecRequest request = shell("echo never");
  request.files = {{folder_ + "/missing/f", 0644, "x"}};
  const Outcome outcome = agent_.run(request);
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, ErrorKind::kFile);
  EXPECT_EQ(outcome.error->errno_value, static_cast<std::uint32_t>(ENOENT));
  EXPECT_THAT(outcome.error->message, HasSubstr(folder_ + "/missing/f"));
  EXPECT_EQ(outcome.out, "");
  EXPECT_FALSE(outcome.started.has_value());
}

TEST_F(ExecChain, FilesOfAnOrdinaryUsersCommandBelongToRoot) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  ExecRequest request = shell("id -u; stat -c %u " + folder_ + "/f");
  request.user = "65534:65534";
  request.files = {{folder_ + "/f", 0644, "x"}};
  EXPECT_EQ(agent_.run(request).out, "65534\n0\n");
}

}  // namespace
}  // namespace sm::guest
