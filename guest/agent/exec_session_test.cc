// Programs run by the agent: status, streams, signals, terminal, timeout, users. Uses the programs
// of the machine the test runs on.

#include "agent/exec_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <memory>

#include "agent/testing/agent_client.h"
#include "base/bytes.h"

namespace sm::guest {
namespace {

using agent::ErrorKind;
using agent::ExecRequest;
using agent::Stream;
using testing::AgentProcess;
using ::testing::HasSubstr;
using testing::HostConnection;
using testing::Outcome;
using testing::shell;
using ::testing::StartsWith;
using testing::wait_until_gone;

ExecRequest program(std::vector<std::string> argv) {
  ExecRequest request;
  request.argv = std::move(argv);
  return request;
}

void expect_status(const Outcome& outcome, std::uint32_t status) {
  ASSERT_TRUE(outcome.exit.has_value()) << (outcome.error ? outcome.error->message : "no exit");
  EXPECT_FALSE(outcome.exit->signalled);
  EXPECT_EQ(outcome.exit->value, status);
  EXPECT_TRUE(outcome.closed);
  EXPECT_FALSE(outcome.violation);
}

void expect_error(const Outcome& outcome, ErrorKind kind) {
  EXPECT_FALSE(outcome.exit.has_value());
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, kind) << outcome.error->message;
  EXPECT_FALSE(outcome.started.has_value());
  EXPECT_TRUE(outcome.closed);
}

TEST(Exec, ExitStatusIsExact) {
  AgentProcess agent;
  expect_status(agent.run(program({"true"})), 0);
  expect_status(agent.run(program({"false"})), 1);
  for (const std::uint32_t status : {0u, 1u, 42u, 126u, 127u, 255u}) {
    expect_status(agent.run(shell("exit " + std::to_string(status))), status);
  }
}

TEST(Exec, DeathBySignalIsReported) {
  AgentProcess agent;
  const Outcome outcome = agent.run(shell("kill -TERM $$"));
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->signalled);
  EXPECT_EQ(outcome.exit->value, static_cast<std::uint32_t>(SIGTERM));
  EXPECT_FALSE(outcome.exit->timed_out);
}

TEST(Exec, ReportsDurationAndPeakMemory) {
  AgentProcess agent;
  const Outcome outcome = agent.run(shell("sleep 1"));
  ASSERT_TRUE(outcome.exit.has_value());
  // It counts from when the agent has heard that the program runs.
  EXPECT_GE(outcome.exit->duration_ns, 200'000'000u);
  EXPECT_GT(outcome.exit->peak_rss_kib, 0u);
  ASSERT_TRUE(outcome.started.has_value());
  EXPECT_GT(outcome.started->pid, 1u);
}

TEST(Exec, StreamsStayApart) {
  AgentProcess agent;
  const Outcome outcome = agent.run(shell("echo out; echo err >&2; echo out2"));
  EXPECT_EQ(outcome.out, "out\nout2\n");
  EXPECT_EQ(outcome.err, "err\n");
}

TEST(Exec, ArgumentsAndEnvironmentMayHoldAnything) {
  AgentProcess agent;
  ExecRequest request = program({"/bin/sh", "-c", "printf '[%s]' \"$0\" \"$@\" \"$V\"", "", " a b ",
                                 "line\nline", "\"\\$`'", "\xff\xfe"});
  request.env = {"V=x\n\"y\"\\"};
  const Outcome outcome = agent.run(request);
  EXPECT_EQ(outcome.out, "[][ a b ][line\nline][\"\\$`'][\xff\xfe][x\n\"y\"\\]");
}

TEST(Exec, TenThousandArgumentsAndAMegabyteOfEnvironment) {
  AgentProcess agent;
  ExecRequest request = shell("echo $# ${#BIG0}");
  request.argv.push_back("sh");
  for (int i = 0; i < 10000; ++i) request.argv.push_back("argument");
  for (int i = 0; i < 10; ++i) {
    request.env.push_back("BIG" + std::to_string(i) + "=" + std::string(100000, 'v'));
  }
  EXPECT_EQ(agent.run(request).out, "10000 100000\n");
}

