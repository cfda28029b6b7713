// Resume: the steps and their order, the files, what is refused before it, what programs see after.

#include "agent/resume_session.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "agent/kernel_controls.h"
#include "agent/testing/agent_client.h"
#include "base/bytes.h"
#include "base/file.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;
using agent::ErrorKind;
using agent::FrameType;
using agent::MachineIdPolicy;
using agent::ResumeStep;
using agent::StepResult;
using testing::AgentProcess;
using testing::eventually;
using ::testing::HasSubstr;
using testing::HostConnection;
using ::testing::Not;
using testing::Outcome;
using testing::shell;

constexpr const char* kId = "0123456789abcdef0123456789abcdef";

// What the agent, in its own process, sees of the test: the doorbell's generation and a kernel that
// refuses one step.
struct Machine {
  std::atomic<std::uint32_t> generation{0};
  std::atomic<int> broken_step{0};
};

// Writes down what it is told.
class RecordingKernel final : public KernelControls {
 public:
  RecordingKernel(Machine& machine, std::string log) : machine_(machine), log_(std::move(log)) {}
  Status seed_random(std::span<const std::byte> seed) override {
    return note(ResumeStep::kRandom, "random ", as_text(seed));
  }
  Status set_clock(std::uint64_t nanoseconds) override {
    return note(ResumeStep::kClock, "clock ", std::to_string(nanoseconds));
  }
  Status set_hostname(const std::string& hostname) override {
    return note(ResumeStep::kHostname, "hostname ", hostname);
  }

  Status follow_root() override {
    const UniqueFd fd = SM_TRY(open_file(log_, O_WRONLY | O_CREAT | O_APPEND));
    return write_all(fd.get(), as_byte_span("root\n"));
  }

 private:
  // In pieces: a line put together here would leave a copy of the seed in the heap.
  Status note(ResumeStep step, std::string_view what, std::string_view value) {
    if (machine_.broken_step == static_cast<int>(step)) return fail_errno("the kernel", EPERM);
    const UniqueFd fd = SM_TRY(open_file(log_, O_WRONLY | O_CREAT | O_APPEND));
    for (const std::string_view piece : {what, value, std::string_view("\n")}) {
      SM_TRY_STATUS(write_all(fd.get(), as_byte_span(piece)));
    }
    return {};
  }
  Machine& machine_;
  std::string log_;
};

agent::ResumeRequest request_for(std::uint32_t generation, char seed = 's') {
  agent::ResumeRequest request;
  request.generation = generation;
  request.wall_clock_ns = 1'700'000'000'000'000'000;
  request.seed.fill(static_cast<std::byte>(seed));
  return request;
}

struct Answer {
  std::optional<agent::ResumeReport> report;
  agent::ErrorReport error;
  StepResult result(ResumeStep step) const {
    return report->steps.at(static_cast<std::size_t>(step) - 1).result;
  }
};

