// Baking through the library: what becomes of it, when nothing is booted, what is left of a
// failure. Started by tests/api/run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <supermachine/c/supermachine.h>
#include <supermachine/supermachine.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "support.h"

namespace supermachine {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

class Bakes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern = ::testing::TempDir() + "sm-bakes-XXXXXX";
    folder_ = new std::string(::mkdtemp(pattern.data()));
    count_workers();
    ContextOptions options;
    options.assets_dir = path("assets");
    options.cache_dir = path("cache");
    fs::create_directory(path("run"));
    fs::permissions(path("run"), fs::perms::owner_all);
    options.runtime_dir = path("run");
    context_ = new Context(Context::create(options).value());
    image_ = new Image(server("i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.1; done"));
  }
  static void TearDownTestSuite() {
    delete image_;
    delete context_;
    fs::remove_all(*folder_);
    delete folder_;
  }
  void TearDown() override {
    // VMs end in the background.
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!fs::is_empty(path("run")) && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(milliseconds(20));
    }
    EXPECT_TRUE(fs::is_empty(path("run"))) << "a VM's folder is left";
    fs::remove_all(path("cache/tags"));
  }

  // Assets whose worker notes each of its starts.
  static void count_workers() {
    const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path();
    fs::create_directory(path("assets"));
    for (const auto& entry : fs::directory_iterator(bin / "../guest")) {
      fs::create_symlink(fs::canonical(entry.path()), path("assets") / entry.path().filename());
    }
    const fs::path worker = path("assets") / fs::path("supermachine-worker");
    std::ofstream(worker) << "#!/bin/sh\necho start >>" << path("starts") << "\nexec "
                          << (bin / "supermachine-worker").string() << " \"$@\"\n";
    fs::permissions(worker, fs::perms::owner_all);
  }
  static long starts() {
    std::ifstream file(path("starts"));
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  }
  static Image server(const std::string& script) {
    return Image::builder(*context_, variable("SUPERMACHINE_IMAGE"))
        .env("FROM_BUILDER", "builder")
        .memory_mib(128)
        .command({"sh", "-c", script})
        .build()
        .value();
  }
  static std::string path(const std::string& name) { return *folder_ + "/" + name; }
  static std::set<std::string> tags() {
    std::set<std::string> out;
    if (!fs::exists(path("cache/tags"))) return out;
    for (const auto& e : fs::directory_iterator(path("cache/tags"))) {
      out.insert(e.path().filename());
    }
    return out;
  }
  static BakeConfig config(BakeWhen when, const std::string& tag = {}) {
    BakeConfig out;
    out.when = when;
    out.engine = engine();
    out.tag = tag;
    return out;
  }
  static WarmupConfig warmup(std::vector<WarmupCommand> commands, const std::string& tag = {}) {
    WarmupConfig out;
    out.commands = std::move(commands);
    out.engine = engine();
    out.tag = tag;
    return out;
  }
  // What a script prints in a fresh VM.
  static std::string in(const Image& image, const std::string& script) {
    Vm vm = image.start(vm_config()).value();
    auto out = vm.run({"sh", "-c", script}).value().out;
    vm.stop().value();
    return out;
  }

  static std::string* folder_;
  static Context* context_;
  static Image* image_;
};
std::string* Bakes::folder_ = nullptr;
Context* Bakes::context_ = nullptr;
Image* Bakes::image_ = nullptr;

TEST_F(Bakes, second_of_the_same_inputs_starts_nothing) {
  BakeConfig c = config(BakeWhen::kPreExec);
  c.warmup = {"echo warm >/tmp/state"};
  const Image made = image_->bake(c).value();
  EXPECT_EQ(made.digest(), image_->digest());
  EXPECT_EQ(made.memory_mib(), 128u);
  const long before = starts();
  const Image again = image_->bake(c).value();
  c.tag = "named";
  const Image named = image_->bake(c).value();
  EXPECT_EQ(starts(), before);
  EXPECT_EQ(tags().size(), 2u);
  for (const Image* image : {&made, &again, &named}) {
    EXPECT_EQ(in(*image, "cat /tmp/state; echo $FROM_IMAGE $FROM_BUILDER"), "warm\nyes builder\n");
  }
  c.warmup = {"echo hot >/tmp/state"};
  EXPECT_EQ(in(image_->bake(c).value(), "cat /tmp/state"), "hot\n");
  c.use_cache = false;
  const long then = starts();
  EXPECT_TRUE(image_->bake(c).has_value());
  EXPECT_EQ(starts(), then + 1);
}

