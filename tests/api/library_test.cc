// The library on real guests, through its public headers only. Started by tests/api/run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <supermachine/supermachine.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <future>
#include <thread>

#include "support.h"

namespace supermachine {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

VmConfig config() {
  VmConfig out = vm_config();
  out.memory_mib = 128;
  return out;
}

template <class T>
T get(std::future<T> future) {
  if (future.wait_for(kPatience) != std::future_status::ready) {
    ADD_FAILURE() << "no completion";
    std::abort();
  }
  return future.get();
}

// One VM for all tests that leave it as it was.
class Library : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    context_ = new Context(Context::create().value());
    image_ = new Image(Image::builder(*context_, variable("SUPERMACHINE_IMAGE"))
                           .env("FROM_BUILDER", "builder")
                           .build()
                           .value());
    VmConfig c = config();
    c.hostname = "box";
    c.env = {"FROM_VM=vm"};
    vm_ = new Vm(image_->start(c).value());
  }
  static void TearDownTestSuite() {
    delete vm_;
    delete image_;
    delete context_;
  }
  static ExecOutcome shell(const std::string& script) {
    return vm_->run({"sh", "-c", script}).value();
  }

  static Context* context_;
  static Image* image_;
  static Vm* vm_;
};
Context* Library::context_ = nullptr;
Image* Library::image_ = nullptr;
Vm* Library::vm_ = nullptr;

TEST_F(Library, image_tells_about_itself) {
  EXPECT_THAT(image_->digest(), ::testing::StartsWith("sha256:"));
  EXPECT_EQ(image_->memory_mib(), 256u);
  EXPECT_EQ(image_->vcpus(), 1u);
}

TEST_F(Library, image_that_is_not_there_is_not_found) {
  const auto image = Image::from_oci(*context_, "oci:/no/such/folder");
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(image.error().cause(), HasSubstr("/no/such/folder"));
}

TEST_F(Library, image_is_loaded_asynchronously) {
  std::promise<Result<Image>> answer;
  Image::from_oci_async(*context_, variable("SUPERMACHINE_IMAGE"),
                        [&](Result<Image> image) { answer.set_value(std::move(image)); });
  EXPECT_EQ(get(answer.get_future()).value().digest(), image_->digest());
}

TEST_F(Library, output_streams_and_status_of_a_program) {
  const ExecOutcome outcome = shell("echo out; echo err >&2; exit 3");
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.code, 3);
  EXPECT_FALSE(outcome.success());
  EXPECT_GT(outcome.duration.count(), 0);
  EXPECT_GT(outcome.peak_rss_kib, 0u);
}

TEST_F(Library, environment_of_image_builder_vm_and_exec) {
  EXPECT_EQ(shell("echo $FROM_IMAGE $FROM_BUILDER $FROM_VM; hostname; pwd").out,
            "yes builder vm\nbox\n/srv\n");
  const auto outcome = vm_->exec_builder()
                           .argv({"sh", "-c", "echo \"$FROM_VM\"; pwd; id -u"})
                           .env("FROM_VM", "exec \"quoted\"\nline")
                           .cwd("/tmp")
                           .user("user")
                           .output()
                           .value();
  EXPECT_EQ(outcome.out, "exec \"quoted\"\nline\n/tmp\n1000\n");
}

TEST_F(Library, death_by_signal) {
  const ExecOutcome outcome = shell("kill -9 $$");
  EXPECT_EQ(outcome.code, 137);
  EXPECT_EQ(outcome.signal, 9);
}

TEST_F(Library, timeout_kills_the_program) {
  const auto outcome =
      vm_->exec_builder().argv({"sleep", "1000"}).timeout(milliseconds(100)).output().value();
  EXPECT_TRUE(outcome.timed_out);
  EXPECT_FALSE(outcome.success());
}

