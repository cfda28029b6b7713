#include "runtime/worker/disk_slots.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

SnapshotDevice layer(const std::string& serial, std::uint64_t bytes) {
  return {.type = "blk", .serial = serial, .bytes = bytes, .read_only = true};
}
SnapshotDevice root(std::uint64_t bytes) {
  return {.type = "blk", .serial = "root", .bytes = bytes, .read_only = false};
}

class DiskSlots : public ::testing::Test {
 protected:
  void saved(std::vector<SnapshotDevice> disks, bool awaits_image) {
    manifest_.devices = {{.type = "rng"}, {.type = "vsock"}};
    manifest_.devices.insert(manifest_.devices.end(), disks.begin(), disks.end());
    manifest_.awaits_image = awaits_image;
  }
  void given(std::vector<std::string> layers, std::string root = "") {
    options_.virtio_blk = std::move(layers);
    options_.root_disk = std::move(root);
  }
  // What is wrong; empty: nothing.
  std::string refusal() const {
    const auto slots = restore_slots(manifest_, options_);
    if (slots) return "";
    EXPECT_EQ(slots.error().code(), Code::kUnsupported);
    return slots.error().cause();
  }

  WorkerOptions options_;
  SnapshotManifest manifest_;
};

TEST_F(DiskSlots, boot_with_all_disks_there) {
  given({"/a", "/b"}, "/r");
  const std::vector<DiskSlot> expected = {{.serial = "ro0", .path = "/a"},
                                          {.serial = "ro1", .path = "/b"},
                                          {.serial = "root", .read_only = false, .path = "/r"}};
  EXPECT_EQ(boot_slots(options_), expected);
}

TEST_F(DiskSlots, boot_before_the_image) {
  given({"/a", "/b"}, "/r");
  options_.layer_slots = 4;
  const std::vector<DiskSlot> expected = {
      {.serial = "ro0", .path = "/a", .late = true},
      {.serial = "ro1", .path = "/b", .late = true},
      {.serial = "ro2"},
      {.serial = "ro3"},
      {.serial = "root", .read_only = false, .path = "/r", .late = true}};
  EXPECT_EQ(boot_slots(options_), expected);
}

TEST_F(DiskSlots, machine_without_an_image_gets_one) {
  saved({layer("ro0", 0), layer("ro1", 0), root(0)}, true);
  given({"/a"}, "/r");
  const std::vector<DiskSlot> expected = {
      {.serial = "ro0", .path = "/a", .late = true},
      {.serial = "ro1"},
      {.serial = "root", .read_only = false, .path = "/r", .late = true}};
  EXPECT_EQ(restore_slots(manifest_, options_).value(), expected);
}

TEST_F(DiskSlots, machine_with_an_image_gets_the_same_and_its_empty_disks_stay_empty) {
  saved({layer("ro0", 512), layer("ro1", 0), root(1024)}, false);
  given({"/a"}, "/r");
  const std::vector<DiskSlot> expected = {
      {.serial = "ro0", .path = "/a", .saved_bytes = 512},
      {.serial = "ro1"},
      {.serial = "root", .read_only = false, .path = "/r", .saved_bytes = 1024}};
  EXPECT_EQ(restore_slots(manifest_, options_).value(), expected);
}

TEST_F(DiskSlots, files_too_many_or_too_few_are_refused) {
  saved({layer("ro0", 512), layer("ro1", 0)}, false);
  given({});
  EXPECT_EQ(refusal(), "the snapshot's disk 'ro0' has no file here");
  given({"/a", "/b"});
  EXPECT_EQ(refusal(), "the snapshot's disk 'ro1' is empty in its image");
  given({"/a"}, "/r");
  EXPECT_EQ(refusal(), "the snapshot has no disk for the root's changes");
  saved({layer("ro0", 0)}, true);
  given({"/a", "/b"});
  EXPECT_EQ(refusal(), "the snapshot has 1 disks for layers, not 2");
  saved({layer("ro0", 0), root(0)}, true);
  given({"/a"});
  EXPECT_EQ(refusal(), "the snapshot's disk 'root' has no file here");
}

TEST_F(DiskSlots, access_that_the_driver_does_not_know_is_refused) {
  saved({{.type = "blk", .serial = "ro0", .bytes = 0, .read_only = false}}, true);
  given({"/a"});
  EXPECT_EQ(refusal(), "the snapshot's disk 'ro0' is writable");
  saved({layer("root", 512)}, false);
  given({}, "/r");
  EXPECT_EQ(refusal(), "the snapshot's disk 'root' is read-only");
}

TEST_F(DiskSlots, hostile_manifest_is_refused) {
  given({"/a"}, "/r");
  saved({layer("ro0", 512), layer("ro0", 512)}, false);
  EXPECT_NE(refusal(), "");
  saved({layer("ro0", 512), root(512), root(512)}, false);
  EXPECT_NE(refusal(), "");
  saved({layer(std::string(4000, 'x'), 512)}, false);
  EXPECT_LT(refusal().size(), 100u);
}

}  // namespace
}  // namespace sm
