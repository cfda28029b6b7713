// Writers that run out of disk or are killed at any system call, and writers and readers at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <thread>

#include "base/bytes.h"
#include "base/file.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

namespace fs = std::filesystem;
using snapshot_testing::example_manifest;
using snapshot_testing::page_of;
using snapshot_testing::random_state;
using snapshot_testing::TemporaryFolder;

constexpr std::uint64_t kMemory = 1 << 20;

enum class Sync : bool { kNo, kYes };

// A snapshot of random_state(seed) with one page, in place of whatever snapshot is there.
Status write_snapshot(const std::string& path, std::uint32_t seed, Sync sync = Sync::kNo) {
  const MachineState state = random_state(seed);
  auto writer = SM_TRY(SnapshotWriter::create(path, kMemory, true));
  const auto page = page_of(seed);
  if (::pwrite(writer->memory_fd(), page.data(), page.size(), 3 * kPageBytes) !=
      static_cast<ssize_t>(page.size())) {
    return fail_errno("write a page", errno);
  }
  return sync == Sync::kYes ? writer->commit(example_manifest(state), state)
                            : writer->commit_without_sync(example_manifest(state), state);
}

// The seed of the snapshot, when everything of it fits together.
std::optional<std::uint32_t> read_snapshot(const std::string& path, std::uint32_t seeds) {
  const auto snapshot = Snapshot::open(path);
  if (!snapshot) {
    ADD_FAILURE() << snapshot.error().text();
    return std::nullopt;
  }
  std::vector<std::byte> page(kPageBytes);
  EXPECT_EQ(::pread(snapshot->memory_fd().get(), page.data(), page.size(), 3 * kPageBytes),
            static_cast<ssize_t>(page.size()));
  for (std::uint32_t seed = 0; seed < seeds; ++seed) {
    if (snapshot->state() == random_state(seed) && page == page_of(seed)) return seed;
  }
  ADD_FAILURE() << "a mixture of snapshots";
  return std::nullopt;
}

// Runs `body` in a child and returns its wait status.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

// ---- full disks

constexpr int kCannotMount = 77;

// In a child only: a small file system that nobody else sees.
bool mount_small(const std::string& path, const char* options, unsigned long flags = 0) {
  return ::mount("none", path.c_str(), "tmpfs", flags, options) == 0;
}

bool own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) {
    const auto uid = std::to_string(::getuid());
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const auto map = open_file("/proc/self/uid_map", O_WRONLY);
    if (!map || !write_all(map->get(), as_byte_span("0 " + uid + " 1"))) return false;
  }
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

std::uint64_t used_pages(const std::string& path) {
  struct statvfs info {};
  EXPECT_EQ(::statvfs(path.c_str(), &info), 0);
  return info.f_blocks - info.f_bfree;
}

int fill_the_disk(const TemporaryFolder& folder, Sync sync) {
  if (!own_mounts() || !mount_small(folder.path(), "size=4m")) return kCannotMount;
  const std::string path = folder / "snap";
  EXPECT_TRUE(write_snapshot(path, 1, sync).has_value());
  const std::uint64_t before = used_pages(path);
  int failed = 0;
  bool written = false;
  for (std::uint64_t free = 1; free < 64 && !written; ++free) {
    const auto options = "size=" + std::to_string((before + free) * kPageBytes);
    EXPECT_TRUE(mount_small(folder.path(), options.c_str(), MS_REMOUNT));
    const auto status = write_snapshot(path, 2, sync);
    written = status.has_value();
    if (written) break;
    ++failed;
    EXPECT_EQ(status.error().code(), Code::kIo) << status.error().text();
    EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"}) << free;
    EXPECT_EQ(used_pages(path), before) << free;
    EXPECT_EQ(read_snapshot(path, 3), 1u) << free;
  }
  // One page of memory and one each of state, manifest, sums and stamp.
  EXPECT_GE(failed, 4);
  EXPECT_TRUE(written);
  EXPECT_EQ(read_snapshot(path, 3), 2u);
  return testing::Test::HasFailure() ? 1 : 0;
}

TEST(SnapshotFaults, AFullDiskLeavesTheOldSnapshotAndNothingElse) {
  for (const Sync sync : {Sync::kNo, Sync::kYes}) {
    const TemporaryFolder folder;
    const int status = in_child([&] { return fill_the_disk(folder, sync); });
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kCannotMount) GTEST_SKIP() << "may not mount a file system";
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

int write_below_a_limit(const TemporaryFolder& folder) {
  const std::string path = folder / "snap";
  EXPECT_TRUE(write_snapshot(path, 1).has_value());
  ::signal(SIGXFSZ, SIG_IGN);
  // The state is longer than this, the memory image is not.
  MachineState state = random_state(2);
  state.devices.resize(state.devices.size() + 1);
  state.devices.back().device.resize(100'000);
  auto writer = SnapshotWriter::create(path, kPageBytes, true);
  const struct rlimit limit { 50'000, 50'000 };
  EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto status = (*writer)->commit(example_manifest(state), state);
  EXPECT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), Code::kIo) << status.error().text();
  EXPECT_NE(status.error().cause().find("state.bin"), std::string::npos);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"});
  EXPECT_EQ(read_snapshot(path, 3), 1u);
  EXPECT_EQ(SnapshotWriter::create(folder / "large", kMemory, false).error().code(), Code::kIo);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"});
  return testing::Test::HasFailure() ? 1 : 0;
}