TEST_F(Library, errors_of_programs_are_typed) {
  EXPECT_EQ(vm_->run({"no-such-program"}).error().code(), ErrorCode::kExecNotFound);
  EXPECT_EQ(vm_->run({"/etc/passwd"}).error().code(), ErrorCode::kExecDenied);
  EXPECT_EQ(vm_->run({}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(vm_->run({std::string("a\0b", 3)}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(vm_->exec_builder().argv({"true"}).user("nobody-at-all").output().error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(vm_->exec_builder().argv({"true"}).cwd("/no/such").output().error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(vm_->exec_builder().argv({"true"}).env("A=B", "c").output().error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      vm_->exec_builder().argv({"true"}).stage_file("/no/such/f", "x").output().error().code(),
      ErrorCode::kIo);
  EXPECT_EQ(vm_->exec_builder().argv({"true"}).tty().chain({"true"}).output().error().code(),
            ErrorCode::kInvalidArgument);
}

TEST_F(Library, megabytes_through_standard_input) {
  std::string data(3'000'000, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 24);
  const auto outcome = vm_->exec_builder().argv({"cat"}).stdin_bytes(data).output().value();
  EXPECT_TRUE(outcome.out == data);
}

TEST_F(Library, output_beyond_the_limit_is_an_error) {
  const auto outcome = vm_->exec_builder()
                           .argv({"sh", "-c", "while :; do echo more; done"})
                           .output_limit(100'000)
                           .output();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::kLimit);
}

TEST_F(Library, staged_files_and_chained_commands) {
  const auto outcome = vm_->exec_builder()
                           .stage_file("/tmp/tool", "#!/bin/sh\necho tool $1\n", 0755)
                           .stage_file("/tmp/data", "data\n")
                           .argv({"/tmp/tool", "1"})
                           .chain({"cat", "/tmp/data"})
                           .chain({"sh", "-c", "exit 5"})
                           .chain({"echo", "never"})
                           .output()
                           .value();
  EXPECT_EQ(outcome.out, "tool 1\ndata\n");
  EXPECT_EQ(outcome.code, 5);
  EXPECT_EQ(outcome.step, 2u);
  shell("rm /tmp/tool /tmp/data");
}

TEST_F(Library, child_is_talked_to_and_signalled) {
  auto child = vm_->exec_builder()
                   .argv({"sh", "-c",
                          "trap 'echo got it; exit 7' TERM; echo ready; "
                          "while read l; do echo \"[$l]\"; done; sleep 1000 & wait"})
                   .keep_stdin()
                   .spawn()
                   .value();
  EXPECT_GT(child.pid(), 1u);
  EXPECT_EQ(child.read_stdout().value(), "ready\n");
  child.write_stdin("line\n").value();
  EXPECT_EQ(child.read_stdout().value(), "[line]\n");
  child.close_stdin().value();
  EXPECT_EQ(child.write_stdin("late").error().code(), ErrorCode::kInvalidArgument);
  child.signal(SIGTERM).value();
  EXPECT_EQ(child.read_stdout().value(), "got it\n");
  EXPECT_EQ(child.read_stdout().value(), "");
  EXPECT_EQ(child.wait().value().code, 7);
  EXPECT_EQ(child.wait().value().code, 7);
}

TEST_F(Library, terminal_has_its_size) {
  const auto outcome =
      vm_->exec_builder().argv({"stty", "size"}).tty().window({30, 90}).output().value();
  EXPECT_EQ(outcome.out, "30 90\r\n");
}

TEST_F(Library, destroyed_child_is_killed) {
  { auto child = vm_->exec({"sleep", "4242"}).value(); }
  bool gone = false;
  for (int i = 0; i < 200 && !gone; ++i) {
    gone = shell("ps | grep -c '[s]leep 4242'").out == "0\n";
  }
  EXPECT_TRUE(gone);
}

TEST_F(Library, files_go_both_ways) {
  const std::string data = std::string("a\0\xff", 3) + std::string(700'000, 'x');
  vm_->write_file("/tmp/file", data, 0640).value();
  EXPECT_TRUE(vm_->read_file("/tmp/file").value() == data);
  EXPECT_EQ(shell("stat -c %a /tmp/file; wc -c </tmp/file").out, "640\n700003\n");
  vm_->write_file("/tmp/file", "").value();
  EXPECT_EQ(vm_->read_file("/tmp/file").value(), "");
  EXPECT_EQ(vm_->read_file("/no/such").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(vm_->read_file("relative").error().code(), ErrorCode::kInvalidArgument);
  vm_->write_file("/tmp/file", "12345").value();
  EXPECT_EQ(vm_->read_file("/tmp/file", 4).error().code(), ErrorCode::kLimit);
  EXPECT_THAT(vm_->read_file("/proc/version").value(), HasSubstr("Linux"));
  shell("rm /tmp/file");
}

std::string talk(int fd, const std::string& text) {
  std::string out;
  EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  ::shutdown(fd, SHUT_WR);
  char buffer[256];
  pollfd ready{fd, POLLIN, 0};
  while (::poll(&ready, 1, 60'000) == 1) {
    const ssize_t n = ::read(fd, buffer, sizeof(buffer));
    if (n <= 0) break;
    out.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return out;
}

TEST_F(Library, ports_of_the_guest) {
  EXPECT_EQ(vm_->connect(4711).error().code(), ErrorCode::kConnectFailed);
  auto server = vm_->exec({"nc", "-ll", "-p", "4711", "-e", "cat"}).value();
  // It listens soon.
  Result<int> fd = vm_->connect(4711);
  for (int i = 0; i < 200 && !fd; ++i) fd = vm_->connect(4711);
  EXPECT_EQ(talk(fd.value(), "over the agent"), "over the agent");

  std::optional<PortForward> forward = vm_->expose_tcp(0, 4711).value();
  EXPECT_EQ(vm_->expose_tcp(forward->port(), 4711).error().code(), ErrorCode::kIo);
  EXPECT_EQ(shell("true").code, 0);
  const std::string port = std::to_string(forward->port());
  FILE* const client = ::popen(
      ("bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + port + "; echo hi >&3; head -1 <&3'").c_str(), "r");
  char line[16] = {};
  EXPECT_NE(::fgets(line, sizeof(line), client), nullptr);
  EXPECT_STREQ(line, "hi\n");
  ::pclose(client);
}

TEST_F(Library, many_programs_at_once_from_many_threads) {
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back([&, i] {
        const auto outcome = vm_->run({"echo", std::to_string(i)});
        if (outcome && outcome->out == std::to_string(i) + "\n") ++right;
      });
    }
  }
  EXPECT_EQ(right, 8);
}

TEST_F(Library, blocking_call_on_the_librarys_thread_is_refused) {
  std::promise<ErrorCode> answer;
  vm_->exec_builder().argv({"true"}).output_async([&](Result<ExecOutcome>) {
    const auto inner = vm_->run({"true"});
    answer.set_value(inner ? ErrorCode::kInternal : inner.error().code());
  });
  EXPECT_EQ(get(answer.get_future()), ErrorCode::kInvalidState);
}

TEST_F(Library, signal_without_a_workload_is_refused) {
  EXPECT_EQ(vm_->signal(SIGTERM).error().code(), ErrorCode::kInvalidState);
}

TEST_F(Library, bad_configurations_start_nothing) {
  VmConfig c = config();
  c.memory_mib = 1;
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kInvalidArgument);
  c = config();
  c.vcpus = 1000;
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kInvalidArgument);
  c = config();
  c.hostname = "no spaces";
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kInvalidArgument);
  c = config();
  c.env = {"NOEQUALS"};
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kInvalidArgument);
  c = config();
  c.memory_mib = 1u << 20;
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kLimit);
  EXPECT_EQ(image_->pool().min(3).max(2).build().error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(Library, start_that_takes_too_long_is_an_error) {
  VmConfig c = config();
  c.start_timeout = milliseconds(1);
  EXPECT_EQ(image_->start(c).error().code(), ErrorCode::kStartTimeout);
}

TEST_F(Library, workload_ends_the_vm) {
  Vm vm = image_->start(config()).value();
  auto workload = vm.workload_builder().keep_stdin().spawn().value();
  EXPECT_EQ(workload.read_stdout().value(), "workload yes\n");
  EXPECT_EQ(vm.workload_builder().spawn().error().code(), ErrorCode::kInvalidArgument);
  workload.write_stdin("x").value();
  EXPECT_EQ(workload.read_stdout().value(), "x");
  vm.signal(SIGTERM).value();
  EXPECT_EQ(workload.wait().value().signal, SIGTERM);
  EXPECT_TRUE(vm.stop());
  EXPECT_FALSE(vm.alive());
  EXPECT_EQ(vm.run({"true"}).error().code(), ErrorCode::kVmGone);
}

TEST_F(Library, stop_ends_what_runs_and_is_harmless_twice) {
  Vm vm = image_->start(config()).value();
  auto child = vm.exec({"sleep", "1000"}).value();
  EXPECT_TRUE(vm.stop());
  EXPECT_TRUE(vm.stop());
  EXPECT_EQ(child.wait().error().code(), ErrorCode::kVmGone);
  EXPECT_EQ(vm.read_file("/etc/passwd").error().code(), ErrorCode::kVmGone);
  EXPECT_EQ(vm.connect(1).error().code(), ErrorCode::kVmGone);
}

TEST_F(Library, pool_hands_out_fresh_vms) {
  Pool pool =
      image_->pool().min(1).max(2).acquire_timeout(kPatience).config(config()).build().value();
  std::string first;
  {
    PooledVm vm = pool.acquire().value();
    first = vm->id();
    vm->write_file("/tmp/left", "behind").value();
  }
  PooledVm vm = pool.acquire().value();
  EXPECT_NE(vm->id(), first);
  EXPECT_EQ(vm->read_file("/tmp/left").error().code(), ErrorCode::kNotFound);
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.acquired, 2u);
  EXPECT_EQ(stats.leased, 1u);
  EXPECT_LE(stats.alive + stats.stopping, 2u);
}

TEST_F(Library, pool_that_keeps_vms_hands_the_same_out_again) {
  Pool pool = image_->pool()
                  .max(1)
                  .acquire_timeout(kPatience)
                  .restore_on_release(false)
                  .config(config())
                  .build()
                  .value();
  std::string first;
  {
    PooledVm vm = pool.acquire().value();
    first = vm->id();
  }
  PooledVm vm = pool.acquire().value();
  EXPECT_EQ(vm->id(), first);
  EXPECT_TRUE(vm->alive());
  EXPECT_EQ(pool.stats().acquired_warm, 1u);
  vm.release();
  EXPECT_FALSE(vm->alive());
  EXPECT_EQ(vm->run({"true"}).error().code(), ErrorCode::kVmGone);
  EXPECT_TRUE(vm->stop());
}

TEST_F(Library, full_pool_times_out_and_a_closed_one_refuses) {
  std::optional<Pool> pool =
      image_->pool().max(1).acquire_timeout(milliseconds(0)).config(config()).build().value();
  EXPECT_EQ(pool->acquire().error().code(), ErrorCode::kAcquireTimeout);
  pool = image_->pool().max(1).acquire_timeout(kPatience).config(config()).build().value();
  std::optional<PooledVm> vm = pool->acquire().value();
  std::promise<Result<PooledVm>> answer;
  pool->acquire_async([&](Result<PooledVm> late) { answer.set_value(std::move(late)); });
  pool.reset();
  EXPECT_EQ(get(answer.get_future()).error().code(), ErrorCode::kClosed);
  // What was handed out stays usable.
  EXPECT_EQ((*vm)->run({"true"}).value().code, 0);
  vm.reset();
}

TEST_F(Library, queued_completions_run_where_they_are_dispatched) {
  ContextOptions options;
  options.completions = Completions::kQueue;
  Context context = Context::create(options).value();
  const auto me = std::this_thread::get_id();
  bool called = false;
  Image::from_oci_async(context, "oci:/no/such", [&](Result<Image> image) {
    called = std::this_thread::get_id() == me && !image;
  });
  pollfd ready{context.completion_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&ready, 1, 60'000), 1);
  EXPECT_EQ(context.dispatch_completions(), 1u);
  EXPECT_TRUE(called);
  EXPECT_EQ(::poll(&ready, 1, 0), 0);
}

TEST_F(Library, context_that_ends_takes_everything_with_it) {
  std::optional<Context> context = Context::create().value();
  const Image image = Image::from_oci(*context, variable("SUPERMACHINE_IMAGE")).value();
  std::promise<ErrorCode> answer;
  Vm::start_async(image, config(), [&](Result<Vm> vm) {
    answer.set_value(vm ? ErrorCode::kInternal : vm.error().code());
  });
  context.reset();
  EXPECT_EQ(get(answer.get_future()), ErrorCode::kClosed);
  EXPECT_EQ(image.start(config()).error().code(), ErrorCode::kClosed);
}

}  // namespace
}  // namespace supermachine
