// A shell script plays the worker: descriptor 3 is the control socket, 4 the guest's configuration.
#include "runtime/worker_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>

#include "base/bytes.h"

namespace sm {
namespace {

class WorkerProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/worker-process-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    worker_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, const std::string& content) {
    std::ofstream(path(name), std::ios::binary) << content;
  }
  void write(const std::string& name, const std::vector<std::byte>& content) {
    // SAFETY: char may alias bytes.
    write(name, std::string(reinterpret_cast<const char*>(content.data()), content.size()));
  }
  std::string read(const std::string& name) const {
    std::ostringstream out;
    out << std::ifstream(path(name), std::ios::binary).rdbuf();
    return out.str();
  }

  Result<std::unique_ptr<WorkerProcess>> spawn() {
    return WorkerProcess::spawn(*loop_,
                                {.program = path("worker"),
                                 .arguments = {"--first", "second word"},
                                 .guest_config = "{\"a\":1}",
                                 .log_file = path("log")},
                                {.on_event =
                                     [this](const control::Event& e) {
                                       EXPECT_FALSE(exit_.has_value());
                                       last_event_ = e;
                                       ++events_;
                                     },
                                 .on_failure =
                                     [this](Error e) {
                                       EXPECT_FALSE(exit_.has_value());
                                       ++failures_;
                                       failure_ = std::move(e);
                                     },
                                 .on_exit =
                                     [this](int status) {
                                       EXPECT_FALSE(exit_.has_value());
                                       exit_ = status;
                                     }});
  }
  // Runs `body` in the test's folder as the worker.
  void start(const std::string& body) {
    write("worker", "#!/bin/sh\ncd " + folder_ + "\n" + body + "\n");
    ASSERT_EQ(::chmod(path("worker").c_str(), 0700), 0);
    worker_ = spawn().value();
  }
  bool until(const std::function<bool()>& done) {
    const auto deadline = Deadline::after(std::chrono::seconds(20));
    while (!done()) {
      if (deadline.passed()) return false;
      loop_->run_once(deadline);
    }
    return true;
  }
  bool ended() {
    return until([&] { return exit_.has_value(); });
  }
  bool killed() { return ended() && WIFSIGNALED(*exit_) && WTERMSIG(*exit_) == SIGKILL; }

  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  std::string folder_;
  std::unique_ptr<WorkerProcess> worker_;
  std::optional<control::Event> last_event_;
  int events_ = 0, failures_ = 0;
  std::optional<Error> failure_;
  std::optional<int> exit_;
};

constexpr std::size_t kManyEvents = 500;  // more than one read takes, less than the socket holds

TEST_F(WorkerProcessTest, gets_its_arguments_configuration_and_log) {
  start("echo \"$@\" >arguments; cat /dev/fd/4 >config; echo sorry >&2; exit 3");
  ASSERT_TRUE(ended());
  EXPECT_TRUE(WIFEXITED(*exit_) && WEXITSTATUS(*exit_) == 3);
  EXPECT_EQ(read("arguments"), "--control=3 --guest-config=/dev/fd/4 --first second word\n");
  EXPECT_EQ(read("config"), "{\"a\":1}");
  EXPECT_EQ(read("log"), "sorry\n");
  struct stat log {};
  ASSERT_EQ(::stat(path("log").c_str(), &log), 0);
  EXPECT_EQ(log.st_mode & 0777, 0600u);
}

TEST_F(WorkerProcessTest, inherits_no_other_descriptors_and_no_signal_settings) {
  constexpr int kInheritable = 77;
  const UniqueFd other(::dup2(STDERR_FILENO, kInheritable));
  sigset_t blocked, before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto handler = ::signal(SIGPIPE, SIG_IGN);
  start("ls /proc/self/fd >fds; grep -E 'SigBlk|SigIgn' /proc/self/status | cut -f 2 >signals");
  ASSERT_TRUE(ended());
  ::signal(SIGPIPE, handler);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(read("fds").find("77"), std::string::npos) << read("fds");
  std::istringstream signals(read("signals"));
  std::uint64_t masked = ~0ull, ignored = ~0ull;
  signals >> std::hex >> masked >> ignored;
  EXPECT_EQ(masked, 0u);
  EXPECT_EQ(ignored & 1ull << (SIGPIPE - 1), 0u);
}

TEST_F(WorkerProcessTest, events_arrive_as_they_were_sent) {
  write("event", control::encode(control::Event{control::EventName::kWorkloadExit, 42, 7}));
  start("cat event >&3; exec sleep 1000");
  ASSERT_TRUE(until([&] { return events_ == 1; }));
  EXPECT_EQ(last_event_->name, control::EventName::kWorkloadExit);
  EXPECT_EQ(last_event_->argument, 42u);
  EXPECT_EQ(last_event_->at_ns, 7u);
  EXPECT_FALSE(exit_.has_value());
}