TEST(Exec, EnvironmentHasBaseRequestAndDefaults) {
  ServerOptions options;
  options.settings = {"box", {"BASE=1", "BOTH=base"}};
  AgentProcess agent(std::move(options));
  ExecRequest request = program({"env"});
  request.env = {"BOTH=request", "OWN=2"};
  const std::string out = agent.run(request).out;
  for (const char* line : {"BASE=1\n", "BOTH=request\n", "OWN=2\n", "HOSTNAME=box\n",
                           "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"}) {
    EXPECT_THAT(out, HasSubstr(line));
  }
  EXPECT_THAT(out, HasSubstr("HOME="));
  EXPECT_THAT(out, ::testing::Not(HasSubstr("BOTH=base")));
  EXPECT_THAT(out, ::testing::Not(HasSubstr("TERM=")));
}

TEST(Exec, ProgramIsFoundInThePathOfTheFinalEnvironment) {
  AgentProcess agent;
  ExecRequest request = program({"true"});
  request.env = {"PATH=/nowhere"};
  const Outcome outcome = agent.run(request);
  expect_error(outcome, ErrorKind::kExecNotFound);
  EXPECT_EQ(outcome.error->message, "exec: \"true\": executable file not found in $PATH");
}

TEST(Exec, MissingProgramIsNotFound) {
  AgentProcess agent;
  expect_error(agent.run(program({"no-such-program-here"})), ErrorKind::kExecNotFound);
  expect_error(agent.run(program({""})), ErrorKind::kExecNotFound);
  const Outcome outcome = agent.run(program({"/no/such/program"}));
  expect_error(outcome, ErrorKind::kExecNotFound);
  EXPECT_EQ(outcome.error->message, "exec: \"/no/such/program\": No such file or directory");
  EXPECT_EQ(outcome.error->errno_value, static_cast<std::uint32_t>(ENOENT));
}

TEST(Exec, WhatCannotBeExecutedIsDenied) {
  AgentProcess agent;
  expect_error(agent.run(program({"/etc/passwd"})), ErrorKind::kExecDenied);
  const Outcome folder = agent.run(program({"/etc"}));
  expect_error(folder, ErrorKind::kExecDenied);
  EXPECT_EQ(folder.error->message, "exec: \"/etc\": Is a directory");
  // Executable, but no format that the kernel knows.
  const Outcome made = agent.run(shell("f=$(mktemp); echo text > $f; chmod 755 $f; echo $f"));
  const std::string path = made.out.substr(0, made.out.size() - 1);
  expect_error(agent.run(program({path})), ErrorKind::kExecDenied);
  ::unlink(path.c_str());
}

TEST(Exec, WorkingDirectoryIsTaken) {
  AgentProcess agent;
  ExecRequest request = program({"pwd"});
  EXPECT_EQ(agent.run(request).out, "/\n");
  request.cwd = "/usr/bin";
  EXPECT_EQ(agent.run(request).out, "/usr/bin\n");
  request.cwd = "/no/such/folder";
  const Outcome outcome = agent.run(request);
  expect_error(outcome, ErrorKind::kWorkdir);
  EXPECT_EQ(outcome.error->message,
            "working directory \"/no/such/folder\": No such file or directory");
  request.cwd = "/etc/passwd";
  expect_error(agent.run(request), ErrorKind::kWorkdir);
}

TEST(Exec, MissingWorkingDirectoryIsMadeWhenAsked) {
  AgentProcess agent;
  const std::string base = "/tmp/sm-cwd-" + std::to_string(::getpid());
  ExecRequest request = shell("pwd; stat -c %a . ..");
  request.cwd = base + "/a/b";
  request.create_cwd = true;
  EXPECT_EQ(agent.run(request).out, base + "/a/b\n755\n755\n");
  agent.run(shell("rm -r " + base));
}