// One agent with a root folder and a kernel of its own.
class TestMachine {
 public:
  explicit TestMachine(AgentSettings settings = {"testhost", {"BOOT=1"}, {{"10.0.0.1", "db"}}},
                       bool layers = false) {
    char name[] = "/tmp/sm-resume-test-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    fs::create_directories(path("/etc"));
    fs::create_directories(path("/run"));
    put("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.0.1\tdb\n127.0.1.1\ttesthost\n");
    void* shared =
        ::mmap(nullptr, sizeof(Machine), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(shared, MAP_FAILED);
    machine_ = new (shared) Machine;
    ServerOptions options;
    options.settings = std::move(settings);
    options.generation = [m = machine_] { return m->generation.load(); };
    options.kernel = std::make_unique<RecordingKernel>(*machine_, folder_ + "/kernel");
    options.root = folder_ + "/root";
    if (layers) options.layers = open_file(folder_, O_PATH | O_DIRECTORY).value();
    agent_ = std::make_unique<AgentProcess>(std::move(options));
  }
  ~TestMachine() {
    agent_.reset();
    ::munmap(machine_, sizeof(Machine));
    fs::remove_all(folder_);
  }
  TestMachine(const TestMachine&) = delete;
  TestMachine& operator=(const TestMachine&) = delete;

  AgentProcess& agent() { return *agent_; }
  // As a restore does: the doorbell counts on, the agent is not told.
  void restore(std::uint32_t generation) { machine_->generation = generation; }
  void break_step(ResumeStep step) { machine_->broken_step = static_cast<int>(step); }
  std::string path(const std::string& name) const { return folder_ + "/root" + name; }
  void put(const std::string& name, std::string_view text) {
    fs::create_directories(fs::path(path(name)).parent_path());
    ASSERT_TRUE(write_file_atomic(path(name), text).has_value());
  }
  std::string get(const std::string& name) const {
    return read_file(path(name), 1u << 21).value_or("(missing)");
  }
  std::string kernel_log() const { return read_file(folder_ + "/kernel", 1u << 20).value_or(""); }
  Answer resume(const agent::ResumeRequest& request) {
    HostConnection host = agent_->connect();
    host.send(agent::encode_resume(request));
    Answer answer;
    for (auto frame = host.next(); frame; frame = host.next()) {
      if (frame->type == FrameType::kResumed) {
        auto report = agent::decode_resumed(frame->payload);
        EXPECT_TRUE(report.has_value());
        if (report) answer.report = std::move(*report);
      }
      if (frame->type == FrameType::kError) {
        answer.error = agent::decode_error(frame->payload).value_or(agent::ErrorReport{});
      }
    }
    return answer;
  }
  std::string output_of(std::string_view script) { return agent_->run(shell(script)).out; }

 private:
  std::string folder_;
  Machine* machine_ = nullptr;
  std::unique_ptr<AgentProcess> agent_;
};

TEST(Resume, StepsAreDoneInOrderAndReported) {
  TestMachine machine;
  machine.restore(3);
  auto request = request_for(3);
  request.hostname = "clone";
  const Answer answer = machine.resume(request);
  ASSERT_TRUE(answer.report.has_value()) << answer.error.message;
  EXPECT_EQ(answer.report->generation, 3u);
  EXPECT_EQ(machine.kernel_log(),
            "random " + std::string(64, 's') + "\nclock 1700000000000000000\nhostname clone\n");
  EXPECT_EQ(machine.get("/run/supermachine/generation"), "3\n");
  EXPECT_EQ(fs::status(machine.path("/run/supermachine/generation")).permissions(),
            fs::perms(0444));
  EXPECT_EQ(answer.result(ResumeStep::kHostname), StepResult::kDone);
  EXPECT_EQ(answer.result(ResumeStep::kResolver), StepResult::kKept);
  EXPECT_EQ(answer.result(ResumeStep::kMachineId), StepResult::kKept);
  EXPECT_EQ(answer.result(ResumeStep::kGeneration), StepResult::kDone);
}

TEST(Resume, EverythingElseIsRefusedUntilItIsAcknowledged) {
  TestMachine machine;
  EXPECT_EQ(machine.output_of("echo fresh"), "fresh\n") << "the first life needs no resume";
  machine.restore(1);
  for (const auto& frame :
       {agent::encode_exec(shell("touch " + machine.path("/ran"))),
        agent::encode_file(FrameType::kReadFile, {.path = "/etc/passwd"}),
        agent::encode_file(FrameType::kWriteFile, {.path = machine.path("/ran"), .size = 0}),
        agent::encode_forward(1)}) {
    HostConnection host = machine.agent().connect();
    host.send(frame);
    host.no_input();
    const Outcome outcome = host.finish();
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->kind, ErrorKind::kResume) << outcome.error->message;
    EXPECT_TRUE(outcome.closed);
  }
  EXPECT_FALSE(fs::exists(machine.path("/ran")));
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  EXPECT_EQ(machine.output_of("echo again"), "again\n");
  machine.restore(2);
  EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume);
  ASSERT_TRUE(machine.resume(request_for(2)).report.has_value());
  EXPECT_EQ(machine.output_of("echo third"), "third\n");
  EXPECT_EQ(machine.get("/run/supermachine/generation"), "2\n");
}

