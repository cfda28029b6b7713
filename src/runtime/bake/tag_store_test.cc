#include "runtime/bake/tag_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "vmm/snapshot/snapshot_dir.h"

namespace sm {
namespace {

class Tags : public ::testing::Test {
 protected:
  Tags() { folder_ = ::mkdtemp(template_.data()); }
  ~Tags() override { std::filesystem::remove_all(folder_); }
  TagStore store() { return TagStore::open(folder_).value(); }

  // The tag, or nothing.
  std::string found(const std::string& inputs, const std::string& preferred) {
    const auto same = store().find_same(inputs, preferred);
    return same ? same->tag : "";
  }

  // All that lies there.
  std::vector<std::string> names() {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/tags")) {
      out.push_back(entry.path().filename());
    }
    std::sort(out.begin(), out.end());
    return out;
  }

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
  // Names of what `run` keeps.
  EXPECT_FALSE(TagStore::check(std::string(64, 'a')));
  EXPECT_TRUE(TagStore::check(std::string(63, 'a')));
  EXPECT_TRUE(TagStore::check(std::string(64, 'g')));
}

TEST_F(Tags, same_inputs_are_found_under_any_name) {
  save(store().path("one"), "inputs");
  EXPECT_EQ(found("inputs", "two"), "one");
  EXPECT_EQ(found("others", "one"), "");
  EXPECT_EQ(store().entries().size(), 1u);
}

TEST_F(Tags, linked_snapshot_is_whole_takes_no_room_and_outlives_the_first) {
  save(store().path("one"), "inputs");
  save(store().path("two"), "to be replaced");
  const auto one = store().find_same("inputs", "one").value();
  const auto status = store().link(one, "two");
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_EQ(found("inputs", "two"), "two");
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
  EXPECT_FALSE(store().link(one, "three"));
  EXPECT_EQ(store().entries().size(), 1u);
}

TEST_F(Tags, damaged_ones_are_not_the_same_as_anything) {
  save(store().path("one"), "inputs");
  const std::string state = store().path("one") + "/state.bin";
  const std::string memory = store().path("one") + "/memory.img";
  std::filesystem::rename(state, state + ".away");
  EXPECT_EQ(found("inputs", "two"), "");
  std::filesystem::rename(state + ".away", state);
  EXPECT_EQ(found("inputs", "two"), "one");
  ASSERT_EQ(::truncate(memory.c_str(), 4096), 0);
  EXPECT_EQ(found("inputs", "one"), "");
}

TEST_F(Tags, what_was_replaced_meanwhile_is_not_linked) {
  save(store().path("one"), "inputs");
  const auto one = store().find_same("inputs", "two").value();
  ASSERT_TRUE(remove_snapshot(store().path("one")));
  save(store().path("one"), "others");
  EXPECT_EQ(store().link(one, "two").error().code(), Code::kGone);
  EXPECT_EQ(names(), std::vector<std::string>{"one"});
}

TEST_F(Tags, tag_that_is_linked_again_and_again_is_there_at_every_moment) {
  save(store().path("one"), "inputs");
  save(store().path("other"), "others");
  save(store().path("two"), "others");
  const auto a = store().find_same("inputs", "one").value();
  const auto b = store().find_same("others", "other").value();
  std::atomic<bool> done{false};
  std::atomic<int> missing{0};
  std::thread reader([&] {
    while (!done) missing += Snapshot::open(store().path("two")) ? 0 : 1;
  });
  for (int i = 0; i < 200; ++i) {
    const auto status = store().link(i % 2 == 0 ? a : b, "two");
    EXPECT_TRUE(status) << status.error().text();
  }
  done = true;
  reader.join();
  EXPECT_EQ(missing, 0);
  EXPECT_EQ(names(), (std::vector<std::string>{"one", "other", "two"}));
}

TEST_F(Tags, words_with_a_slash_are_folders) {
  save(store().path("one"), "");
  EXPECT_EQ(find_saved(store(), "one").value(), store().path("one"));
  EXPECT_EQ(find_saved(store(), "./one").value(), "./one");
  EXPECT_EQ(find_saved(store(), "none").error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace sm