TEST_F(Bakes, every_sign_of_readiness_and_a_pool_of_the_result) {
  const Image web = server("echo hi >/tmp/index.html; exec httpd -f -p 8080 -h /tmp");
  BakeConfig c = config(BakeWhen::kListener);
  c.port = 8080;
  const Image listens = web.bake(c).value();
  Pool pool =
      listens.pool().min(2).max(2).acquire_timeout(kPatience).config(vm_config()).build().value();
  for (int i = 0; i < 2; ++i) {
    PooledVm vm = pool.acquire().value();
    EXPECT_EQ(vm->run({"wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html"}).value().out,
              "hi\n");
  }
  const Image beats = server("sleep 0.2; echo up >$SUPERMACHINE_READY_FILE; exec sleep 100000");
  EXPECT_EQ(in(beats.bake(config(BakeWhen::kHeartbeat)).value(), "pidof sleep >/dev/null; echo $?"),
            "0\n");
  BakeConfig later = config(BakeWhen::kAfter);
  later.after = milliseconds(300);
  later.log = "/tmp/log";
  // It may come to saying so in the copy only.
  EXPECT_EQ(in(server("echo said; exec sleep 100000").bake(later).value(),
               "for i in $(seq 600); do [ -s /tmp/log ] && break; sleep 0.1; done; cat /tmp/log"),
            "said\n");
}

TEST_F(Bakes, on_request_a_function_decides_and_is_known_by_its_name) {
  BakeConfig c = config(BakeWhen::kRequest);
  int asked = 0;
  c.request_name = "counted to three";
  c.request = [&asked](Vm& vm) -> Result<void> {
    ++asked;
    const auto seen =
        vm.run({"sh", "-c", "until [ \"$(cat /tmp/count)\" -ge 3 ]; do sleep 0.1; done"});
    if (!seen) return seen.error();
    return vm.write_file("/tmp/asked", "yes");
  };
  const Image made = image_->bake(c).value();
  EXPECT_EQ(in(made, "cat /tmp/asked; [ $(cat /tmp/count) -ge 3 ] && echo enough"), "yesenough\n");
  EXPECT_TRUE(image_->bake(c).has_value());
  EXPECT_EQ(asked, 1);

  c.request_name = "refuses";
  c.request = [](Vm&) -> Result<void> { return Error(ErrorCode::kIo, "not today"); };
  const auto refused = image_->bake(c);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kIo);
  EXPECT_EQ(refused.error().cause(), "not today");

  c.request_name = "hangs";
  c.limit = seconds(2);
  c.request = [](Vm& vm) -> Result<void> {
    const auto never = vm.run({"sleep", "100000"});
    return never ? Result<void>() : never.error();
  };
  EXPECT_EQ(image_->bake(c).error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(tags().size(), 1u);
}

TEST_F(Bakes, warm_ups_follow_on_one_another) {
  const Image base = image_->bake(config(BakeWhen::kAfter, "base")).value();
  const WarmupConfig c = warmup({{{"sh", "-c", "echo $MORE >/tmp/one"}, {"MORE=more"}, seconds(60)},
                                 {{"cp", "/tmp/one", "/tmp/two"}, {}, {}}},
                                "warm");
  const Image warm = base.with_warmup(c).value();
  const std::string script =
      "cat /tmp/one /tmp/two; echo $FROM_BUILDER $MORE; pidof sh >/dev/null; echo $?";
  EXPECT_EQ(in(warm, script), "more\nmore\nbuilder\n0\n");
  const long before = starts();
  EXPECT_TRUE(base.with_warmup(c).has_value());
  EXPECT_EQ(starts(), before);
  EXPECT_EQ(tags(), (std::set<std::string>{"base", "warm"}));
  const Image hot = warm.with_warmup(warmup({{{"rm", "/tmp/one"}, {}, {}}})).value();
  EXPECT_EQ(in(hot, "ls /tmp/one /tmp/two 2>/dev/null"), "/tmp/two\n");
  // Of an image that is none yet.
  EXPECT_EQ(in(image_->with_warmup(warmup({{{"touch", "/here"}, {}, {}}})).value(), "ls /here"),
            "/here\n");
}

TEST_F(Bakes, failures_are_typed_and_leave_nothing) {
  const auto failed =
      image_->with_warmup(warmup({{{"sh", "-c", "echo out; echo why >&2; exit 4"}, {}, {}}}));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::kBakeFailed);
  EXPECT_THAT(failed.error().text(), HasSubstr("status 4"));
  EXPECT_THAT(failed.error().text(), HasSubstr("why"));
  const auto slow =
      image_->with_warmup(warmup({{{"sh", "-c", "echo begun; sleep 100000"}, {}, seconds(3)}}));
  ASSERT_FALSE(slow);
  EXPECT_EQ(slow.error().code(), ErrorCode::kBakeFailed);
  EXPECT_THAT(slow.error().text(), HasSubstr("begun"));
  EXPECT_EQ(image_->with_warmup(warmup({{{"no-such-program"}, {}, {}}})).error().code(),
            ErrorCode::kExecNotFound);

  const auto early = server("exit 3").bake(config(BakeWhen::kListener));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code(), ErrorCode::kBakeFailed);
  EXPECT_THAT(early.error().text(), HasSubstr("status 3"));
  BakeConfig late = config(BakeWhen::kHeartbeat);
  late.limit = seconds(2);
  EXPECT_EQ(image_->bake(late).error().code(), ErrorCode::kTimeout);
  EXPECT_EQ(tags().size(), 0u);
}