TEST(Resume, MainWorkloadIsRefusedWithoutTakingItsPlace) {
  TestMachine machine;
  machine.restore(1);
  agent::ExecRequest main = shell("echo main");
  main.main = true;
  EXPECT_EQ(machine.agent().run(main).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume);
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  HostConnection host = machine.agent().connect();
  host.send(agent::encode_exec(main));
  machine.agent().expect_link(LinkType::kWorkloadStart);
  machine.agent().send_link_message({LinkType::kRelease});
  EXPECT_EQ(host.finish().out, "main\n");
}

// A main workload that reads, prints more than a pipe holds, and waits for the file "go".
HostConnection start_main(TestMachine& machine, const std::string& script) {
  HostConnection host = machine.agent().connect();
  agent::ExecRequest main = shell(script);
  main.main = main.keep_stdin = true;
  host.send(agent::encode_exec(main));
  machine.agent().expect_link(LinkType::kWorkloadStart);
  machine.agent().send_link_message({LinkType::kRelease});
  host.expect_output("ready");
  return host;
}

TEST(Resume, MainWorkloadOutlivesItsConnectionInACopy) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host =
      start_main(machine, "echo ready; until [ -e " + go +
                              " ]; do sleep 0.02; done; head -c 300000 /dev/zero; head -c 300000 "
                              "/dev/zero >&2; echo done > " +
                              go + "; cat; exit 9");
  HostConnection other = machine.agent().connect();
  other.send(agent::encode_exec(shell("echo $$; exec sleep 1000")));
  other.expect_output("\n");
  const pid_t pid = std::stoi(other.so_far().out);
  machine.restore(1);
  host.close();
  other.close();
  // What is not the main workload ends with its connection, as anywhere.
  EXPECT_TRUE(testing::wait_until_gone(pid));
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  machine.put("/etc/go", "");
  // Nobody reads its output, and it does not wait for that; its input is neither there nor at its
  // end.
  EXPECT_EQ(machine.output_of("until grep done " + go + "; do sleep 0.02; done"), "done\n");
  HostConnection signal = machine.agent().connect();
  signal.send(agent::encode_signal_main(SIGTERM));
  signal.no_input();
  EXPECT_TRUE(signal.finish().done);
  EXPECT_EQ(machine.agent().expect_link(LinkType::kWorkloadExit).value, 128u + SIGTERM);
  EXPECT_EQ(machine.output_of("echo serves"), "serves\n");
}

TEST(Resume, AnotherConnectionGetsWhatTheMainWorkloadOfACopyPrints) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host =
      start_main(machine, "echo ready; until [ -e " + go +
                              " ]; do sleep 0.02; done; head -c 300000 /dev/zero; read line; "
                              "echo got $line >&2; exit 9");
  machine.restore(1);
  host.close();
  machine.put("/etc/go", "");
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  HostConnection again = machine.agent().connect();
  again.send(agent::encode_attach_main());
  const Outcome outcome = again.finish("this\n");
  EXPECT_TRUE(outcome.started.has_value());
  EXPECT_EQ(outcome.out.size(), 300'000u);
  EXPECT_EQ(outcome.err, "got this\n");
  EXPECT_EQ(outcome.exit.value_or(agent::ExitReport{}).value, 9u);
  again.close();
  EXPECT_EQ(machine.agent().expect_link(LinkType::kWorkloadExit).value, 9u);
}

TEST(Resume, WhatAMainWorkloadHasSaidBeforeItsEndWaitsForAConnection) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host = start_main(
      machine, "echo ready; until [ -e " + go + " ]; do sleep 0.02; done; echo last; exit 9");
  machine.restore(1);
  host.close();
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  machine.put("/etc/go", "");
  ASSERT_TRUE(testing::eventually([&] { return machine.agent().children() == 0; }));
  HostConnection again = machine.agent().connect();
  again.send(agent::encode_attach_main());
  again.no_input();
  const Outcome outcome = again.finish();
  EXPECT_EQ(outcome.out, "last\n");
  EXPECT_EQ(outcome.exit.value_or(agent::ExitReport{}).value, 9u);
  EXPECT_TRUE(outcome.closed);
}

