#include "runtime/bake/tag_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "vmm/snapshot/snapshot_dir.h"

namespace sm {
namespace {

class Tags : public ::testing::Test {
 protected:
  Tags() { folder_ = ::mkdtemp(template_.data()); }
  ~Tags() override { std::filesystem::remove_all(folder_); }
  TagStore store() { return TagStore::open(folder_).value(); }

  static void save(const std::string& path, const std::string& inputs) {
    auto writer = SnapshotWriter::create(path, 1u << 20, false).value();
    ASSERT_EQ(::pwrite(writer->memory_fd(), "page", 4, 4096), 4);
    SnapshotManifest manifest;
    manifest.engine = "soft";
    manifest.cpu_model = "x86-64-v2";
    manifest.vcpus = 1;
    manifest.annotations = {{kBakeKey, inputs}};
    MachineState state;
    state.vcpus.resize(1);
    const auto status = writer->commit(manifest, state);
    ASSERT_TRUE(status) << status.error().text();
  }

  std::array<char, 32> template_{"/tmp/sm-tags-XXXXXX"};
  std::string folder_;
};

TEST_F(Tags, names_are_checked) {
  EXPECT_TRUE(TagStore::check("warm-1.0_x"));
  for (const char* bad : {"", "..", "-x", "a/b", "a b"}) EXPECT_FALSE(TagStore::check(bad)) << bad;
  EXPECT_FALSE(store().has("../x"));
}

TEST_F(Tags, same_inputs_are_found_under_any_name) {
  save(store().path("one"), "inputs");
  EXPECT_EQ(store().find_same("inputs", "two"), "one");
  EXPECT_EQ(store().find_same("others", "one"), std::nullopt);
  EXPECT_EQ(store().entries().size(), 1u);
}

TEST_F(Tags, linked_snapshot_is_whole_takes_no_room_and_outlives_the_first) {
  save(store().path("one"), "inputs");
  save(store().path("two"), "to be replaced");
  ASSERT_TRUE(store().link("one", "two"));
  EXPECT_EQ(store().find_same("inputs", "two"), "two");
  struct stat a {
  }, b{};
  ASSERT_EQ(::stat((store().path("one") + "/memory.img").c_str(), &a), 0);
  ASSERT_EQ(::stat((store().path("two") + "/memory.img").c_str(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_TRUE(Snapshot::open(store().path("one")));
  ASSERT_TRUE(remove_snapshot(store().path("one")));
  const auto left = Snapshot::open(store().path("two"));
  ASSERT_TRUE(left) << left.error().text();
  EXPECT_TRUE(left->verify());
  EXPECT_FALSE(store().link("one", "three"));
  EXPECT_EQ(store().entries().size(), 1u);
}

TEST_F(Tags, words_with_a_slash_are_folders) {
  save(store().path("one"), "");
  EXPECT_EQ(find_saved(store(), "one").value(), store().path("one"));
  EXPECT_EQ(find_saved(store(), "./one").value(), "./one");
  EXPECT_EQ(find_saved(store(), "none").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace sm
