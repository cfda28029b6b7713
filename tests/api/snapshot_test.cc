// Snapshots of VMs through the library: saved, cloned, paused, refused. Started by tests/api/run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <supermachine/c/supermachine.h>
#include <supermachine/supermachine.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <set>
#include <sstream>
#include <thread>

#include "support.h"

namespace supermachine {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Counts twice a second and says so in a file; answers a line with what it has drawn.
constexpr const char* kServer = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.5; done";

class Snapshots : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern = ::testing::TempDir() + "sm-snapshots-XXXXXX";
    folder_ = new std::string(::mkdtemp(pattern.data()));
    // Where the logs of the VMs are.
    fs::create_directory(path("run"));
    fs::permissions(path("run"), fs::perms::owner_all);
    ::setenv("XDG_RUNTIME_DIR", path("run").c_str(), 1);
    context_ = new Context(Context::create().value());
    image_ = new Image(Image::builder(*context_, variable("SUPERMACHINE_IMAGE"))
                           .env("FROM_BUILDER", "builder")
                           .memory_mib(128)
                           .build()
                           .value());
    Vm vm = image_->start(vm_config()).value();
    vm.exec_builder().argv({"sh", "-c", kServer}).detach().value();
    vm.run({"sh", "-c", "until [ -s /tmp/count ]; do sleep 0.1; done"}).value();
    vm.snapshot(path("served")).value();
    served_ = new Image(Image::from_snapshot(*context_, path("served")).value());
  }
  static void TearDownTestSuite() {
    delete served_;
    delete image_;
    delete context_;
    fs::remove_all(*folder_);
    delete folder_;
  }
  static std::string path(const std::string& name) { return *folder_ + "/" + name; }
  static std::string sh(Vm& vm, const std::string& script) {
    return vm.run({"sh", "-c", script}).value().out;
  }
  // Nothing but whole snapshots is there.
  static std::set<std::string> names() {
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(*folder_)) out.insert(entry.path().filename());
    return out;
  }

  static std::string* folder_;
  static Context* context_;
  static Image* image_;
  static Image* served_;
};
std::string* Snapshots::folder_ = nullptr;
Context* Snapshots::context_ = nullptr;
Image* Snapshots::image_ = nullptr;
Image* Snapshots::served_ = nullptr;

TEST_F(Snapshots, clones_run_what_ran_detached_with_the_images_environment) {
  EXPECT_EQ(served_->memory_mib(), 128u);
  EXPECT_EQ(served_->digest(), image_->digest());
  Pool pool =
      served_->pool().min(2).max(2).acquire_timeout(kPatience).config(vm_config()).build().value();
  PooledVm one = pool.acquire().value();
  PooledVm two = pool.acquire().value();
  std::set<std::string> random;
  for (PooledVm* vm : {&one, &two}) {
    EXPECT_EQ(sh(**vm, "echo $FROM_IMAGE $FROM_BUILDER; pwd"), "yes builder\n/srv\n");
    EXPECT_EQ(sh(**vm, "hostname"), (*vm)->id() + "\n");
    // It goes on counting.
    const std::string script =
        "a=$(cat /tmp/count); i=0; until [ \"$(cat /tmp/count)\" -gt \"$a\" ]; do "
        "sleep 0.1; i=$((i+1)); [ $i -lt 600 ] || exit 1; done; echo on";
    EXPECT_EQ(sh(**vm, script), "on\n");
    random.insert(sh(**vm, "head -c 64 /dev/urandom | od -An -tx1"));
  }
  EXPECT_EQ(random.size(), 2u);
}

// All of a file, or as much as is there to be read: a process that ends meanwhile takes its files
// with it, and an iterator over the buffer would throw.
std::string content(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// Of this program's children, those that were started to become VMs later.
std::set<std::string> spare_workers() {
  std::set<std::string> out;
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    std::ifstream list(task.path() / "children");
    for (std::string pid; list >> pid;) {
      if (content("/proc/" + pid + "/cmdline").find("--pool-worker") != std::string::npos) {
        out.insert(pid);
      }
    }
  }
  return out;
}