TEST_F(WorkerProcessTest, a_failure_keeps_its_kind_and_the_exit_follows) {
  write("failure", control::encode(control::Failure{"not-found", "no kernel", "build one"}));
  start("cat failure >&3; exit 2");
  ASSERT_TRUE(ended());
  ASSERT_EQ(failures_, 1);
  EXPECT_EQ(failure_->cause(), "no kernel");
  EXPECT_EQ(failure_->remedy(), "build one");
}

TEST_F(WorkerProcessTest, last_words_come_before_the_exit) {
  std::string words;
  for (std::size_t i = 0; i < kManyEvents; ++i) {
    const auto bytes = control::encode(control::Event{control::EventName::kBooted, 0, i});
    words.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  write("events", words);
  start("cat events >&3");
  // Seen all at once, long after they were sent.
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(worker_->pid()), &info, WEXITED | WNOWAIT), 0);
  ASSERT_TRUE(ended());
  EXPECT_EQ(events_, static_cast<int>(kManyEvents));
  EXPECT_EQ(last_event_->at_ns, kManyEvents - 1);
}

TEST_F(WorkerProcessTest, nonsense_is_reported_once_and_ends_the_worker) {
  start("head -c 100000 /dev/zero >&3; exec sleep 1000");
  EXPECT_TRUE(killed());
  EXPECT_EQ(failures_, 1);
}

TEST_F(WorkerProcessTest, a_message_above_the_limit_ends_the_worker) {
  start("printf '\\377\\377\\377\\377' >&3; exec sleep 1000");
  EXPECT_TRUE(killed());
  EXPECT_EQ(failures_, 1);
}

TEST_F(WorkerProcessTest, an_unfinished_message_is_nothing) {
  start("printf '\\005\\000\\000\\000ab' >&3; exit 0");
  ASSERT_TRUE(ended());
  EXPECT_EQ(failures_ + events_, 0);
}

TEST_F(WorkerProcessTest, may_close_its_control_socket_and_live_on) {
  start("exec 3<&-; echo closed >>log; exec sleep 1000");
  const auto deadline = Deadline::after(std::chrono::seconds(20));
  while (read("log") != "closed\n" && !deadline.passed()) {
    loop_->run_once(Deadline::after(std::chrono::milliseconds(1)));
  }
  for (int i = 0; i < 10; ++i) loop_->run_once(Deadline::after(Duration(0)));
  worker_->request_stop();  // into a closed socket: no signal, no error
  EXPECT_FALSE(exit_.has_value());
  worker_->kill();
  EXPECT_TRUE(killed());
}

TEST_F(WorkerProcessTest, a_stop_request_follows_the_hello) {
  const auto hello = control::encode(control::Hello{control::kVersion, "supermachine " SM_VERSION});
  const auto stop = control::encode(control::Stop{});
  const std::size_t size = hello.size() + stop.size();
  start("head -c " + std::to_string(size) + " <&3 >heard; exit 5");
  worker_->request_stop();
  ASSERT_TRUE(ended());
  EXPECT_EQ(WEXITSTATUS(*exit_), 5);
  write("expected", hello);
  const std::string first = read("expected");
  write("expected", stop);
  EXPECT_EQ(read("heard"), first + read("expected"));
}

TEST_F(WorkerProcessTest, a_worker_that_reads_nothing_is_killed_rather_than_waited_for) {
  start("exec sleep 1000");
  for (int i = 0; i < 100'000 && !exit_; ++i) {
    worker_->request_stop();
    loop_->run_once(Deadline::after(Duration(0)));
  }
  EXPECT_TRUE(killed());
}

TEST_F(WorkerProcessTest, a_worker_that_is_killed_reports_the_signal) {
  start("kill -SEGV $$");
  ASSERT_TRUE(ended());
  EXPECT_TRUE(WIFSIGNALED(*exit_));
  EXPECT_EQ(WTERMSIG(*exit_), SIGSEGV);
}

TEST_F(WorkerProcessTest, goes_with_its_owner) {
  start("exec sleep 1000");
  const pid_t pid = worker_->pid();
  worker_.reset();
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_FALSE(exit_.has_value());
}

TEST_F(WorkerProcessTest, a_program_that_does_not_exist_is_named) {
  const auto worker = spawn();
  ASSERT_FALSE(worker.has_value());
  EXPECT_NE(worker.error().cause().find(path("worker")), std::string::npos);
}

}  // namespace
}  // namespace sm
