#include "runtime/keeper/keeper_claim.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/keeper/keeper_client.h"
#include "runtime/vm_dir.h"

namespace sm {
namespace {

namespace fs = std::filesystem;

const KeeperRequest kStop{.verb = KeeperVerb::kStop, .signal = 0, .seconds = {}, .text = {}};

class KeeperClaimTest : public testing::Test {
 protected:
  KeeperClaimTest() {
    char name[] = "/tmp/keeper-claim-XXXXXX";
    dir_ = ::mkdtemp(name);
    ::setenv("XDG_RUNTIME_DIR", dir_.c_str(), 1);
    registry_ = VmRegistry::open_at(dir_ + "/state").value();
  }
  ~KeeperClaimTest() override { fs::remove_all(dir_); }
  KeeperClaim make() {
    VmRecord record;
    record.name = "web";
    return claim_new(*registry_, record).value();
  }

  std::string dir_;
  std::optional<VmRegistry> registry_;
};

TEST_F(KeeperClaimTest, WhoComesBeforeTheStartIsAnsweredThen) {
  auto claim = make();
  EXPECT_EQ(claim_vm(*registry_, claim.held.record.id).error().code(), Code::kInvalidArgument);
  Result<KeeperReply> reply = KeeperReply{};
  std::thread asker([&] { reply = ask_vm(*registry_, *registry_->find("web"), kStop); });
  auto loop = EventLoop::create().value();
  bool asked = false;
  claim.server->handle([&](auto call, auto) {
    claim.server->reply(call, {.error = {}, .status = 9, .stats = {}});
    asked = true;
  });
  ASSERT_TRUE(claim.server->serve(*loop));
  const Deadline deadline = Deadline::after(std::chrono::seconds(10));
  while (!asked && !deadline.passed()) loop->run_once(deadline);
  asker.join();
  EXPECT_EQ(reply->status, 9);
  claim.server->leave();
}

TEST_F(KeeperClaimTest, WhatIsGivenBackIsAsItWas) {
  auto claim = make();
  const std::string id = claim.held.record.id;
  const std::string socket = claim.held.record.keeper_socket;
  claim.held.record.state = VmState::kExited;
  claim.held.record.exit_code = 3;
  claim.held.record.keeper_pid = 0;
  ASSERT_TRUE(claim.held.save());
  let_go(claim.held, *claim.server);
  auto again = claim_vm(*registry_, id).value();
  EXPECT_TRUE(is_kept(*registry_->find(id)));
  EXPECT_TRUE(fs::exists(socket));
  Result<KeeperReply> reply = KeeperReply{};
  std::thread asker([&] { reply = ask_vm(*registry_, *registry_->find(id), kStop); });
  give_back(std::move(again));
  asker.join();
  EXPECT_EQ(reply.error().code(), Code::kGone);
  EXPECT_FALSE(fs::exists(socket));
  EXPECT_EQ(registry_->find(id)->state, VmState::kExited);
  EXPECT_EQ(registry_->find(id)->exit_code, 3);
}

TEST_F(KeeperClaimTest, LeftoversOfTheKilledAreNoObstacle) {
  const std::string run = dir_ + "/run";
  fs::create_directories(run + "/new-abc/x");
  fs::create_directories(run + "/vm-abc/x");  // removed halfway: its lock is gone
  KeeperServer::listen(run + "/keeper-abc.sock").value()->disown();
  fs::rename(run + "/keeper-abc.sock", run + "/keeper-def.sock~");
  const auto server = KeeperServer::listen(run + "/keeper-ghi.sock").value();
  const auto dir = VmDir::create(run, "abc");
  ASSERT_TRUE(dir) << dir.error().text();
  EXPECT_FALSE(fs::exists(run + "/new-abc"));
  EXPECT_FALSE(fs::exists(dir->path() + "/x"));
  EXPECT_FALSE(fs::exists(run + "/keeper-def.sock~"));
  EXPECT_TRUE(fs::exists(run + "/keeper-ghi.sock"));
}

}  // namespace
}  // namespace sm