TEST_F(Snapshots, pool_has_a_process_ready_for_the_next_vm) {
  const auto wait_for = [](std::size_t count) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      std::set<std::string> found = spare_workers();
      if (found.size() == count || std::chrono::steady_clock::now() > until) return found;
      std::this_thread::yield();
    }
  };
  EXPECT_TRUE(wait_for(0).empty());  // of the pool before
  std::optional<Pool> pool =
      served_->pool().max(2).acquire_timeout(kPatience).config(vm_config()).build().value();
  PooledVm one = pool->acquire().value();
  const std::set<std::string> waiting = wait_for(1);
  ASSERT_EQ(waiting.size(), 1u);
  PooledVm two = pool->acquire().value();
  EXPECT_EQ(sh(*two, "hostname"), two->id() + "\n");
  EXPECT_NE(one->id(), two->id());
  // That process is the second VM now, and another one waits.
  const std::set<std::string> both = wait_for(2);
  EXPECT_EQ(both.size(), 2u);
  EXPECT_TRUE(both.contains(*waiting.begin()));
  two.release();
  one.release();
  pool.reset();
  EXPECT_TRUE(wait_for(0).empty());
}

TEST_F(Snapshots, paused_vm_stands_still_until_it_is_resumed) {
  Vm vm = served_->start(vm_config()).value();
  vm.pause().value();
  vm.pause().value();
  std::promise<Result<ExecOutcome>> answer;
  auto future = answer.get_future();
  vm.exec_builder().argv({"true"}).output_async(
      [&](Result<ExecOutcome> outcome) { answer.set_value(std::move(outcome)); });
  EXPECT_EQ(future.wait_for(seconds(1)), std::future_status::timeout);
  vm.resume().value();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(future.get().value().code, 0);
}

// A pool that keeps its VMs hands the same one out again, unless it was left standing still.
TEST_F(Snapshots, paused_vm_is_never_handed_out) {
  Pool pool = served_->pool()
                  .min(0)
                  .max(1)
                  .restore_on_release(false)
                  .acquire_timeout(kPatience)
                  .config(vm_config())
                  .build()
                  .value();
  const std::vector<std::function<void(Vm&)>> leavings = {
      [](Vm& vm) { vm.pause().value(); },
      [](Vm& vm) { vm.snapshot(path("left")).value(); },
  };
  std::set<std::string> seen;
  for (const auto& leave : leavings) {
    PooledVm vm = pool.acquire().value();
    EXPECT_TRUE(seen.insert(vm->id()).second) << "a VM that was paused came back";
    EXPECT_EQ(sh(*vm, "echo runs"), "runs\n");
    leave(*vm);
  }
  // One that was paused and goes on is as good as any.
  std::string id;
  {
    PooledVm vm = pool.acquire().value();
    EXPECT_TRUE(seen.insert(vm->id()).second);
    vm->pause().value();
    vm->resume().value();
    id = vm->id();
  }
  PooledVm again = pool.acquire().value();
  EXPECT_EQ(again->id(), id);
  EXPECT_EQ(sh(*again, "echo runs"), "runs\n");
  again.release();
  // What was saved standing still goes on in its copies.
  const Image left = Image::from_snapshot(*context_, path("left")).value();
  Vm copy = left.start(vm_config()).value();
  EXPECT_EQ(sh(copy, "echo runs"), "runs\n");
  fs::remove_all(path("left"));
}

TEST_F(Snapshots, snapshot_leaves_the_vm_paused_and_a_live_one_does_not) {
  Vm vm = served_->start(vm_config()).value();
  std::promise<Result<void>> live;
  auto first = live.get_future();
  // The second waits for the first.
  vm.snapshot_live_async(path("live"), [&](Result<void> r) { live.set_value(std::move(r)); });
  vm.snapshot(path("paused")).value();
  ASSERT_EQ(first.wait_for(seconds(0)), std::future_status::ready);
  first.get().value();
  std::promise<Result<ExecOutcome>> answer;
  auto future = answer.get_future();
  vm.exec_builder().argv({"true"}).output_async(
      [&](Result<ExecOutcome> outcome) { answer.set_value(std::move(outcome)); });
  EXPECT_EQ(future.wait_for(seconds(1)), std::future_status::timeout);
  vm.resume().value();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(future.get());
  // Again, over the one that is there.
  vm.snapshot_live(path("live")).value();
  const Image second = Image::from_snapshot(*context_, path("live")).value();
  Vm clone = second.start(vm_config()).value();
  constexpr const char* kLife = "cat /run/supermachine/generation";
  EXPECT_EQ(std::stoi(sh(clone, kLife)), std::stoi(sh(vm, kLife)) + 1);
  fs::remove_all(path("live"));
  fs::remove_all(path("paused"));
}