TEST(Exec, ChildHasThreeDescriptorsAndAFreshSignalState) {
  AgentProcess agent;
  EXPECT_EQ(agent.run(shell("ls /proc/$$/fd")).out, "0\n1\n2\n");
  EXPECT_EQ(agent.run(program({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"})).out,
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  EXPECT_EQ(agent.run(shell("umask")).out, "0022\n");
  EXPECT_EQ(agent.run(shell("ps -o pid=,pgid=,sid= -p $$ | awk '{print ($1==$2) ($2==$3)}'")).out,
            "11\n");
}

TEST(Exec, StandardInputIsNullUnlessKept) {
  AgentProcess agent;
  EXPECT_EQ(agent.run(program({"cat"})).out, "");
  EXPECT_EQ(agent.run(program({"readlink", "/proc/self/fd/0"})).out, "/dev/null\n");
}

TEST(Exec, TenMegabytesThroughCatStayWhole) {
  AgentProcess agent;
  std::string data(10u << 20, '\0');
  std::uint32_t state = 12345;
  for (char& c : data) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  ExecRequest request = program({"cat"});
  request.keep_stdin = true;
  const Outcome outcome = agent.run(request, data);
  expect_status(outcome, 0);
  EXPECT_TRUE(outcome.out == data);
}

TEST(Exec, TinyWindowsLoseAndReorderNothing) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(
      shell("i=0; while [ $i -lt 20000 ]; do echo out$i-padding-padding; echo err$i-padding >&2; "
            "i=$((i+1)); done")));
  const Outcome outcome = host.finish({}, 100);
  expect_status(outcome, 0);
  std::string out, err;
  for (int i = 0; i < 20000; ++i) {
    out += "out" + std::to_string(i) + "-padding-padding\n";
    err += "err" + std::to_string(i) + "-padding\n";
  }
  EXPECT_TRUE(outcome.out == out);
  EXPECT_TRUE(outcome.err == err);
}

// Counts what arrives of a stream when nothing is granted.
std::size_t receive_until_silent(HostConnection& host, Stream stream) {
  std::size_t received = 0;
  while (received < agent::kInitialWindow) {
    const auto frame = host.next();
    if (!frame) return received;
    if (frame->type == agent::FrameType::kData &&
        frame->stream == static_cast<std::uint8_t>(stream)) {
      received += frame->payload.size();
    }
  }
  return received;
}

TEST(Exec, WithoutGrantsExactlyOneWindowArrivesAndSignalsStillWork) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(shell("trap 'echo caught >&2; exit 7' TERM; yes & wait")));
  EXPECT_EQ(receive_until_silent(host, Stream::kStdout), agent::kInitialWindow);
  host.send(agent::encode_signal(SIGTERM));
  // Standard error and the exit come through although standard output is stuck.
  host.send(agent::encode_window(Stream::kStdout, 1u << 20));
  const Outcome outcome = host.finish();
  EXPECT_EQ(outcome.err, "caught\n");
  ASSERT_TRUE(outcome.exit.has_value());
}

TEST(Exec, SignalArrivesWhileInputIsBlocked) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  ExecRequest request = shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done");
  request.keep_stdin = true;
  host.send(agent::encode_exec(request));
  host.expect_output("ready");
  // A whole window that nobody reads.
  const std::string chunk(agent::kMaxData, 'x');
  for (std::size_t sent = 0; sent < agent::kInitialWindow; sent += chunk.size()) {
    host.send(agent::encode_data(Stream::kStdin, as_byte_span(chunk)));
  }
  host.send(agent::encode_signal(SIGUSR1));
  expect_status(host.finish(), 9);
}

TEST(Exec, SignalReachesTheWholeGroup) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(shell("sleep 1000 & echo $!; wait")));
  host.expect_output("\n");
  const pid_t grandchild = std::stoi(host.so_far().out);
  host.send(agent::encode_signal(SIGKILL));
  const Outcome outcome = host.finish();
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->signalled);
  EXPECT_TRUE(wait_until_gone(grandchild));
}

