#include "runtime/keeper/event_log.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <set>

namespace sm {
namespace {

namespace fs = std::filesystem;

class EventLogTest : public testing::Test {
 protected:
  EventLogTest() {
    char name[] = "/tmp/event-log-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~EventLogTest() override { fs::remove_all(dir_); }
  void add(const EventLog& log, int number) {
    VmRecord record;
    record.id = std::string(64, 'a');
    record.name = std::to_string(number);
    log.add(record, "start");
  }

  std::string dir_;
};

// What was written since the last look is seen once, in order, over a change of files or two.
TEST_F(EventLogTest, AReaderFollowsOverRenames) {
  const EventLog log(dir_, 1000);
  EventReader reader(log.path());
  int seen = 0;
  for (int i = 0; i < 40; ++i) {
    add(log, i);
    if (i % 7 != 0) continue;  // 1000 bytes are about six events
    ASSERT_TRUE(reader.read([&](const VmEvent& e) { EXPECT_EQ(e.name, std::to_string(seen++)); }));
    EXPECT_EQ(seen, i + 1);
  }
  EventReader late(log.path());
  int last = -1;
  ASSERT_TRUE(late.read([&](const VmEvent& e) {
    EXPECT_TRUE(last < 0 || e.name == std::to_string(last + 1));
    last = std::stoi(e.name);
  }));
  EXPECT_EQ(last, 39);
}

// With room for all in two files none is lost, whoever renames.
TEST_F(EventLogTest, SeveralProcessesRenameOnce) {
  constexpr int kProcesses = 4, kEvents = 200;
  const std::uint64_t most = 70'000;  // of about 120'000
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const EventLog log(dir_, most);
      for (int i = 0; i < kEvents; ++i) add(log, p * kEvents + i);
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EventReader reader(dir_ + "/events");
  std::set<std::string> names;
  ASSERT_TRUE(reader.read([&](const VmEvent& e) { EXPECT_TRUE(names.insert(e.name).second); }));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kProcesses * kEvents));
}

}  // namespace
}  // namespace sm
