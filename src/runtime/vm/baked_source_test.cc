#include "runtime/vm/baked_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace sm {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class BakedSourceTest : public ::testing::Test {
 protected:
  BakedSourceTest() { folder_ = ::mkdtemp(template_.data()); }
  ~BakedSourceTest() override { std::filesystem::remove_all(folder_); }

  BakedSource source(const std::string& hostname = "", const RootDisk& disk = {}) {
    BootConfig boot;
    boot.assets = {"/worker", "/kernel", "/initramfs"};
    boot.layers = {"/layers/a.squashfs", "/layers/b.squashfs"};
    boot.engine = "soft";
    boot.hostname = hostname;
    boot.root_disk = disk;
    return BakedSource(boot, SnapshotCache::open(folder_ + "/snapshots").value(), "sha256:k",
                       "sha256:i", "oci:/image");
  }
  VmLaunch launch(BakedSource& source) { return source.launch(*dir_, "0123456789ab").value(); }
  // Puts a file where the launch wants its snapshot, so that it counts as there.
  static void pretend_snapshot(const VmLaunch& launch) {
    ASSERT_TRUE(launch.bake.has_value());
    std::filesystem::create_directories(launch.bake->path);
    std::ofstream(launch.bake->path + "/manifest.json") << "{}";
  }

  std::array<char, 32> template_{"/tmp/sm-baked-XXXXXX"};
  std::string folder_;
  std::optional<VmDir> dir_ = [this] {
    std::filesystem::create_directories(folder_ + "/run");
    return std::optional<VmDir>(VmDir::create(folder_ + "/run", "vm").value());
  }();
};

TEST_F(BakedSourceTest, first_vm_boots_and_bakes_and_the_next_ones_just_boot) {
  BakedSource baked = source();
  const VmLaunch first = launch(baked);
  EXPECT_FALSE(first.restored);
  EXPECT_THAT(first.worker.arguments, Contains("--kernel=/kernel"));
  EXPECT_THAT(first.worker.arguments, Contains("--snapshot-on-pre-exec"));
  EXPECT_THAT(first.worker.arguments, Contains("--virtio-blk=/layers/b.squashfs"));
  EXPECT_THAT(first.worker.guest_config, HasSubstr(kBakedHostname));
  ASSERT_TRUE(first.resume.has_value());
  EXPECT_EQ(first.resume->generation, 0u);
  EXPECT_EQ(first.resume->hostname, "0123456789ab");

  const VmLaunch second = launch(baked);
  EXPECT_FALSE(second.restored);
  EXPECT_FALSE(second.bake.has_value());
  EXPECT_FALSE(second.resume.has_value());
  EXPECT_THAT(second.worker.arguments, Not(Contains(StartsWith("--snapshot"))));
  EXPECT_THAT(second.worker.guest_config, HasSubstr("0123456789ab"));
}

TEST_F(BakedSourceTest, once_there_is_a_snapshot_vms_go_on_from_it) {
  BakedSource baked = source("box");
  pretend_snapshot(launch(baked));
  const VmLaunch restored = launch(baked);
  EXPECT_TRUE(restored.restored);
  EXPECT_THAT(restored.worker.arguments, Contains(StartsWith("--restore-from=")));
  EXPECT_THAT(restored.worker.arguments, Contains("--virtio-blk=/layers/a.squashfs"));
  EXPECT_THAT(restored.worker.arguments, Not(Contains(StartsWith("--kernel="))));
  ASSERT_TRUE(restored.resume.has_value());
  EXPECT_EQ(restored.resume->generation, 1u);
  EXPECT_EQ(restored.resume->hostname, "box");
}

TEST_F(BakedSourceTest, snapshot_of_another_program_with_the_same_inputs_is_used) {
  BakedSource first = source();
  pretend_snapshot(launch(first));
  BakedSource second = source("other-name");
  EXPECT_TRUE(launch(second).restored);
}

TEST_F(BakedSourceTest, vms_with_disks_share_a_snapshot_and_are_told_of_their_own) {
  BakedSource without = source();
  pretend_snapshot(launch(without));
  BakedSource first = source("", {"/state/a/root.img", 10ull << 30});
  const VmLaunch booted = launch(first);
  EXPECT_FALSE(booted.restored) << "the device is in the memory of the guest's driver";
  EXPECT_THAT(booted.worker.arguments, Contains("--root-disk=/state/a/root.img"));
  EXPECT_EQ(booted.resume.value().root_disk, "root");
  const VmLaunch beside = launch(first);
  EXPECT_FALSE(beside.bake.has_value());
  EXPECT_EQ(beside.resume.value().generation, 0u);
  pretend_snapshot(booted);
  BakedSource second = source("", {"/state/b/root.img", 10ull << 30});
  const VmLaunch restored = launch(second);
  EXPECT_TRUE(restored.restored);
  EXPECT_THAT(restored.worker.arguments, Contains("--root-disk=/state/b/root.img"));
  EXPECT_EQ(restored.resume.value().root_disk, "root");
  BakedSource larger = source("", {"/state/c/root.img", 20ull << 30});
  EXPECT_FALSE(launch(larger).restored);
}

// The pretended snapshot is none, so it may or may not be removable; either way nothing goes on
// from it again.
TEST_F(BakedSourceTest, snapshot_that_does_not_come_up_is_not_tried_again) {
  BakedSource baked = source();
  pretend_snapshot(launch(baked));
  ASSERT_TRUE(launch(baked).restored);
  baked.on_restore_failed();
  EXPECT_FALSE(launch(baked).restored);
  EXPECT_FALSE(launch(baked).restored);
}

}  // namespace
}  // namespace sm