// What waits of the old connection's input comes first, and leaves the new one a whole window.
TEST(Resume, AnotherConnectionFeedsTheMainWorkloadOfACopy) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host = start_main(
      machine, "echo ready; until [ -e " + go + " ]; do sleep 0.02; done; wc -c; echo over >&2");
  const std::string old_input(250'000, 'x'), new_input(1'000'000, 'y');
  for (std::string_view rest = old_input; !rest.empty();) {
    const auto piece = rest.substr(0, agent::kMaxData);
    host.send(agent::encode_data(agent::Stream::kStdin, as_byte_span(piece)));
    rest.remove_prefix(piece.size());
  }
  host.wait_until_taken();  // what is still under way is lost with the connection
  machine.restore(1);
  host.close();
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  HostConnection again = machine.agent().connect();
  again.send(agent::encode_attach_main());
  ASSERT_TRUE(again.next().has_value());
  machine.put("/etc/go", "");
  const Outcome outcome = again.finish(new_input);
  EXPECT_EQ(outcome.out, std::to_string(old_input.size() + new_input.size()) + "\n");
  EXPECT_EQ(outcome.err, "over\n");
}

TEST(Resume, AnInputThatHasEndedStaysSoInACopy) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host =
      start_main(machine, "echo ready; until [ -e " + go + " ]; do sleep 0.02; done; wc -c");
  host.send(agent::encode_data(agent::Stream::kStdin, as_byte_span("four")));
  host.send(agent::encode_data(agent::Stream::kStdin, {}));
  machine.restore(1);
  host.close();
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  HostConnection again = machine.agent().connect();
  again.send(agent::encode_attach_main());
  again.send(agent::encode_data(agent::Stream::kStdin, as_byte_span("more")));
  machine.put("/etc/go", "");
  EXPECT_EQ(again.finish("and more").out, "4\n");
}

TEST(Resume, OnlyAMainWorkloadThatHasLostItsConnectionGetsAnother) {
  TestMachine machine;
  const auto attach = [&] {
    HostConnection host = machine.agent().connect();
    host.send(agent::encode_attach_main());
    host.no_input();
    return host.finish().error.value_or(agent::ErrorReport{}).kind;
  };
  EXPECT_EQ(attach(), ErrorKind::kNoWorkload);
  HostConnection host = start_main(machine, "echo ready; sleep 1000");
  EXPECT_EQ(attach(), ErrorKind::kNoWorkload);
  machine.restore(1);
  EXPECT_EQ(attach(), ErrorKind::kResume);
  host.close();
  ASSERT_TRUE(machine.resume(request_for(1)).report.has_value());
  HostConnection again = machine.agent().connect();
  again.send(agent::encode_attach_main());
  const auto started = again.next();
  ASSERT_TRUE(started.has_value());
  EXPECT_EQ(attach(), ErrorKind::kNoWorkload);
  // It is the workload's connection now, as the first one was.
  again.close();
  EXPECT_EQ(machine.agent().expect_link(LinkType::kWorkloadExit).value, 137u);
}

TEST(Resume, MainWorkloadOfACopyEndsItWithItsOwnStatus) {
  TestMachine machine;
  const std::string go = machine.path("/etc/go");
  HostConnection host =
      start_main(machine, "echo ready; until [ -e " + go + " ]; do sleep 0.02; done; exit 9");
  machine.restore(1);
  host.close();
  // The next copy of the copy: no connection is lost there.
  machine.restore(2);
  ASSERT_TRUE(machine.resume(request_for(2)).report.has_value());
  machine.put("/etc/go", "");
  EXPECT_EQ(machine.agent().expect_link(LinkType::kWorkloadExit).value, 9u);
}

TEST(Resume, FreshMachineAcceptsOne) {
  TestMachine machine;
  EXPECT_TRUE(machine.resume(request_for(0)).report.has_value());
  EXPECT_EQ(machine.output_of("echo on"), "on\n");
}

TEST(Resume, RootDiskIsRefusedWhereThereAreNoLayersBeforeAnythingChanges) {
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1);
  request.root_disk = "root";
  const Answer answer = machine.resume(request);
  EXPECT_FALSE(answer.report.has_value());
  EXPECT_EQ(answer.error.kind, ErrorKind::kRootDisk);
  EXPECT_THAT(answer.error.message, HasSubstr("resume: root disk: "));
  EXPECT_EQ(machine.kernel_log(), "");
}