TEST(Exec, SignalBehindTheRequestIsNotLost) {
  AgentProcess agent;
  for (int i = 0; i < 20; ++i) {
    HostConnection host = agent.connect();
    host.send(agent::encode_exec(program({"sleep", "1000"})));
    host.send(agent::encode_signal(SIGINT));
    const Outcome outcome = host.finish();
    ASSERT_TRUE(outcome.exit.has_value());
    EXPECT_EQ(outcome.exit->value, static_cast<std::uint32_t>(SIGINT));
  }
}

TEST(Exec, DataForClosedInputIsIgnored) {
  AgentProcess agent;
  ExecRequest request = shell("exec 0<&-; sleep 0.3; echo done");
  request.keep_stdin = true;
  const Outcome outcome = agent.run(request, std::string(200000, 'x'));
  expect_status(outcome, 0);
  EXPECT_EQ(outcome.out, "done\n");
}

TEST(Exec, OutputOfAnEndedProcessIsDrainedToTheLastByte) {
  AgentProcess agent;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(agent.run(shell("head -c 60000 /dev/zero | tr '\\0' a; echo end")).out.size(),
              60004u);
  }
}

TEST(Exec, BackgroundChildWithThePipesDoesNotHoldTheExitUp) {
  AgentProcess agent;
  const Outcome outcome = agent.run(shell("sleep 1000 & echo $!"));
  expect_status(outcome, 0);
  const pid_t left = std::stoi(outcome.out);
  EXPECT_EQ(::kill(left, 0), 0) << "what runs in the background goes on";
  ::kill(left, SIGKILL);
}

TEST(Exec, BackgroundChildThatNeverStopsWritingDoesNotHoldTheExitUp) {
  AgentProcess agent;
  const Outcome outcome = agent.run(shell("yes & echo $! >&2"));
  expect_status(outcome, 0);
  ::kill(std::stoi(outcome.err), SIGKILL);
}

TEST(Exec, TimeoutKillsGroupAndWhatLeftIt) {
  AgentProcess agent;
  ExecRequest request = shell("setsid sleep 1001 & echo $!; sleep 1002 & echo $!; wait");
  request.timeout_ms = 3000;  // in which both numbers come
  const Outcome outcome = agent.run(request);
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->timed_out);
  EXPECT_TRUE(outcome.exit->signalled);
  EXPECT_EQ(outcome.exit->value, static_cast<std::uint32_t>(SIGKILL));
  std::size_t end = 0;
  const pid_t escaped = std::stoi(outcome.out, &end);
  const pid_t member = std::stoi(outcome.out.substr(end));
  EXPECT_TRUE(wait_until_gone(member));
  if (!agent.has_cgroups()) {
    ::kill(escaped, SIGKILL);
    GTEST_SKIP() << "no cgroup2 here: a process that leaves its group is out of reach";
  }
  EXPECT_TRUE(wait_until_gone(escaped));
}

TEST(Exec, TimeoutInTheFarFutureIsNone) {
  AgentProcess agent;
  ExecRequest request = program({"true"});
  request.timeout_ms = ~0ull;
  expect_status(agent.run(request), 0);
}

TEST(Exec, LostConnectionEndsTheProgram) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(shell("sleep 1000 & echo $$; wait")));
  host.expect_output("\n");
  const pid_t pid = std::stoi(host.so_far().out);
  host.close();
  EXPECT_TRUE(wait_until_gone(pid));
  EXPECT_TRUE(testing::eventually([&] { return agent.children() == 0; }));
}

