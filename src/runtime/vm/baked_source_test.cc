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

  BakedSource source(const std::string& hostname = "", const RootDisk& disk = {},
                     const std::vector<std::string>& layers = {"/layers/a.squashfs",
                                                               "/layers/b.squashfs"}) {
    BootConfig boot;
    boot.assets = {"/worker", "/kernel", "/initramfs"};
    boot.layers = layers;
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
    pretend(*launch.bake);
  }
  static void pretend(const SnapshotTarget& target) {
    std::filesystem::create_directories(target.path);
    std::ofstream(target.path + "/manifest.json") << "{}";
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

TEST_F(BakedSourceTest, few_numbers_of_layer_slots_serve_all_images) {
  constexpr std::pair<std::size_t, std::uint32_t> kCases[] = {
      {0, 0}, {1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {9, 16}, {16, 16}, {17, 0}, {1000, 0}};
  for (const auto& [layers, slots] : kCases) EXPECT_EQ(layer_slots(layers), slots) << layers;
}

TEST_F(BakedSourceTest, first_bake_of_all_saves_its_booted_kernel) {
  BakedSource baked = source();
  const VmLaunch first = launch(baked);
  EXPECT_THAT(first.worker.arguments, Contains("--layer-slots=2"));
  EXPECT_THAT(first.worker.arguments, Contains("--snapshot-on-kernel"));
  ASSERT_TRUE(first.kernel_bake.has_value());
  EXPECT_NE(first.kernel_bake->path, first.bake->path);
  EXPECT_EQ(first.kernel_bake->annotations.at("image"), "<booted kernel>");
  EXPECT_EQ(first.kept, "");
}

TEST_F(BakedSourceTest, bakes_of_other_images_go_on_from_the_booted_kernel) {
  BakedSource first = source();
  pretend(*launch(first).kernel_bake);
  BakedSource other = source("", {}, {"/layers/c.squashfs", "/layers/d.squashfs"});
  const VmLaunch bakes = launch(other);
  EXPECT_FALSE(bakes.restored) << "its agent does not run yet";
  EXPECT_FALSE(bakes.kernel_bake.has_value());
  EXPECT_EQ(bakes.resume.value().generation, 0u);
  EXPECT_THAT(bakes.worker.arguments, Contains(StartsWith("--restore-from=")));
  EXPECT_THAT(bakes.worker.arguments, Contains("--virtio-blk=/layers/d.squashfs"));
  EXPECT_THAT(bakes.worker.arguments, Contains("--snapshot-on-pre-exec"));
  EXPECT_THAT(bakes.worker.arguments, Not(Contains(StartsWith("--layer-slots"))));
  // Of another number of layers, and with a disk for the root: other machines.
  BakedSource larger = source("", {}, {"/1", "/2", "/3"});
  EXPECT_EQ(launch(larger).kept, "");
  BakedSource with_disk = source("", {"/state/a/root.img", 10ull << 30});
  const VmLaunch disk = launch(with_disk);
  EXPECT_EQ(disk.kept, "");
  pretend(*disk.kernel_bake);
  BakedSource with_larger_disk = source("", {"/state/b/root.img", 20ull << 30});
  EXPECT_EQ(launch(with_larger_disk).worker.arguments.back(), "--snapshot-on-pre-exec");
  BakedSource another = source("", {"/state/c/root.img", 30ull << 30});
  EXPECT_NE(launch(another).kept, "")
      << "its size does not matter to a kernel that has not seen it";
}

TEST_F(BakedSourceTest, booted_kernel_that_does_not_come_up_is_not_tried_again) {
  BakedSource baked = source();
  const VmLaunch first = launch(baked);
  pretend(*first.kernel_bake);
  BakedSource second = source();
  const VmLaunch failed = launch(second);
  ASSERT_NE(failed.kept, "");
  second.on_restore_failed(failed.kept);
  const VmLaunch again = launch(second);
  EXPECT_EQ(again.kept, "");
  EXPECT_TRUE(again.bake.has_value()) << "the image's snapshot is still made";
}

TEST_F(BakedSourceTest, image_without_layers_or_with_many_boots_by_itself) {
  for (const std::size_t layers : {std::size_t{0}, std::size_t{17}}) {
    std::vector<std::string> files;
    for (std::size_t i = 0; i < layers; ++i) files.push_back("/layer" + std::to_string(i));
    BakedSource baked = source("", {}, files);
    const VmLaunch first = launch(baked);
    EXPECT_FALSE(first.kernel_bake.has_value());
    EXPECT_TRUE(first.bake.has_value());
    EXPECT_THAT(first.worker.arguments, Not(Contains(StartsWith("--layer-slots"))));
  }
}

// The pretended snapshot is none, so it may or may not be removable; either way nothing goes on
// from it again.
TEST_F(BakedSourceTest, snapshot_that_does_not_come_up_is_not_tried_again) {
  BakedSource baked = source();
  pretend_snapshot(launch(baked));
  const VmLaunch restored = launch(baked);
  ASSERT_TRUE(restored.restored);
  baked.on_restore_failed(restored.kept);
  EXPECT_FALSE(launch(baked).restored);
  EXPECT_FALSE(launch(baked).restored);
}

}  // namespace
}  // namespace sm