TEST_F(Snapshots, diff_holds_what_changed_since_its_base) {
  Vm vm = served_->start(vm_config()).value();
  vm.write_file("/tmp/more", "of this one").value();
  vm.snapshot_diff(path("diff"), path("served")).value();
  EXPECT_LT(fs::file_size(path("diff") + "/memory.sum"), 1u << 20);
  const Image image = Image::from_snapshot(*context_, path("diff")).value();
  Vm clone = image.start(vm_config()).value();
  EXPECT_EQ(clone.read_file("/tmp/more").value(), "of this one");
  fs::remove_all(path("diff"));

  EXPECT_EQ(vm.snapshot_diff(path("x"), path("none")).error().code(), ErrorCode::kNotFound);
  vm.snapshot_live(path("other")).value();
  EXPECT_EQ(vm.snapshot_diff(path("x"), path("other")).error().code(), ErrorCode::kInvalidArgument);
  Vm booted = image_->start(vm_config()).value();
  EXPECT_EQ(booted.snapshot_diff(path("x"), path("served")).error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(sh(booted, "echo on"), "on\n");
  fs::remove_all(path("other"));
  EXPECT_EQ(names(), (std::set<std::string>{"run", "served"}));
}

// The command line's VMs have their roots on disks.
bool command_line(const std::string& words) {
  const std::string line = variable("SUPERMACHINE_CLI") + " " + words + " >/dev/null";
  return std::system(line.c_str()) == 0;
}

TEST_F(Snapshots, each_vm_has_a_copy_of_the_snapshots_disk_and_saves_its_own) {
  ::setenv("XDG_STATE_HOME", path("state").c_str(), 1);
  ASSERT_TRUE(command_line("run -d --name disk -m 128m --engine " +
                           std::string(engine() == Engine::kSoft ? "soft " : "auto ") +
                           variable("SUPERMACHINE_IMAGE") + " sleep 1000"));
  EXPECT_TRUE(command_line("exec disk sh -c 'echo first >/kept'"));
  EXPECT_TRUE(command_line("snapshot create disk " + path("disk")));
  EXPECT_TRUE(command_line("rm -f disk"));
  ::unsetenv("XDG_STATE_HOME");

  const Image image = Image::from_snapshot(*context_, path("disk")).value();
  Vm one = image.start(vm_config()).value();
  Vm two = image.start(vm_config()).value();
  EXPECT_EQ(one.read_file("/kept").value(), "first\n");
  one.write_file("/kept", "of one").value();
  one.snapshot(path("again")).value();
  EXPECT_EQ(two.read_file("/kept").value(), "first\n");

  const Image again = Image::from_snapshot(*context_, path("again")).value();
  Pool pool = again.pool().max(1).acquire_timeout(kPatience).config(vm_config()).build().value();
  PooledVm copy = pool.acquire().value();
  EXPECT_EQ(copy->read_file("/kept").value(), "of one");
  copy->write_file("/kept", "of the copy").value();
  copy.release();
  // The next one is a copy again.
  EXPECT_EQ(pool.acquire().value()->read_file("/kept").value(), "of one");
  EXPECT_EQ(image.start(vm_config()).value().read_file("/kept").value(), "first\n");
  for (const char* name : {"disk", "again", "state"}) fs::remove_all(path(name));
}

TEST_F(Snapshots, what_cannot_be_saved_leaves_nothing_behind) {
  Vm vm = image_->start(vm_config()).value();
  EXPECT_EQ(vm.snapshot(path("no/such/folder")).error().code(), ErrorCode::kNotFound);
  fs::create_directory(path("full"));
  fs::create_directory(path("full/of things"));
  EXPECT_FALSE(vm.snapshot(path("full")));
  fs::remove_all(path("full"));
  // The guest goes on after each.
  EXPECT_EQ(sh(vm, "echo on"), "on\n");
  auto workload = vm.workload_builder().argv({"sh", "-c", "sleep 1000"}).spawn();
  ASSERT_TRUE(workload);
  EXPECT_EQ(vm.snapshot(path("x")).error().code(), ErrorCode::kInvalidState);
  vm.stop().value();
  EXPECT_EQ(vm.snapshot_live(path("x")).error().code(), ErrorCode::kVmGone);
  EXPECT_EQ(vm.pause().error().code(), ErrorCode::kVmGone);
  EXPECT_EQ(names(), (std::set<std::string>{"run", "served"}));
}

TEST_F(Snapshots, vm_that_ends_during_a_capture_is_an_error_or_a_whole_snapshot) {
  std::optional<Vm> vm = served_->start(vm_config()).value();
  std::promise<Result<void>> answer;
  auto future = answer.get_future();
  vm->snapshot_live_async(path("ended"), [&](Result<void> r) { answer.set_value(std::move(r)); });
  vm.reset();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  const Result<void> result = future.get();
  if (result) {
    EXPECT_TRUE(Image::from_snapshot(*context_, path("ended")));
    fs::remove_all(path("ended"));
  } else {
    EXPECT_EQ(result.error().code(), ErrorCode::kVmGone) << result.error().text();
  }
  EXPECT_EQ(names(), (std::set<std::string>{"run", "served"}));
}

TEST_F(Snapshots, detached_workload_ends_its_vms) {
  Vm vm = image_->start(vm_config()).value();
  vm.workload_builder()
      .argv({"sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done; exit 3"})
      .detach("/tmp/output")
      .value();
  vm.snapshot_live(path("workload")).value();
  const Image image = Image::from_snapshot(*context_, path("workload")).value();
  Vm clone = image.start(vm_config()).value();
  EXPECT_EQ(clone.workload_builder().detach().error().code(), ErrorCode::kInvalidArgument);
  // It came with the snapshot, and is signalled all the same.
  Vm other = image.start(vm_config()).value();
  EXPECT_EQ(other.signal(0).error().code(), ErrorCode::kInvalidArgument);
  other.signal(15).value();
  const auto gone = other.run({"sleep", "1000"});
  EXPECT_EQ(gone.error().code(), ErrorCode::kVmGone);
  clone.write_file("/tmp/end", "").value();
  const auto late = clone.run({"sleep", "1000"});
  EXPECT_EQ(late.error().code(), ErrorCode::kVmGone);
  // The worker's end follows.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (clone.alive() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_FALSE(clone.alive());
  EXPECT_TRUE(vm.alive());
  fs::remove_all(path("workload"));
}

TEST_F(Snapshots, secret_of_a_clone_is_in_no_file_command_line_or_environment) {
  // Not in one piece in this program's own file.
  const std::string secret = std::string("s3cr3t-of-") + "a-clone";
  VmConfig c = vm_config();
  c.secrets = {"TOKEN=" + secret};
  Vm vm = served_->start(c).value();
  EXPECT_EQ(sh(vm, "echo $TOKEN"), secret + "\n");
  for (const std::string& folder : {path("served"), variable("XDG_RUNTIME_DIR")}) {
    ASSERT_TRUE(fs::is_directory(folder)) << folder;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      EXPECT_EQ(content(entry.path()).find(secret), std::string::npos) << entry.path();
    }
  }
  std::size_t processes = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    if (!std::isdigit(static_cast<unsigned char>(entry.path().filename().string()[0]))) continue;
    ++processes;
    for (const char* file : {"cmdline", "environ"}) {
      EXPECT_EQ(content(entry.path() / file).find(secret), std::string::npos) << entry.path();
    }
  }
  EXPECT_GT(processes, 1u);
}