TEST(Exec, DetachedProgramOutlivesItsConnection) {
  AgentProcess agent;
  const std::string file = ::testing::TempDir() + "detached-" + std::to_string(::getpid());
  ExecRequest request =
      shell("echo out; echo err >&2; read line; echo \"<$line>\"; exec sleep 1000");
  request.detached = true;
  request.output = file;
  const Outcome outcome = agent.run(request);
  ASSERT_TRUE(outcome.started.has_value());
  EXPECT_TRUE(outcome.closed);
  EXPECT_FALSE(outcome.exit.has_value());
  EXPECT_EQ(outcome.out, "");
  const std::string show = "until grep -q '<' " + file + "; do sleep 0.02; done; cat " + file;
  EXPECT_EQ(agent.run(shell(show)).out, "out\nerr\n<>\n");
  const auto pid = static_cast<pid_t>(outcome.started->pid);
  EXPECT_EQ(::kill(pid, SIGKILL), 0);
  EXPECT_TRUE(wait_until_gone(pid));
  EXPECT_TRUE(testing::eventually([&] { return agent.children() == 0; }));
  ::unlink(file.c_str());
}

TEST(Exec, DetachedProgramThatCannotStartIsAnError) {
  AgentProcess agent;
  ExecRequest request = program({"no-such-program"});
  request.detached = true;
  expect_error(agent.run(request), ErrorKind::kExecNotFound);
  request = program({"true"});
  request.detached = true;
  request.output = "/no/such/folder/file";
  expect_error(agent.run(request), ErrorKind::kFile);
}

TEST(Exec, TwoHundredAtOnce) {
  AgentProcess agent;
  std::vector<std::unique_ptr<HostConnection>> hosts;
  for (int i = 0; i < 200; ++i) {
    hosts.push_back(std::make_unique<HostConnection>(agent.connect()));
    ExecRequest request = shell("read line; echo $line " + std::to_string(i));
    request.keep_stdin = true;
    hosts.back()->send(agent::encode_exec(request));
  }
  for (int i = 199; i >= 0; --i) {
    const Outcome outcome = hosts[static_cast<std::size_t>(i)]->finish("go\n");
    expect_status(outcome, 0);
    EXPECT_EQ(outcome.out, "go " + std::to_string(i) + "\n");
  }
}

TEST(Exec, ManyRunsLeaveNothingBehind) {
  AgentProcess agent;
  const std::size_t before = agent.open_descriptors();
  for (int i = 0; i < 300; ++i) {
    agent.run(program({i % 3 == 0 ? "no-such-program" : "true"}));
  }
  EXPECT_TRUE(testing::eventually([&] { return agent.open_descriptors() == before; }))
      << agent.open_descriptors() << " descriptors, before: " << before;
  EXPECT_TRUE(testing::eventually([&] { return agent.children() == 0; }));
}

class ExecTty : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/ptmx", R_OK | W_OK) < 0) GTEST_SKIP() << "no /dev/ptmx here";
  }
  static ExecRequest terminal(std::string_view script) {
    ExecRequest request = shell(script);
    request.tty = true;
    request.keep_stdin = true;
    request.window = {40, 120};
    return request;
  }
};

TEST_F(ExecTty, IsAControllingTerminalOfTheGivenSize) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(
      agent::encode_exec(terminal("tty; stty size; echo $TERM; echo x > /dev/tty; echo err >&2")));
  const Outcome outcome = host.finish();
  EXPECT_THAT(outcome.out, StartsWith("/dev/pts/"));
  EXPECT_THAT(outcome.out, HasSubstr("\r\n40 120\r\nxterm\r\nx\r\nerr\r\n"));
  EXPECT_EQ(outcome.err, "");
  expect_status(outcome, 0);
}

TEST_F(ExecTty, ResizeReachesTheProgramAsASignal) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(
      terminal("trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done")));
  host.expect_output("ready");
  host.send(agent::encode_resize({50, 132}));
  const Outcome outcome = host.finish();
  EXPECT_THAT(outcome.out, HasSubstr("50 132"));
  expect_status(outcome, 5);
}

