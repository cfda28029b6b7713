#include "runtime/keeper/lock_holders.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "runtime/keeper/vm_registry.h"

namespace sm {
namespace {

constexpr Duration kPatience = std::chrono::seconds(20);

// A process that says when it is ready and then stands still until it is killed.
class Child {
 public:
  explicit Child(const std::function<void()>& prepare) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    const UniqueFd ours(fds[0]);
    UniqueFd theirs(fds[1]);
    pid_ = ::fork();
    if (pid_ == 0) {
      prepare();
      static_cast<void>(!::write(theirs.get(), "r", 1));
      for (;;) ::raise(SIGSTOP);
    }
    theirs.reset();
    char ready = 0;
    EXPECT_EQ(::read(ours.get(), &ready, 1), 1);
  }
  ~Child() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    end();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&&) = delete;
  Child& operator=(Child&&) = delete;

  pid_t pid() const { return pid_; }
  bool lives() const { return ::waitpid(pid_, nullptr, WNOHANG) == 0; }
  int end() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

 private:
  pid_t pid_ = -1;
};

class LockHoldersTest : public testing::Test {
 protected:
  LockHoldersTest() {
    char name[] = "/tmp/lock-holders-XXXXXX";
    dir_ = ::mkdtemp(name);
    registry_ = VmRegistry::open_at(dir_).value();
    record_.id = std::string(64, 'a');
    record_.name = "vm";
    lock_ = registry_->folder_of(record_.id) + "/lock";
  }
  ~LockHoldersTest() override { std::filesystem::remove_all(dir_); }
  std::function<void()> keeps() {
    return [this] { new HeldRecord(registry_->create(record_).value()); };
  }

  std::string dir_;
  std::optional<VmRegistry> registry_;
  VmRecord record_;
  std::string lock_;
};

TEST_F(LockHoldersTest, OneThatIsStoppedEndsAndItsRecordIsFree) {
  Child keeper(keeps());
  EXPECT_FALSE(registry_->hold(record_.id));
  const auto ended = end_lock_holders(lock_, 0, kPatience);
  ASSERT_TRUE(ended) << ended.error().text();
  EXPECT_EQ(keeper.end(), SIGKILL);
  EXPECT_TRUE(registry_->hold(record_.id));
}

TEST_F(LockHoldersTest, WhoOnlyHasTheFileOpenIsLeftAlone) {
  Child keeper(keeps());
  Child reader([this] { static_cast<void>(::open(lock_.c_str(), O_RDWR)); });
  ASSERT_TRUE(end_lock_holders(lock_, 0, kPatience));
  EXPECT_EQ(keeper.end(), SIGKILL);
  EXPECT_TRUE(reader.lives());
  EXPECT_EQ(end_lock_holders(lock_, 0, kPatience).error().code(), Code::kNotFound);
  EXPECT_TRUE(reader.lives());
}

TEST_F(LockHoldersTest, AProcessThatIsNoChildOfTheKeeperIsNotItsWorker) {
  Child keeper(keeps());
  Child other([] {});
  ASSERT_TRUE(end_lock_holders(lock_, other.pid(), kPatience));
  EXPECT_EQ(keeper.end(), SIGKILL);
  EXPECT_TRUE(other.lives());
}

TEST_F(LockHoldersTest, TheWorkerGoesWithItsKeeper) {
  int fds[2] = {-1, -1};
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  const UniqueFd ours(fds[0]);
  UniqueFd theirs(fds[1]);
  Child keeper([&] {
    keeps()();
    const pid_t worker = ::fork();
    if (worker == 0) {
      for (;;) ::raise(SIGSTOP);
    }
    static_cast<void>(!::write(theirs.get(), &worker, sizeof(worker)));
  });
  theirs.reset();
  pid_t worker = 0;
  ASSERT_EQ(::read(ours.get(), &worker, sizeof(worker)), static_cast<ssize_t>(sizeof(worker)));
  ASSERT_TRUE(end_lock_holders(lock_, worker, kPatience));
  EXPECT_EQ(keeper.end(), SIGKILL);
  // The worker had the other end of the pipe: it is closed when it is gone.
  char none = 0;
  EXPECT_EQ(::read(ours.get(), &none, 1), 0);
}

TEST_F(LockHoldersTest, TheCallerIsNotKilled) {
  const auto held = registry_->create(record_);
  ASSERT_TRUE(held);
  EXPECT_EQ(end_lock_holders(lock_, ::getpid(), kPatience).error().code(), Code::kNotFound);
  EXPECT_FALSE(end_lock_holders(dir_ + "/none", 0, kPatience));
}

}  // namespace
}  // namespace sm