TEST(Resume, RootDiskThatIsNotThereIsNamed) {
  TestMachine machine({"testhost", {}, {}}, /*layers=*/true);
  machine.restore(1);
  auto request = request_for(1);
  request.root_disk = "no-such-disk";
  const Answer answer = machine.resume(request);
  EXPECT_EQ(answer.error.kind, ErrorKind::kRootDisk);
  EXPECT_THAT(answer.error.message, HasSubstr("no-such-disk"));
  EXPECT_THAT(machine.kernel_log(), Not(HasSubstr("root")));
  EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume);
}

TEST(Resume, WrongGenerationIsNamedAndChangesNothing) {
  TestMachine machine;
  machine.restore(5);
  const Answer answer = machine.resume(request_for(4));
  EXPECT_FALSE(answer.report.has_value());
  EXPECT_EQ(answer.error.kind, ErrorKind::kResume);
  EXPECT_THAT(answer.error.message, HasSubstr("generation 4"));
  EXPECT_EQ(machine.kernel_log(), "");
  EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume);
}

TEST(Resume, FailedStepIsNamedAndEndsIt) {
  const std::pair<ResumeStep, const char*> steps[] = {
      {ResumeStep::kRandom, ""}, {ResumeStep::kClock, "random"}, {ResumeStep::kHostname, "clock"}};
  for (const auto& [step, last_done] : steps) {
    TestMachine machine;
    machine.restore(1);
    machine.break_step(step);
    auto request = request_for(1);
    request.hostname = "clone";
    const Answer answer = machine.resume(request);
    EXPECT_FALSE(answer.report.has_value());
    EXPECT_EQ(answer.error.kind, ErrorKind::kResume);
    EXPECT_THAT(answer.error.message, HasSubstr("resume: " + std::string(agent::step_name(step))));
    const std::string log = machine.kernel_log();
    const auto line = log.find_last_of('\n', log.size() - 2);
    EXPECT_EQ(log.substr(line == std::string::npos ? 0 : line + 1).rfind(last_done, 0), 0u) << log;
    EXPECT_EQ(machine.get("/etc/hostname"), "(missing)");
    EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
              ErrorKind::kResume);
  }
}

TEST(Resume, FileThatCannotBeWrittenIsAFailedStep) {
  TestMachine machine;
  fs::create_directories(machine.path("/etc/hostname"));
  machine.restore(1);
  auto request = request_for(1);
  request.hostname = "clone";
  const Answer answer = machine.resume(request);
  EXPECT_FALSE(answer.report.has_value());
  EXPECT_THAT(answer.error.message, HasSubstr("resume: hostname: "));
  EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume);
}

TEST(Resume, AgentWithoutKernelControlsRefuses) {
  AgentProcess agent;
  HostConnection host = agent.connect();
  host.send(agent::encode_resume(request_for(0)));
  EXPECT_EQ(host.finish().error.value_or(agent::ErrorReport{}).kind, ErrorKind::kResume);
}

TEST(Resume, MalformedRequestIsAProtocolError) {
  TestMachine machine;
  auto request = request_for(0);
  request.hostname = "no good";
  const Answer answer = machine.resume(request);
  EXPECT_EQ(answer.error.kind, ErrorKind::kProtocol);
  EXPECT_THAT(answer.error.message, HasSubstr("hostname"));
  EXPECT_EQ(machine.kernel_log(), "");
}

TEST(Resume, TwoMachinesGetTheirOwnSeeds) {
  TestMachine one, two;
  one.restore(1);
  two.restore(1);
  ASSERT_TRUE(one.resume(request_for(1, 'a')).report.has_value());
  ASSERT_TRUE(two.resume(request_for(1, 'b')).report.has_value());
  EXPECT_THAT(one.kernel_log(), HasSubstr(std::string(64, 'a')));
  EXPECT_THAT(two.kernel_log(), HasSubstr(std::string(64, 'b')));
}

