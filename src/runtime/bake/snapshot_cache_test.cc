#include "runtime/bake/snapshot_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "runtime/bake/fingerprint.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {
namespace {

namespace fs = std::filesystem;

class SnapshotCacheTest : public testing::Test {
 protected:
  SnapshotCacheTest() {
    char name[] = "/tmp/snapshot-cache-XXXXXX";
    dir_ = ::mkdtemp(name);
  }
  ~SnapshotCacheTest() override { fs::remove_all(dir_); }

  void bake(const SnapshotCache& cache, const std::string& name, std::time_t used) {
    auto writer = SnapshotWriter::create(cache.path(name), 1u << 20, false).value();
    MachineState state;
    state.vcpus.resize(1);
    SnapshotManifest manifest{
        .program = "test", .engine = "soft", .cpu_model = "x86-64-v2", .vcpus = 1};
    const Status status = writer->commit_without_sync(manifest, state);
    ASSERT_TRUE(status) << status.error().text();
    const timespec times[2] = {{used, 0}, {used, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (cache.path(name) + "/manifest.json").c_str(), times, 0), 0);
  }

  std::string dir_;
};

TEST_F(SnapshotCacheTest, what_is_there_is_found) {
  const auto cache = SnapshotCache::open(dir_ + "/s").value();
  EXPECT_FALSE(cache.find("a"));
  bake(cache, "a", 1000);
  EXPECT_TRUE(cache.find("a"));
  cache.remove("a");
  EXPECT_FALSE(cache.find("a"));
}

TEST_F(SnapshotCacheTest, the_longest_unused_make_room) {
  const auto cache = SnapshotCache::open(dir_ + "/s").value();
  for (std::size_t i = 0; i < SnapshotCache::kMaxSnapshots; ++i) {
    bake(cache, "n" + std::to_string(i), static_cast<std::time_t>(1000 + i));
  }
  EXPECT_TRUE(cache.find("n0"));  // and counts as used now
  cache.make_room();
  EXPECT_TRUE(cache.find("n0"));
  EXPECT_FALSE(cache.find("n1"));
  EXPECT_TRUE(cache.find("n2"));
}

TEST(Fingerprint, every_input_counts) {
  const BakeInputs base{.kernel_digest = "k",
                        .initramfs_digest = "i",
                        .layers = {"a", "b"},
                        .memory_bytes = 1,
                        .vcpus = 1,
                        .engine = "soft",
                        .guest_config = "{}"};
  std::vector<BakeInputs> all(8, base);
  all[1].kernel_digest = "x";
  all[2].initramfs_digest = "x";
  all[3].layers = {"b", "a"};
  all[4].memory_bytes = 2;
  all[5].vcpus = 2;
  all[6].engine = "kvm";
  all[7].guest_config = "[]";
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(fingerprint(all[i]).size(), 64u);
    EXPECT_EQ(fingerprint(all[i]) == fingerprint(base), i == 0) << i;
  }
}

TEST_F(SnapshotCacheTest, a_changed_file_has_another_digest) {
  const std::string file = dir_ + "/kernel";
  std::ofstream(file) << "one";
  const auto first = cached_digest(file, dir_).value();
  EXPECT_EQ(cached_digest(file, dir_).value(), first);
  fs::remove(file);
  std::ofstream(file) << "two";
  EXPECT_NE(cached_digest(file, dir_).value(), first);
  EXPECT_FALSE(cached_digest(dir_ + "/none", dir_));
}

}  // namespace
}  // namespace sm
