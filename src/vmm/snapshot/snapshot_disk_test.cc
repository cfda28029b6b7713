// Snapshots with what is on the guest's disk.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

using snapshot_testing::example_manifest;
using snapshot_testing::page_of;
using snapshot_testing::random_state;
using snapshot_testing::TemporaryFolder;

constexpr std::uint64_t kMemory = 1 << 20;
constexpr std::uint64_t kDisk = 10ull << 30;
const SnapshotDisk kFacts{"root", kDisk};

void put_page(int fd, std::uint64_t page, std::uint32_t seed) {
  const auto bytes = page_of(seed);
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(page * kPageBytes)),
            static_cast<ssize_t>(bytes.size()));
}

bool has_page(int fd, std::uint64_t page, std::uint32_t seed) {
  std::vector<std::byte> bytes(kPageBytes);
  return ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(page * kPageBytes)) ==
             static_cast<ssize_t>(bytes.size()) &&
         bytes == page_of(seed);
}

// A machine with one device, which is the disk.
MachineState machine() {
  MachineState state = random_state(1);
  state.devices.resize(1);
  return state;
}

SnapshotManifest manifest_of(const MachineState& state) {
  SnapshotManifest m = example_manifest(state);
  m.devices = {{"blk", "root", kDisk, false}};
  m.disk = kFacts;
  return m;
}

class SnapshotWithDisk : public testing::Test {
 protected:
  // Pages 7 and the last one of the disk, page 3 of the memory.
  Status write(const std::string& path, std::uint32_t seed, bool replace = false) {
    const MachineState state = machine();
    auto writer = SM_TRY(SnapshotWriter::create(path, kMemory, replace));
    put_page(writer->memory_fd(), 3, seed);
    const int disk = SM_TRY(writer->add_disk(kFacts));
    put_page(disk, 7, seed);
    put_page(disk, kDisk / kPageBytes - 1, seed + 1);
    return writer->commit(manifest_of(state), state);
  }
  void SetUp() override {
    const auto written = write(path_, 5);
    ASSERT_TRUE(written) << written.error().text();
  }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "snap";
};

TEST_F(SnapshotWithDisk, ComesBackSparse) {
  const auto snapshot = Snapshot::open(path_);
  ASSERT_TRUE(snapshot) << snapshot.error().text();
  EXPECT_EQ(snapshot->manifest().disk, kFacts);
  EXPECT_TRUE(has_page(snapshot->disk_fd().get(), 7, 5));
  EXPECT_TRUE(has_page(snapshot->disk_fd().get(), kDisk / kPageBytes - 1, 6));
  EXPECT_TRUE(snapshot->verify());
  EXPECT_TRUE(probe_snapshot(path_));
  struct stat info {};
  ASSERT_EQ(::stat(file("disk.img").c_str(), &info), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), kDisk);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
  EXPECT_LT(::write(snapshot->disk_fd().get(), "x", 1), 0);
}

TEST_F(SnapshotWithDisk, DamageIsFoundByItsName) {
  for (const std::uint64_t at : {std::uint64_t{7 * 4096}, std::uint64_t{4096}, kDisk - 1}) {
    ASSERT_TRUE(write(path_, 5, true));
    const UniqueFd disk = open_file(file("disk.img"), O_RDWR).value();
    char byte = 0;
    ASSERT_EQ(::pread(disk.get(), &byte, 1, static_cast<off_t>(at)), 1);
    byte = static_cast<char>(byte ^ 0x10);
    ASSERT_EQ(::pwrite(disk.get(), &byte, 1, static_cast<off_t>(at)), 1);
    const auto opened = Snapshot::open(path_);
    ASSERT_FALSE(opened) << at;
    EXPECT_EQ(opened.error().code(), Code::kCorrupt);
    EXPECT_NE(opened.error().cause().find("disk.img"), std::string::npos) << opened.error().text();
  }
}