TEST(Resume, NamesChangeEverywhere) {
  TestMachine machine;
  machine.put("/etc/hostname", "testhost\n");
  machine.restore(1);
  auto request = request_for(1);
  request.hostname = "clone";
  request.dns = {"10.0.0.53", "fd00::53"};
  request.hosts = {{"10.0.0.2", "db"}};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.get("/etc/hostname"), "clone\n");
  EXPECT_EQ(machine.get("/etc/hosts"),
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.0.2\tdb\n127.0.1.1\tclone\n");
  EXPECT_EQ(machine.get("/etc/resolv.conf"), "nameserver 10.0.0.53\nnameserver fd00::53\n");
  EXPECT_EQ(machine.output_of("echo $HOSTNAME"), "clone\n");
}

TEST(Resume, HostnameAloneKeepsTheOtherEntries) {
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1);
  request.hostname = "clone";
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.get("/etc/hosts"),
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.0.1\tdb\n127.0.1.1\tclone\n");
  EXPECT_EQ(machine.get("/etc/resolv.conf"), "(missing)");
}

TEST(Resume, RepeatingItChangesNothingMore) {
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1);
  request.hostname = "clone";
  request.hosts = {{"10.0.0.2", "db"}, {"10.0.0.3", "cache"}};
  request.env = {"A=1"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  const std::string hosts = machine.get("/etc/hosts");
  const std::string env = machine.output_of("env | sort");
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.get("/etc/hosts"), hosts);
  EXPECT_EQ(machine.output_of("env | sort"), env);
}

TEST(Resume, WithoutNewNamesFilesStayAsTheyAre) {
  TestMachine machine;
  machine.restore(1);
  const std::string hosts = machine.get("/etc/hosts");
  const Answer answer = machine.resume(request_for(1));
  ASSERT_TRUE(answer.report.has_value());
  EXPECT_EQ(answer.result(ResumeStep::kHostname), StepResult::kKept);
  EXPECT_EQ(answer.result(ResumeStep::kHosts), StepResult::kKept);
  EXPECT_EQ(machine.get("/etc/hosts"), hosts);
  EXPECT_EQ(machine.get("/etc/hostname"), "(missing)");
  EXPECT_EQ(machine.output_of("echo $HOSTNAME"), "testhost\n");
}

TEST(Resume, EnvironmentOrderAndSecrets) {
  TestMachine machine({"testhost", {"A=boot", "B=boot", "S=boot"}, {}});
  machine.restore(1);
  auto request = request_for(1);
  request.env = {"B=resume", "C=resume"};
  request.secrets = {"S=secret", "T=secret"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.output_of("echo $A $B $C $S $T"), "boot resume resume secret secret\n");
  agent::ExecRequest exec = shell("echo $C $S");
  exec.env = {"C=exec", "S=exec"};
  EXPECT_EQ(machine.agent().run(exec).out, "exec exec\n");
  // The next life's secrets replace those of this one; its environment adds to it.
  machine.restore(2);
  request = request_for(2);
  request.env = {"C=second"};
  request.secrets = {"T=second"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.output_of("echo $A $B $C $S $T"), "boot resume second boot second\n");
}

TEST(Resume, SecretsStandAboveTheMainWorkloadsOwnVariables) {
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1);
  request.env = {"E=resume"};
  request.secrets = {"PASSWORD=secret"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  HostConnection host = machine.agent().connect();
  agent::ExecRequest main = shell("echo $E $PASSWORD");
  main.main = true;
  main.env = {"E=image", "PASSWORD=changeme"};
  host.send(agent::encode_exec(main));
  machine.agent().expect_link(LinkType::kWorkloadStart);
  machine.agent().send_link_message({LinkType::kRelease});
  EXPECT_EQ(host.finish().out, "image secret\n");
}

TEST(Resume, MachineIdFollowsThePolicy) {
  const std::string line = std::string(kId) + "\n";
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1);
  request.machine_id_policy = MachineIdPolicy::kReplace;
  request.machine_id = kId;
  EXPECT_EQ(machine.resume(request).result(ResumeStep::kMachineId), StepResult::kKept);
  EXPECT_EQ(machine.get("/etc/machine-id"), "(missing)");
  machine.put("/etc/machine-id", "");
  machine.put("/var/lib/dbus/machine-id", "ffffffffffffffffffffffffffffffff\n");
  EXPECT_EQ(machine.resume(request).result(ResumeStep::kMachineId), StepResult::kDone);
  EXPECT_EQ(machine.get("/etc/machine-id"), line);
  EXPECT_EQ(machine.get("/var/lib/dbus/machine-id"), line);
  fs::remove(machine.path("/etc/machine-id"));
  request.machine_id_policy = MachineIdPolicy::kSet;
  EXPECT_EQ(machine.resume(request).result(ResumeStep::kMachineId), StepResult::kDone);
  EXPECT_EQ(machine.get("/etc/machine-id"), line);
}