TEST_F(Snapshots, secrets_and_machine_id_are_the_vms_own) {
  VmConfig c = vm_config();
  c.secrets = {"TOKEN=s3cr3t"};
  c.new_machine_id = true;
  Vm one = served_->start(c).value();
  Vm two = served_->start(c).value();
  EXPECT_EQ(sh(one, "echo $TOKEN"), "s3cr3t\n");
  const std::string id = sh(one, "cat /etc/machine-id");
  EXPECT_EQ(id.size(), 33u);
  EXPECT_NE(id, sh(two, "cat /etc/machine-id"));
  c.secrets = {"no variable"};
  const auto refused = served_->start(c);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().text(), ::testing::Not(HasSubstr("no variable")));
}

TEST_F(Snapshots, c_interface_has_the_same) {
  supermachine_error* error = nullptr;
  supermachine_context* context = supermachine_context_new(nullptr, &error);
  ASSERT_NE(context, nullptr);
  supermachine_image* image =
      supermachine_image_from_snapshot(context, path("served").c_str(), &error);
  ASSERT_NE(image, nullptr) << supermachine_error_get_cause(error);
  const char* const secrets[] = {"TOKEN=c", nullptr};
  supermachine_vm_config c{};
  c.size = sizeof(c);
  c.engine = variable("SUPERMACHINE_ENGINE") == "soft" ? "soft" : "auto";
  c.secrets = secrets;
  supermachine_vm* vm = supermachine_vm_start(image, &c, &error);
  ASSERT_NE(vm, nullptr) << supermachine_error_get_cause(error);
  EXPECT_EQ(supermachine_vm_pause(vm, &error), 0);
  EXPECT_EQ(supermachine_vm_resume(vm, &error), 0);
  const char* const argv[] = {"sh", "-c", "echo $TOKEN >/tmp/token", nullptr};
  supermachine_exec* exec = supermachine_exec_new(vm, argv);
  EXPECT_GT(supermachine_exec_detach(exec, nullptr, &error), 0);
  supermachine_exec_free(exec);
  EXPECT_EQ(supermachine_vm_snapshot_live(vm, path("c-live").c_str(), &error), 0);
  EXPECT_EQ(
      supermachine_vm_snapshot_diff(vm, path("c-diff").c_str(), path("served").c_str(), &error), 0);
  EXPECT_EQ(supermachine_vm_snapshot(vm, path("c-paused").c_str(), &error), 0);
  supermachine_vm_free(vm);
  supermachine_image_free(image);
  EXPECT_EQ(supermachine_image_from_snapshot(context, "/none", &error), nullptr);
  EXPECT_EQ(supermachine_error_get_code(error), SUPERMACHINE_NOT_FOUND);
  supermachine_error_free(error);
  supermachine_context_free(context);
  for (const char* name : {"c-live", "c-diff", "c-paused"}) fs::remove_all(path(name));
}