TEST(SnapshotFaults, ALimitOfFileSizesIsLikeAFullDisk) {
  const TemporaryFolder folder;
  const int status = in_child([&] { return write_below_a_limit(folder); });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// ---- killed writers

TEST(SnapshotFaults, LeftoversGoOnlyWhenTheirWriterIsDead) {
  const TemporaryFolder folder;
  const std::string path = folder / "snap";
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    auto writer = SnapshotWriter::create(path, kMemory, false);
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  ::close(ready[1]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::close(ready[0]);
  ASSERT_EQ(folder.names().size(), 1u);
  const std::string leftover = folder.names().front();
  // Things with such names that are not a killed writer's.
  fs::create_directory(folder / "mine.tmp-0123456789abcdef");
  ASSERT_TRUE(open_file(folder / "mine.tmp-0123456789abcdef/notes", O_CREAT | O_RDWR).has_value());
  ASSERT_TRUE(open_file(folder / "file.tmp-0123456789abcdef", O_CREAT | O_RDWR).has_value());
  fs::create_directory_symlink(folder / "mine", folder / "link.tmp-0123456789abcdef");
  const std::vector<std::string> kept{"file.tmp-0123456789abcdef", "link.tmp-0123456789abcdef",
                                      "mine.tmp-0123456789abcdef", leftover};
  ASSERT_TRUE(SnapshotWriter::create(path, kMemory, false).has_value());
  EXPECT_EQ(folder.names(), kept);

  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(folder.names(), kept);
  ASSERT_TRUE(SnapshotWriter::create(path, kMemory, false).has_value());
  EXPECT_EQ(folder.names(), std::vector<std::string>(kept.begin(), kept.end() - 1));
}

// Calls `look` before and after each system call of a child that replaces the snapshot: the disk
// is then as it would be had the child been killed there. Returns how often.
int at_each_system_call(const std::string& path, Sync sync, const std::function<void()>& look) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    ::_exit(write_snapshot(path, 2, sync).has_value() ? 0 : 1);
  }
  int status = 0;
  int stops = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  for (; WIFSTOPPED(status); ++stops) {
    look();
    EXPECT_EQ(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    EXPECT_EQ(::waitpid(child, &status, 0), child);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return stops;
}

TEST(SnapshotFaults, KilledAtAnySystemCallTheSnapshotIsTheOldOrTheNewOne) {
  for (const Sync sync : {Sync::kNo, Sync::kYes}) {
    const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
    const std::string path = folder / "snap";
    ASSERT_TRUE(write_snapshot(path, 1).has_value());
    std::array<int, 3> found{};  // by seed
    int leftovers = 0;
    const auto look = [&] {
      // A copy has no lock, like what a dead writer leaves.
      const TemporaryFolder copy(TemporaryFolder::Where::kMemory);
      fs::copy(folder.path(), copy.path(), fs::copy_options::recursive);
      leftovers += copy.names().size() == 2 ? 1 : 0;
      ++found[read_snapshot(copy / "snap", 3).value_or(0)];
      EXPECT_TRUE(SnapshotWriter::create(copy / "next", kMemory, false).has_value());
      EXPECT_EQ(copy.names(), std::vector<std::string>{"snap"});
    };
    EXPECT_GT(at_each_system_call(path, sync, look), 80);
    EXPECT_EQ(found[0], 0);
    EXPECT_GT(found[1], 40);
    EXPECT_GT(found[2], 4);
    EXPECT_GT(leftovers, 40);
    EXPECT_EQ(read_snapshot(path, 3), 2u);
  }
}

// ---- several at once

TEST(SnapshotFaults, WritersAndReadersAtOnce) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  const std::string path = folder / "snap";
  constexpr std::uint32_t kWriters = 3;
  constexpr int kRounds = 30;
  ASSERT_TRUE(write_snapshot(path, 0).has_value());
  std::atomic<std::uint32_t> working{kWriters};
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 0; seed < kWriters; ++seed) {
    threads.emplace_back([&, seed] {
      for (int round = 0; round < kRounds; ++round) {
        const auto status = write_snapshot(path, seed);
        EXPECT_TRUE(status.has_value()) << status.error().text();
      }
      --working;
    });
  }
  std::atomic<int> reads{0};
  for (int reader = 0; reader < 3; ++reader) {
    threads.emplace_back([&] {
      do {
        EXPECT_TRUE(read_snapshot(path, kWriters).has_value());
        ++reads;
      } while (working != 0);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GE(reads, 3);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"});
}

TEST(SnapshotFaults, OfSeveralNewOnesOneWins) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  for (int round = 0; round < 20; ++round) {
    const std::string path = folder / std::to_string(round);
    std::atomic<int> won{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        const MachineState state = random_state(1);
        auto writer = SnapshotWriter::create(path, kMemory, false);
        if (writer && (*writer)->commit_without_sync(example_manifest(state), state)) ++won;
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(won, 1);
  }
  EXPECT_EQ(folder.names().size(), 20u);
}

TEST(SnapshotFaults, RemovedWhileItIsRead) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  const std::string path = folder / "snap";
  for (int round = 0; round < 30; ++round) {
    ASSERT_TRUE(write_snapshot(path, 1).has_value());
    std::thread remover([&] { EXPECT_TRUE(remove_snapshot(path).has_value()); });
    for (;;) {
      const auto snapshot = Snapshot::open(path);
      if (snapshot) continue;
      EXPECT_EQ(snapshot.error().code(), Code::kNotFound) << snapshot.error().text();
      break;
    }
    remover.join();
    ASSERT_TRUE(folder.names().empty());
  }
}

}  // namespace
}  // namespace sm