TEST_F(Bakes, wrong_uses_start_nothing) {
  const long before = starts();
  const auto code = [](const Result<Image>& result) {
    return result ? ErrorCode::kInternal : result.error().code();
  };
  BakeConfig c = config(BakeWhen::kPreExec, "no/tag");
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  c = config(BakeWhen::kPreExec);
  c.log = "/log";
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  c = config(BakeWhen::kRequest);
  c.request_name = "nothing to call";
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  c.request_name.clear();
  c.request = [](Vm&) -> Result<void> { return {}; };
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  c = config(BakeWhen::kAfter);
  c.after = milliseconds(-1);
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  c.after = {};
  c.limit = {};
  EXPECT_EQ(code(image_->bake(c)), ErrorCode::kInvalidArgument);
  for (const WarmupCommand& bad : {WarmupCommand{}, WarmupCommand{{"true"}, {"=x"}, {}},
                                   WarmupCommand{{"true"}, {}, milliseconds(-1)}}) {
    EXPECT_EQ(code(image_->with_warmup(warmup({bad}))), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(code(image_->with_warmup(warmup({}))), ErrorCode::kInvalidArgument);
  EXPECT_EQ(starts(), before);
  EXPECT_EQ(code(image_->bake(config(BakeWhen::kPreExec)).value().bake(config(BakeWhen::kPreExec))),
            ErrorCode::kInvalidArgument);
}

TEST_F(Bakes, context_that_ends_ends_a_bake) {
  std::promise<Result<Image>> answer;
  auto future = answer.get_future();
  {
    ContextOptions options;
    options.cache_dir = path("cache");
    options.runtime_dir = path("run");
    Context context = Context::create(options).value();
    const Image image = Image::builder(context, variable("SUPERMACHINE_IMAGE"))
                            .memory_mib(128)
                            .command({"sleep", "100000"})
                            .build()
                            .value();
    std::promise<void> begun;
    BakeConfig c = config(BakeWhen::kRequest);
    c.request_name = "hangs";
    c.request = [&begun](Vm& vm) -> Result<void> {
      begun.set_value();
      const auto never = vm.run({"sleep", "100000"});
      return never ? Result<void>() : never.error();
    };
    image.bake_async(c, [&](Result<Image> made) { answer.set_value(std::move(made)); });
    ASSERT_EQ(begun.get_future().wait_for(kPatience), std::future_status::ready);
  }
  ASSERT_EQ(future.wait_for(seconds(0)), std::future_status::ready);
  EXPECT_EQ(future.get().error().code(), ErrorCode::kClosed);
  EXPECT_EQ(tags().size(), 0u);
}

// The C interface. One completion at a time.
template <class T>
struct Answer {
  std::promise<std::pair<T, supermachine_error*>> promise;
  static void done(void* user, T value, supermachine_error* error) {
    static_cast<Answer*>(user)->promise.set_value({value, error});
  }
  T get() {
    auto future = promise.get_future();
    if (future.wait_for(kPatience) != std::future_status::ready) std::abort();
    const auto [value, error] = future.get();
    EXPECT_EQ(error, nullptr) << supermachine_error_get_cause(error);
    return value;
  }
};
struct Told {
  std::promise<supermachine_error*> promise;
  static void done(void* user, supermachine_error* error) {
    static_cast<Told*>(user)->promise.set_value(error);
  }
  supermachine_error* get() {
    auto future = promise.get_future();
    if (future.wait_for(kPatience) != std::future_status::ready) std::abort();
    return future.get();
  }
};
struct Bytes {
  std::promise<std::string> promise;
  static void done(void* user, void* bytes, size_t size, supermachine_error* error) {
    EXPECT_EQ(error, nullptr);
    static_cast<Bytes*>(user)->promise.set_value({static_cast<const char*>(bytes), size});
    supermachine_bytes_free(bytes);
  }
};

TEST_F(Bakes, c_interface_bakes_and_has_asynchronous_forms) {
  const std::string assets = path("assets"), cache = path("cache"), run = path("run");
  supermachine_context_options options{};
  options.size = sizeof(options);
  options.assets_dir = assets.c_str();
  options.cache_dir = cache.c_str();
  options.runtime_dir = run.c_str();
  supermachine_error* error = nullptr;
  supermachine_context* context = supermachine_context_new(&options, &error);
  ASSERT_NE(context, nullptr);
  Answer<supermachine_image*> loaded;
  supermachine_image_from_oci_async(context, variable("SUPERMACHINE_IMAGE").c_str(), &loaded.done,
                                    &loaded);
  supermachine_image* image = loaded.get();
  ASSERT_NE(image, nullptr);

  const char* const engine_name = engine() == Engine::kSoft ? "soft" : "auto";
  const char* const shell[] = {"echo baked >/tmp/state", nullptr};
  supermachine_bake_options bake{};
  bake.size = sizeof(bake);
  bake.engine = engine_name;
  bake.warmup = shell;
  bake.ready = "request:x";
  EXPECT_EQ(supermachine_image_bake(image, &bake, &error), nullptr);
  EXPECT_EQ(supermachine_error_get_code(error), SUPERMACHINE_INVALID_ARGUMENT);
  supermachine_error_free(error);
  bake.ready = "pre-exec";
  Answer<supermachine_image*> baked;
  supermachine_image_bake_async(image, &bake, &baked.done, &baked);
  supermachine_image* made = baked.get();
  ASSERT_NE(made, nullptr);
  // The image's command reads its standard input and ends: so the function fails, or the VM does.
  bake.ready = "request";
  bake.request_name = "refuses";
  bake.request = [](void*, supermachine_vm* lent) { return supermachine_vm_alive(lent) + 6; };
  EXPECT_EQ(supermachine_image_bake(image, &bake, &error), nullptr);
  EXPECT_EQ(supermachine_error_get_code(error), SUPERMACHINE_BAKE_FAILED);
  supermachine_error_free(error);

  const char* const argv[] = {"sh", "-c", "cat /tmp/state >/tmp/warm", nullptr};
  supermachine_warmup_command command{};
  command.size = sizeof(command);
  command.argv = argv;
  const supermachine_warmup_command* const commands[] = {&command, nullptr};
  supermachine_warmup_options warm{};
  warm.size = sizeof(warm);
  warm.commands = commands;
  warm.engine = engine_name;
  supermachine_image* warmed = supermachine_image_with_warmup(made, &warm, &error);
  ASSERT_NE(warmed, nullptr) << supermachine_error_get_cause(error);

  supermachine_vm_config c{};
  c.size = sizeof(c);
  c.engine = engine_name;
  Answer<supermachine_vm*> started;
  supermachine_vm_start_async(warmed, &c, &started.done, &started);
  supermachine_vm* vm = started.get();
  ASSERT_NE(vm, nullptr);
  Bytes read;
  supermachine_vm_read_file_async(vm, "/tmp/warm", 100, &read.done, &read);
  EXPECT_EQ(read.promise.get_future().get(), "baked\n");
  Told paused, resumed, written, saved, stopped;
  supermachine_vm_pause_async(vm, &paused.done, &paused);
  EXPECT_EQ(paused.get(), nullptr);
  supermachine_vm_resume_async(vm, &resumed.done, &resumed);
  EXPECT_EQ(resumed.get(), nullptr);
  supermachine_vm_write_file_async(vm, "/tmp/file", "abc", 3, 0600, &written.done, &written);
  EXPECT_EQ(written.get(), nullptr);
  const char* const serve[] = {"httpd", "-f", "-p", "8080", nullptr};
  supermachine_exec* exec = supermachine_exec_new(vm, serve);
  Answer<int64_t> detached;
  supermachine_exec_detach_async(exec, nullptr, &detached.done, &detached);
  EXPECT_GT(detached.get(), 0);
  supermachine_exec_free(exec);
  supermachine_vm_snapshot_live_async(vm, path("c").c_str(), &saved.done, &saved);
  EXPECT_EQ(saved.get(), nullptr);
  Answer<supermachine_image*> opened;
  supermachine_image_from_snapshot_async(context, path("c").c_str(), &opened.done, &opened);
  supermachine_image_free(opened.get());
  supermachine_vm_stop_async(vm, &stopped.done, &stopped);
  EXPECT_EQ(stopped.get(), nullptr);
  Told refused;
  supermachine_vm_snapshot_async(vm, path("c2").c_str(), &refused.done, &refused);
  error = refused.get();
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(supermachine_error_get_code(error), SUPERMACHINE_VM_GONE);
  supermachine_error_free(error);
  supermachine_vm_free(vm);
  for (auto* one : {image, made, warmed}) supermachine_image_free(one);
  supermachine_context_free(context);
  fs::remove_all(path("c"));
}

}  // namespace
}  // namespace supermachine