TEST_F(ExecTty, ControlCharactersActOnTheForegroundGroup) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  ExecRequest request = program({"cat"});
  request.tty = request.keep_stdin = true;
  host.send(agent::encode_exec(request));
  host.send(agent::encode_data(Stream::kStdin, as_byte_span("x\n")));
  // Once by the terminal's echo, once by the program: it runs.
  host.expect_output("x\r\nx\r\n");
  host.send(agent::encode_data(Stream::kStdin, as_byte_span("\x03")));
  host.no_input();
  const Outcome outcome = host.finish();
  ASSERT_TRUE(outcome.exit.has_value());
  EXPECT_TRUE(outcome.exit->signalled);
  EXPECT_EQ(outcome.exit->value, static_cast<std::uint32_t>(SIGINT));
}

TEST_F(ExecTty, EndOfInputIsEndOfFile) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(terminal("stty -echo; echo ready; cat; echo over")));
  host.expect_output("ready");
  const Outcome outcome = host.finish("line\nrest");
  EXPECT_THAT(outcome.out, HasSubstr("line\r\nrestover\r\n"));
  expect_status(outcome, 0);
}

TEST_F(ExecTty, OutputOfAnEndedProcessIsDrained) {
  AgentProcess agent;
  for (int i = 0; i < 50; ++i) {
    const Outcome outcome = agent.run(terminal("seq 1 2000"));
    EXPECT_THAT(outcome.out, HasSubstr("\r\n2000\r\n"));
  }
}

TEST_F(ExecTty, HangupWhenTheConnectionIsLost) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_exec(terminal("echo pid $$; sleep 1000")));
  host.expect_output("\n");
  const pid_t pid = std::stoi(host.so_far().out.substr(4));
  host.close();
  EXPECT_TRUE(wait_until_gone(pid));
}

class ExecUser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can change users";
  }
};

TEST_F(ExecUser, NamesAndNumbers) {
  AgentProcess agent;
  ExecRequest request = program({"id"});
  request.user = "nobody";
  EXPECT_THAT(agent.run(request).out, StartsWith("uid=65534(nobody) gid=65534(nogroup)"));
  request.user = "4242:4343";
  EXPECT_EQ(agent.run(request).out, "uid=4242 gid=4343 groups=4343\n");
  request.user = "4242";
  EXPECT_EQ(agent.run(request).out, "uid=4242 gid=0(root) groups=0(root)\n");
}

TEST_F(ExecUser, UnknownUserIsAnErrorAndRunsNothing) {
  AgentProcess agent;
  ExecRequest request = program({"id"});
  request.user = "no-such-user";
  const Outcome outcome = agent.run(request);
  expect_error(outcome, ErrorKind::kUser);
  EXPECT_EQ(outcome.error->message,
            "unable to find user no-such-user: no matching entries in passwd file");
}

TEST_F(ExecUser, HomeComesFromPasswdUnlessGiven) {
  AgentProcess agent;
  ExecRequest request = shell("echo $HOME");
  request.user = "daemon";
  EXPECT_EQ(agent.run(request).out, "/usr/sbin\n");
  request.env = {"HOME=/given"};
  EXPECT_EQ(agent.run(request).out, "/given\n");
}

TEST_F(ExecUser, StreamsCanBeOpenedAgainByTheUser) {
  AgentProcess agent;
  ExecRequest request = shell("echo a > /dev/stdout; echo b > /dev/stderr");
  request.user = "nobody";
  const Outcome outcome = agent.run(request);
  EXPECT_EQ(outcome.out, "a\n");
  EXPECT_EQ(outcome.err, "b\n");
}

TEST_F(ExecUser, OrdinaryUserHasNoCapabilitiesAndRootHasThemAll) {
  AgentProcess agent;
  ExecRequest request = program({"grep", "CapEff", "/proc/self/status"});
  const std::string as_root = agent.run(request).out;
  request.user = "nobody";
  EXPECT_EQ(agent.run(request).out, "CapEff:\t0000000000000000\n");
  EXPECT_NE(as_root, "CapEff:\t0000000000000000\n");
}

}  // namespace
}  // namespace sm::guest
