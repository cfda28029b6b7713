#include "runtime/keeper/vm_registry.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace sm {
namespace {

namespace fs = std::filesystem;

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    char name[] = "/tmp/vm-registry-XXXXXX";
    dir_ = ::mkdtemp(name);
    registry_ = VmRegistry::open_at(dir_).value();
  }
  ~RegistryTest() override { fs::remove_all(dir_); }

  HeldRecord make(const std::string& name, const std::string& id = "") {
    VmRecord record;
    record.id = id;
    record.name = name;
    record.created_ns = ++clock_;
    auto held = registry_->create(record);
    EXPECT_TRUE(held) << held.error().text();
    return *std::move(held);
  }
  static std::string id(char digit, const std::string& front = "") {
    return front + std::string(64 - front.size(), digit);
  }

  std::string dir_;
  std::optional<VmRegistry> registry_;
  std::int64_t clock_ = 0;
};

TEST_F(RegistryTest, FindsByNameIdAndBeginning) {
  const auto a = make("one", id('0', "abc1"));
  const auto b = make("two", id('0', "abc2"));
  EXPECT_EQ(registry_->find("one")->id, a.record.id);
  EXPECT_EQ(registry_->find(b.record.id)->name, "two");
  EXPECT_EQ(registry_->find("abc2")->name, "two");
  EXPECT_EQ(registry_->find("abc").error().code(), Code::kInvalidArgument);
  for (const char* word : {"", "three", "abd", "..", ".", "../names/one", "/"}) {
    EXPECT_EQ(registry_->find(word).error().code(), Code::kNotFound) << word;
  }
}

TEST_F(RegistryTest, ANameIsTakenUntilItsVmIsRemoved) {
  VmRecord again;
  again.name = "web";
  {
    auto held = make("web");
    EXPECT_EQ(registry_->create(again).error().code(), Code::kInvalidArgument);
    held.release();
  }
  EXPECT_FALSE(registry_->create(again));
  ASSERT_TRUE(registry_->remove(*registry_->hold(registry_->find("web")->id)));
  EXPECT_TRUE(registry_->create(again));
  again.name = "../web";
  EXPECT_EQ(registry_->create(again).error().code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, NamesAreMadeUp) {
  const auto a = make("");
  const auto b = make("");
  EXPECT_NE(a.record.name, b.record.name);
  EXPECT_NE(a.record.name.find('_'), std::string::npos);
  EXPECT_EQ(a.record.id.size(), 64u);
}

TEST_F(RegistryTest, WhoHoldsTheLockLives) {
  auto held = make("web");
  held.record.state = VmState::kRunning;
  ASSERT_TRUE(held.save());
  EXPECT_EQ(registry_->find("web")->state, VmState::kRunning);
  EXPECT_EQ(registry_->hold(held.record.id).error().code(), Code::kInvalidArgument);
  held.release();
  const auto lost = registry_->find("web").value();
  EXPECT_TRUE(lost.lost);
  EXPECT_EQ(lost.state, VmState::kExited);
  EXPECT_EQ(lost.exit_code, 137);
  EXPECT_TRUE(registry_->hold(held.record.id)->record.lost);
}

TEST_F(RegistryTest, OneThatIsAboutToStartIsKeptOrLost) {
  auto held = make("web");
  EXPECT_FALSE(is_kept(*registry_->find("web")));  // made only
  held.record.keeper_pid = 1;
  ASSERT_TRUE(held.save());
  EXPECT_TRUE(is_kept(*registry_->find("web")));
  EXPECT_TRUE(registry_->is_held(held.record.id));
  held.release();
  EXPECT_FALSE(registry_->is_held(held.record.id));
  EXPECT_TRUE(registry_->find("web")->lost);
  EXPECT_FALSE(is_kept(*registry_->find("web")));
}

TEST_F(RegistryTest, TheLockOutlivesTheParentButNotTheKeeper) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  std::string vm_id;
  pid_t child = -1;
  {
    auto held = make("web");
    held.record.state = VmState::kRunning;
    ASSERT_TRUE(held.save());
    vm_id = held.record.id;
    child = ::fork();
    if (child == 0) {
      ::close(pipe_fds[1]);
      char byte = 0;
      while (::read(pipe_fds[0], &byte, 1) > 0) {
      }
      ::_exit(0);
    }
    ::close(pipe_fds[0]);
  }
  EXPECT_EQ(registry_->find("web")->state, VmState::kRunning);
  ::close(pipe_fds[1]);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(registry_->find("web")->lost);
}

TEST_F(RegistryTest, Rename) {
  auto held = make("old");
  const auto other = make("taken");
  EXPECT_FALSE(registry_->rename(held, "taken"));
  EXPECT_FALSE(registry_->rename(held, ""));
  EXPECT_FALSE(registry_->rename(held, "a/b"));
  EXPECT_EQ(registry_->find("old")->id, held.record.id);
  ASSERT_TRUE(registry_->rename(held, "new"));
  EXPECT_EQ(registry_->find("new")->name, "new");
  EXPECT_FALSE(registry_->find("old"));
  make("old");
}

TEST_F(RegistryTest, ListsAllInTheirOrderAndRemovesTheLostOnesThatAskedForIt) {
  make("one").release();
  const auto two = make("two");
  {
    auto gone = make("gone");
    gone.record.auto_remove = true;
    gone.record.state = VmState::kRunning;
    ASSERT_TRUE(gone.save());
  }
  const auto all = registry_->all().value();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "one");
  EXPECT_EQ(all[1].name, "two");
  EXPECT_FALSE(registry_->find("gone"));
}

TEST_F(RegistryTest, AnUnreadableRecordIsShownAndCanBeRemoved) {
  const std::string vm = make("web").record.id;
  std::ofstream(registry_->folder_of(vm) + "/record.json") << "{";
  const auto all = registry_->all().value();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].id, vm);
  EXPECT_EQ(registry_->find("web").error().code(), Code::kCorrupt);
  EXPECT_TRUE(registry_->remove_unreadable("web"));
  EXPECT_TRUE(registry_->all()->empty());
  registry_->sweep();
  EXPECT_TRUE(fs::is_empty(dir_ + "/names"));
}

TEST_F(RegistryTest, SweepRemovesWhatNobodyMakes) {
  fs::create_directories(dir_ + "/vms/.new-1");
  fs::create_directories(dir_ + "/vms/.gone-2/x");
  fs::create_symlink("nothing", dir_ + "/names/left");
  const auto web = make("web");
  registry_->sweep();
  EXPECT_TRUE(registry_->find("web"));
  EXPECT_FALSE(fs::exists(dir_ + "/vms/.new-1"));
  EXPECT_FALSE(fs::exists(dir_ + "/vms/.gone-2"));
  EXPECT_FALSE(fs::is_symlink(dir_ + "/names/left"));
}

}  // namespace
}  // namespace sm