TEST(Resume, LinkOfDbusToTheMachineIdStaysALink) {
  TestMachine machine;
  machine.put("/etc/machine-id", "ffffffffffffffffffffffffffffffff\n");
  fs::create_directories(machine.path("/var/lib/dbus"));
  fs::create_symlink("/etc/machine-id", machine.path("/var/lib/dbus/machine-id"));
  machine.restore(1);
  auto request = request_for(1);
  request.machine_id_policy = MachineIdPolicy::kReplace;
  request.machine_id = kId;
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_TRUE(fs::is_symlink(machine.path("/var/lib/dbus/machine-id")));
  EXPECT_EQ(machine.get("/etc/machine-id"), std::string(kId) + "\n");
}

TEST(Resume, OddRunFoldersAreSkipped) {
  TestMachine machine;
  const auto resume = [&](std::uint32_t generation) {
    machine.restore(generation);
    return machine.resume(request_for(generation)).result(ResumeStep::kGeneration);
  };
  fs::remove_all(machine.path("/run"));
  EXPECT_EQ(resume(1), StepResult::kSkipped);
  machine.put("/run", "a file");
  EXPECT_EQ(resume(2), StepResult::kSkipped);
  fs::remove(machine.path("/run"));
  fs::create_symlink("/var/run", machine.path("/run"));
  EXPECT_EQ(resume(3), StepResult::kSkipped);
  fs::create_directories(machine.path("/var/run"));
  EXPECT_EQ(resume(4), StepResult::kDone);
  EXPECT_EQ(machine.get("/var/run/supermachine/generation"), "4\n");
  // Somebody else could put a file there.
  fs::permissions(machine.path("/var/run/supermachine"), fs::perms(0777));
  EXPECT_EQ(resume(5), StepResult::kSkipped);
  fs::remove_all(machine.path("/var/run/supermachine"));
  fs::create_symlink("/etc", machine.path("/var/run/supermachine"));
  EXPECT_EQ(resume(6), StepResult::kSkipped);
  EXPECT_FALSE(fs::exists(machine.path("/etc/generation")));
}

TEST(Resume, FrameBehindItGivesItUp) {
  TestMachine machine;
  machine.restore(1);
  HostConnection host = machine.agent().connect();
  auto bytes = agent::encode_resume(request_for(1));
  const auto again = agent::encode_signal(9);
  bytes.insert(bytes.end(), again.begin(), again.end());
  host.send(bytes);
  host.no_input();
  EXPECT_EQ(host.finish().error.value_or(agent::ErrorReport{}).kind, ErrorKind::kProtocol);
  EXPECT_EQ(machine.agent().run(shell("true")).error.value_or(agent::ErrorReport{}).kind,
            ErrorKind::kResume)
      << "it was given up";
  EXPECT_TRUE(eventually([&] { return machine.agent().children() == 0; }));
  EXPECT_TRUE(machine.resume(request_for(1)).report.has_value());
}

TEST(Resume, SecretsDoNotStayInTheAgentsMemoryLonger) {
  TestMachine machine;
  machine.restore(1);
  auto request = request_for(1, 'q');
  request.secrets = {"FIRST=" + std::string(50000, 'x') + "the-first-secret"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.output_of("echo ${#FIRST}"), "50016\n");
  request.secrets = {"SECOND=2"};
  ASSERT_TRUE(machine.resume(request).report.has_value());
  EXPECT_EQ(machine.output_of("echo ${#FIRST} $SECOND"), "0 2\n");
  EXPECT_FALSE(machine.agent().memory_contains("the-first-secret"));
  EXPECT_TRUE(machine.agent().memory_contains("SECOND=2")) << "the search finds what is there";
  EXPECT_FALSE(machine.agent().memory_contains(std::string(64, 'q'))) << "the seed";
}

}  // namespace
}  // namespace sm::guest
