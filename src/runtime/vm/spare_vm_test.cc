// A shell script plays the worker: it keeps what comes on the control socket.
#include "runtime/vm/spare_vm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/bytes.h"

namespace sm {
namespace {

class FakeSource final : public VmSource {
 public:
  std::optional<WorkerCommand> worker;

  std::uint64_t memory_bytes() const override { return 1; }
  Result<VmLaunch> launch(const VmDir&, const std::string&) override {
    return fail(Code::kInternal, "not asked for");
  }
  std::optional<WorkerCommand> spare_worker() const override { return worker; }
  void on_restore_failed(const std::string&) override {}
};

class SpareVmTest : public ::testing::Test {
 protected:
  SpareVmTest() {
    folder_ = ::mkdtemp(template_.data());
    std::filesystem::create_directories(run());
  }
  ~SpareVmTest() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string run() const { return path("run"); }
  // A spare whose worker is a script with this body.
  std::unique_ptr<SpareVm> make(const std::string& body) {
    std::ofstream(path("worker")) << "#!/bin/sh\n" << body << "\n";
    EXPECT_EQ(::chmod(path("worker").c_str(), 0700), 0);
    source_.worker = WorkerCommand{.program = path("worker"), .arguments = {"--pool-worker"}};
    return SpareVm::create(*loop_, source_, run()).value();
  }
  std::unique_ptr<SpareVm> make_waiting() { return make("exec cat <&3 >" + path("got")); }
  std::vector<control::Message> received() const {
    std::ifstream file(path("got"), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    control::MessageParser parser;
    parser.feed(as_byte_span(text));
    std::vector<control::Message> out;
    while (auto message = parser.next().value()) out.push_back(*message);
    return out;
  }
  template <class F>
  bool until(F done) {
    const auto deadline = Deadline::after(std::chrono::seconds(60));
    while (!done()) {
      if (deadline.passed()) return false;
      loop_->run_once(Deadline::after(std::chrono::milliseconds(5)));
    }
    return true;
  }
  static VmLaunch restore() {
    VmLaunch out;
    out.worker.arguments = {"--restore-from=/saved machine", "--engine=soft"};
    out.restored = true;
    return out;
  }
  static WorkerProcess::Callbacks callbacks() {
    return {.on_event = [](const control::Event&) {},
            .on_failure = [](Error) {},
            .on_exit = [](int) {}};
  }

  std::array<char, 32> template_{"/tmp/sm-spare-XXXXXX"};
  std::string folder_;
  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  FakeSource source_;
};

TEST_F(SpareVmTest, source_whose_vms_boot_has_none_and_no_folder) {
  EXPECT_EQ(SpareVm::create(*loop_, source_, run()).value(), nullptr);
  EXPECT_TRUE(std::filesystem::is_empty(run()));
}

TEST_F(SpareVmTest, its_process_is_told_what_to_become) {
  auto spare = make_waiting();
  EXPECT_TRUE(spare->waits());
  const VmDir dir = spare->take_dir();
  EXPECT_THAT(dir.path(), ::testing::EndsWith(spare->id()));
  const VmLaunch launch = restore();
  const auto worker = spare->become(launch, callbacks());
  ASSERT_NE(worker, nullptr);
  EXPECT_FALSE(spare->waits());
  EXPECT_EQ(spare->become(launch, callbacks()), nullptr);
  ASSERT_TRUE(until([&] { return received().size() == 2; }));
  EXPECT_EQ(std::get<control::RestoreRequest>(received()[1]).arguments, launch.worker.arguments);
}

TEST_F(SpareVmTest, events_go_to_the_new_owner) {
  auto spare = make_waiting();
  std::optional<int> status;
  auto theirs = callbacks();
  theirs.on_exit = [&](int ended) { status = ended; };
  const auto worker = spare->become(restore(), std::move(theirs));
  ASSERT_NE(worker, nullptr);
  worker->kill();
  EXPECT_TRUE(until([&] { return status.has_value(); }));
}

TEST_F(SpareVmTest, it_becomes_nothing_that_a_message_cannot_say) {
  auto spare = make_waiting();
  VmLaunch boots = restore();
  boots.restored = false;
  VmLaunch with_file = restore();
  with_file.worker.root_disk = std::make_shared<const UniqueFd>();
  VmLaunch no_utf8 = restore();
  no_utf8.worker.arguments.emplace_back("--virtio-blk=/\xFF");
  VmLaunch too_long = restore();
  too_long.worker.arguments.emplace_back(control::kMaxMessage, 'x');
  for (const VmLaunch* launch : {&boots, &with_file, &no_utf8, &too_long}) {
    EXPECT_EQ(spare->become(*launch, callbacks()), nullptr);
  }
  EXPECT_TRUE(spare->waits());
}

TEST_F(SpareVmTest, one_that_has_ended_is_known) {
  auto spare = make("exit 1");
  EXPECT_TRUE(until([&] { return !spare->waits(); }));
  EXPECT_EQ(spare->become(restore(), callbacks()), nullptr);
}

TEST_F(SpareVmTest, one_whose_folder_was_cleared_away_is_known) {
  auto spare = make_waiting();
  EXPECT_TRUE(spare->usable());
  std::filesystem::remove_all(run());
  EXPECT_TRUE(spare->waits());
  EXPECT_FALSE(spare->usable());
}

TEST_F(SpareVmTest, nothing_is_left_of_one_that_nobody_wanted) {
  make_waiting().reset();
  EXPECT_TRUE(std::filesystem::is_empty(run()));
}

}  // namespace
}  // namespace sm