TEST_F(Snapshots, one_that_has_taken_the_place_of_another_is_not_restored_for_it) {
  Vm vm = image_->start(vm_config()).value();
  vm.snapshot(path("place")).value();
  const Image old = Image::from_snapshot(*context_, path("place")).value();
  old.start(vm_config()).value();
  Vm other = image_->start(vm_config()).value();
  other.snapshot(path("place")).value();
  const auto refused = old.start(vm_config());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kImageInvalid);
  EXPECT_THAT(refused.error().text(), HasSubstr("replaced"));
  Image::from_snapshot(*context_, path("place")).value().start(vm_config()).value();
  fs::remove_all(path("place"));
}

TEST_F(Snapshots, wrong_uses_are_named) {
  EXPECT_EQ(Image::from_snapshot(*context_, path("none")).error().code(), ErrorCode::kNotFound);
  VmConfig c = vm_config();
  c.memory_mib = 256;
  EXPECT_EQ(served_->start(c).error().code(), ErrorCode::kInvalidArgument);
  Vm vm = served_->start(vm_config()).value();
  EXPECT_EQ(vm.exec_builder().argv({"true"}).detach("relative").error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(vm.exec_builder().argv({"no-such-program"}).detach().error().code(),
            ErrorCode::kExecNotFound);
  EXPECT_EQ(vm.exec_builder().argv({"true"}).tty().detach().error().code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace supermachine
