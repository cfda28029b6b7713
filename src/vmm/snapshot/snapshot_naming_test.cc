// Snapshots that get a name: in place of others, beside them, on file systems that can do less.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/snapshot_files.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

namespace files = snapshot_files;
using snapshot_testing::example_manifest;
using snapshot_testing::random_state;
using snapshot_testing::TemporaryFolder;

constexpr std::uint64_t kMemory = 1 << 20;

void save(const std::string& path, std::uint32_t seed) {
  const MachineState state = random_state(seed);
  auto writer = SnapshotWriter::create(path, kMemory, false).value();
  const auto status = writer->commit_without_sync(example_manifest(state), state);
  ASSERT_TRUE(status) << status.error().text();
}

std::string digest(const std::string& path) { return probe_snapshot(path).value().memory_digest; }

// `from` gets the name "snap".
Status name_it(const TemporaryFolder& folder, const std::string& from, bool exchange) {
  const files::Place place = SM_TRY(files::find_place(folder / "snap"));
  return files::give_name({place.parent.get(), from, place.name},
                          {.replace = true, .sync = false, .exchange = exchange});
}

TEST(SnapshotNaming, NameIsThereAtEveryMomentWithAndWithoutExchange) {
  for (const bool exchange : {true, false}) {
    const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
    save(folder / "snap", 0);
    std::atomic<bool> done{false};
    std::atomic<int> missing{0};
    std::thread reader([&] {
      while (!done) {
        missing += Snapshot::open(folder / "snap") ? 0 : 1;
        missing += has_snapshot(folder / "snap") ? 0 : 1;
      }
    });
    for (std::uint32_t i = 1; i < 200; ++i) {
      save(folder / "new", i);
      const auto status = name_it(folder, "new", exchange);
      EXPECT_TRUE(status) << status.error().text();
    }
    done = true;
    reader.join();
    EXPECT_EQ(missing, 0) << exchange;
    EXPECT_EQ(Snapshot::open(folder / "snap")->state(), random_state(199));
    EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"});
  }
}

TEST(SnapshotNaming, OneThatIsReplacedWhileItIsLookedAtIsStillASnapshot) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  save(folder / "snap", 0);
  const files::Place place = files::find_place(folder / "snap").value();
  std::atomic<bool> done{false};
  std::vector<std::thread> lookers;
  for (int i = 0; i < 3; ++i) {
    lookers.emplace_back([&] {
      while (!done) {
        const auto found = files::open_snapshot(place.parent.get(), place.name);
        EXPECT_TRUE(found) << found.error().text();
      }
    });
  }
  for (std::uint32_t i = 1; i < 200; ++i) {
    save(folder / "new", i);
    EXPECT_TRUE(name_it(folder, "new", true));
  }
  done = true;
  for (auto& looker : lookers) looker.join();
}

TEST(SnapshotNaming, ManyGiveTheSameNameAtOnce) {
  for (const bool exchange : {true, false}) {
    const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
    constexpr std::uint32_t kThreads = 4;
    constexpr int kRounds = 100;
    std::vector<std::thread> threads;
    for (std::uint32_t seed = 0; seed < kThreads; ++seed) {
      threads.emplace_back([&, seed] {
        const std::string own = "new-" + std::to_string(seed);
        for (int round = 0; round < kRounds; ++round) {
          save(folder / own, seed);
          const auto status = name_it(folder, own, exchange);
          EXPECT_TRUE(status) << exchange << ": " << status.error().text();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_TRUE(Snapshot::open(folder / "snap")) << exchange;
    EXPECT_EQ(folder.names(), std::vector<std::string>{"snap"}) << exchange;
  }
}

TEST(SnapshotNaming, WhatIsNoSnapshotStays) {
  for (const bool exchange : {true, false}) {
    const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
    ASSERT_EQ(::mkdir((folder / "snap").c_str(), 0700), 0);
    ASSERT_EQ(::mkdir((folder / "snap/of-the-user").c_str(), 0700), 0);
    save(folder / "new", 1);
    EXPECT_EQ(name_it(folder, "new", exchange).error().code(), Code::kInvalidArgument);
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"new", "snap"}));
  }
}

TEST(SnapshotNaming, LinkIsWholeAndOnDiskOnce) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  save(folder / "a", 1);
  save(folder / "b", 2);
  const auto status = link_snapshot(folder / "a", digest(folder / "a"), folder / "b");
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_EQ(Snapshot::open(folder / "b")->state(), random_state(1));
  struct stat a {
  }, b{};
  ASSERT_EQ(::stat((folder / "a/memory.img").c_str(), &a), 0);
  ASSERT_EQ(::stat((folder / "b/memory.img").c_str(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"a", "b"}));
}

TEST(SnapshotNaming, NothingButThatSnapshotIsLinked) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  save(folder / "a", 1);
  save(folder / "b", 2);
  const std::string of_b = digest(folder / "b");
  EXPECT_EQ(link_snapshot(folder / "a", of_b, folder / "b").error().code(), Code::kGone);
  ASSERT_EQ(::unlink((folder / "a/state.bin").c_str()), 0);
  EXPECT_FALSE(link_snapshot(folder / "a", of_b, folder / "b"));
  EXPECT_EQ(probe_snapshot(folder / "a").error().code(), Code::kCorrupt);
  EXPECT_EQ(digest(folder / "b"), of_b);
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"a", "b"}));
}

TEST(SnapshotNaming, WhoHoldsTheNamesIsWaitedFor) {
  const TemporaryFolder folder(TemporaryFolder::Where::kMemory);
  save(folder / "away", 1);
  const auto place = files::find_place(folder / "snap").value();
  std::atomic<bool> found{false};
  auto lock = files::lock_names(place.parent.get(), true).value();
  std::thread reader([&] { found = Snapshot::open(folder / "snap").has_value(); });
  ASSERT_EQ(::rename((folder / "away").c_str(), (folder / "snap").c_str()), 0);
  lock = UniqueFd();
  reader.join();
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace sm