TEST_F(SnapshotWithDisk, VerifyReadsItInSpiteOfTheStamp) {
  const auto opened = Snapshot::open(path_);
  const UniqueFd disk = open_file(file("disk.img"), O_RDWR).value();
  put_page(disk.get(), 100, 9);
  EXPECT_EQ(opened->verify().error().code(), Code::kCorrupt);
}

TEST_F(SnapshotWithDisk, MissingForeignAndResizedFiles) {
  ASSERT_TRUE(write(folder_ / "other", 8));
  const std::string good = read_file(file("disk.sum"), 1 << 20).value();
  ASSERT_EQ(::unlink(file("disk.sum").c_str()), 0);
  EXPECT_EQ(Snapshot::open(path_).error().code(), Code::kCorrupt);
  const std::string foreign = read_file(folder_ / "other/disk.sum", 1 << 20).value();
  ASSERT_TRUE(write_file_atomic(file("disk.sum"), foreign));
  EXPECT_EQ(Snapshot::open(path_).error().code(), Code::kCorrupt);
  ASSERT_TRUE(write_file_atomic(file("disk.sum"), good));
  EXPECT_TRUE(Snapshot::open(path_));
  ASSERT_EQ(::truncate(file("disk.img").c_str(), static_cast<off_t>(kDisk - kPageBytes)), 0);
  EXPECT_EQ(Snapshot::open(path_).error().code(), Code::kCorrupt);
  ASSERT_EQ(::unlink(file("disk.img").c_str()), 0);
  EXPECT_EQ(Snapshot::open(path_).error().code(), Code::kCorrupt);
  EXPECT_EQ(probe_snapshot(path_).error().code(), Code::kCorrupt);
  // It can still be removed.
  EXPECT_TRUE(remove_snapshot(path_));
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"other"});
}

TEST_F(SnapshotWithDisk, ManifestAndFilesAgree) {
  const MachineState state = machine();
  SnapshotManifest without = manifest_of(state);
  without.disk.reset();
  auto writer = SnapshotWriter::create(folder_ / "new", kMemory, false).value();
  EXPECT_EQ(writer->commit(manifest_of(state), state).error().code(), Code::kInvalidArgument);
  writer = SnapshotWriter::create(folder_ / "new", kMemory, false).value();
  ASSERT_TRUE(writer->add_disk(kFacts));
  EXPECT_EQ(writer->commit(without, state).error().code(), Code::kInvalidArgument);
  writer = SnapshotWriter::create(folder_ / "new", kMemory, false).value();
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{512}, kMaxSnapshotDisk + 4096}) {
    EXPECT_EQ(writer->add_disk({"root", bytes}).error().code(), Code::kUnsupported);
  }
  // Who copies it must not make another file of it.
  const int disk = writer->add_disk(kFacts).value();
  ASSERT_EQ(::ftruncate(disk, 4096), 0);
  EXPECT_FALSE(writer->commit(manifest_of(state), state));
  writer.reset();
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"snap"});
}

TEST_F(SnapshotWithDisk, IsReplacedLinkedAndRemovedWithIt) {
  ASSERT_TRUE(write(path_, 20, true));
  const auto snapshot = Snapshot::open(path_);
  ASSERT_TRUE(snapshot);
  EXPECT_TRUE(has_page(snapshot->disk_fd().get(), 7, 20));
  const auto linked = link_snapshot(path_, snapshot->manifest().memory_digest, folder_ / "second");
  ASSERT_TRUE(linked) << linked.error().text();
  EXPECT_TRUE(has_page(Snapshot::open(folder_ / "second")->disk_fd().get(), 7, 20));
  ASSERT_TRUE(remove_snapshot(path_));
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"second"});
  EXPECT_TRUE(Snapshot::open(folder_ / "second"));
}

TEST_F(SnapshotWithDisk, WhatIsNotCommittedVanishes) {
  {
    auto writer = SnapshotWriter::create(folder_ / "new", kMemory, false).value();
    ASSERT_TRUE(writer->add_disk(kFacts));
  }
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"snap"});
}

}  // namespace
}  // namespace sm
