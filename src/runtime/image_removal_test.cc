#include "runtime/image_removal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "oci/layer_cache.h"
#include "oci/store/archive.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tag_store.h"
#include "runtime/keeper/image_use.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImageRemoval : public ::testing::Test {
 protected:
  ImageRemoval() : store_(*ImageStore::open(folder_ / "store")) {
    folders_.store = folder_ / "store";
    folders_.layers = folder_ / "layers";
  }
  // Takes an image of one layer into the store; its id.
  std::string add(const std::string& name, const std::string& content) {
    const auto layout = folder_ / ("image-" + std::to_string(++images_));
    std::filesystem::create_directory(layout);
    testing::ImageBuilder image(layout);
    image.layer(testing::TarBuilder().file("f", content).finish());
    image.write(name);
    testing::TarBuilder tar;
    for (const auto& file : std::filesystem::recursive_directory_iterator(layout)) {
      if (!file.is_regular_file()) continue;
      tar.file(std::filesystem::relative(file.path(), layout).string(),
               *read_file(file.path().string(), 1U << 20U));
    }
    testing::write_file(layout + ".tar", tar.finish());
    const auto loaded = load_images(store_, layout + ".tar");
    EXPECT_TRUE(loaded.has_value()) << loaded.error().text();
    return loaded->front().id.text();
  }
  // The image's layers in the cache; their file names.
  std::vector<std::string> convert(const std::string& id) {
    CacheOptions options;
    options.root = folders_.layers;
    const auto ready = LayerCache::open(options)->prepare(store_.get(id)->source);
    EXPECT_TRUE(ready.has_value()) << ready.error().text();
    std::vector<std::string> out;
    for (const auto& path : ready->layers) out.push_back(path.substr(path.rfind('/') + 1));
    return out;
  }
  std::vector<std::string> names() {
    std::vector<std::string> out;
    const auto entries = store_.entries();
    for (const auto& entry : *entries) out.push_back(entry.name);
    return out;
  }
  Result<RemoveReport> remove(const std::string& word, bool force = false) {
    return remove_image(store_, word, force, find_use_);
  }
  Result<PruneReport> prune(bool all) { return prune_images(folders_, all, find_use_); }
  bool is_whole(const std::string& id) { return store_.get(id).has_value(); }

  testing::TempDir folder_;
  ImageStore store_;
  ImageFolders folders_;
  ImageUse use_;
  FindImageUse find_use_ = [this] { return use_; };
  int images_ = 0;
};

TEST_F(ImageRemoval, AnUnusedImageGoesWithItsBlobs) {
  const auto id = add("app:v1", "one");
  const auto report = remove("app:v1");
  ASSERT_TRUE(report.has_value());
  EXPECT_THAT(report->untagged, ElementsAre("docker.io/library/app:v1"));
  EXPECT_EQ(report->deleted.size(), 3U);
  EXPECT_FALSE(is_whole(id));
}

TEST_F(ImageRemoval, TheLastNameOfAUsedImageIsRefusedAndNamesTheVm) {
  const auto id = add("app:v1", "one");
  ASSERT_TRUE(store_.set("docker.io/library/app:v2", store_.get(id)->entry.target).has_value());
  use_.images[id] = "web";
  ASSERT_TRUE(remove("app:v2").has_value()) << "not the last one";
  for (const auto& word : {std::string("app:v1"), id.substr(7)}) {
    const auto refused = remove(word);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(refused.error().cause(), HasSubstr("used by the VM web"));
    EXPECT_THAT(refused.error().remedy(), HasSubstr("supermachine rm web"));
  }
  EXPECT_THAT(names(), ElementsAre("docker.io/library/app:v1"));
}

TEST_F(ImageRemoval, ForceTakesTheNamesAndLeavesAUsedImage) {
  const auto id = add("app:v1", "one");
  ASSERT_TRUE(store_.set("docker.io/library/app:v2", store_.get(id)->entry.target).has_value());
  use_.images[id] = "web";
  const auto report = remove(id.substr(7), /*force=*/true);
  ASSERT_TRUE(report.has_value()) << report.error().text();
  EXPECT_EQ(report->untagged.size(), 2U);
  EXPECT_THAT(report->deleted, IsEmpty());
  EXPECT_THAT(names(), ElementsAre(""));
  EXPECT_TRUE(is_whole(id));
  const auto again = remove(id.substr(7), /*force=*/true);
  ASSERT_FALSE(again.has_value()) << "there is no name left that could go";
  EXPECT_THAT(again.error().remedy(), ::testing::Not(HasSubstr("-f")));
  use_.images.clear();
  EXPECT_EQ(remove(id.substr(7))->deleted.size(), 3U);
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(ImageRemoval, BesideAnotherProgramOnlyTheNameGoes) {
  const auto id = add("app:v1", "one");
  {
    const auto lease = store_.lease();
    const auto report = remove("app:v1");
    ASSERT_TRUE(report.has_value());
    EXPECT_THAT(report->deleted, IsEmpty());
    EXPECT_THAT(names(), ElementsAre(""));
    EXPECT_EQ(remove(id.substr(7)).error().code(), Code::kIo);
  }
  EXPECT_EQ(remove(id.substr(7))->deleted.size(), 3U);
}

TEST_F(ImageRemoval, PruneTakesWhatHasNoNameAndNoVm) {
  const auto old = add("app:v1", "one");
  const auto kept = add("app:v1", "two");
  const auto now = add("app:v1", "three");
  EXPECT_EQ(names().size(), 3U) << "a name that moves leaves an image without one";
  for (const auto& id : {old, kept, now}) convert(id);
  use_.images[kept] = "web";
  auto report = prune(/*all=*/false);
  ASSERT_TRUE(report.has_value()) << report.error().text();
  EXPECT_EQ(report->blobs.size(), 3U);
  EXPECT_EQ(report->layers.size(), 1U);
  EXPECT_FALSE(is_whole(old));
  EXPECT_TRUE(is_whole(kept));
  EXPECT_TRUE(is_whole(now));

  use_.images[now] = "db";
  const auto other = add("other", "four");
  report = prune(/*all=*/true);
  ASSERT_TRUE(report.has_value()) << report.error().text();
  EXPECT_THAT(report->names, ElementsAre("docker.io/library/other:latest"));
  EXPECT_FALSE(is_whole(other));
  EXPECT_THAT(names(), ElementsAre("docker.io/library/app:v1", "")) << "named as before";
  EXPECT_TRUE(is_whole(kept));
}

TEST_F(ImageRemoval, PruneLeavesConvertedLayersThatAreUsed) {
  const auto one = convert(add("app:v1", "one"));
  const auto two = convert(add("app:v2", "two"));
  use_.layers.insert(one.begin(), one.end());
  const auto report = prune(/*all=*/true);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->layers.size(), two.size());
  EXPECT_TRUE(std::filesystem::exists(folders_.layers + "/" + one.front()));
}

TEST_F(ImageRemoval, ErrorsOfTheRegistryRemoveNothing) {
  const auto id = add("app:v1", "one");
  find_use_ = []() -> Result<ImageUse> { return fail(Code::kIo, "no records"); };
  EXPECT_FALSE(prune(/*all=*/true).has_value());
  EXPECT_FALSE(remove("app:v1", /*force=*/true).has_value());
  EXPECT_TRUE(is_whole(id));
}

TEST_F(ImageRemoval, UsedAreImagesOfVmsAndLayersOfTaggedSnapshots) {
  const auto registry = *VmRegistry::open_at(folder_ / "state");
  for (const auto& [name, image] : {std::pair{"web", "app:v1"}, {"local", "oci:/images:app"}}) {
    VmRecord record;
    record.name = name;
    record.image = image;
    record.image_digest = std::string("sha256:of-") + name;
    ASSERT_TRUE(registry.create(record).has_value());
  }
  const auto tags = *TagStore::open(folder_ / "cache");
  SavedImage saved;
  saved.layers = {"base", "top"};
  auto writer = *SnapshotWriter::create(tags.path("warm"), 1u << 20, false);
  SnapshotManifest manifest;
  manifest.engine = "soft";
  manifest.cpu_model = "x86-64-v2";
  manifest.vcpus = 1;
  manifest.annotations = *saved_annotations(saved);
  MachineState state;
  state.vcpus.resize(1);
  ASSERT_TRUE(writer->commit(manifest, state).has_value());
  std::filesystem::create_directory(tags.path("damaged"));

  const auto use = image_use(registry, folder_ / "cache");
  ASSERT_TRUE(use.has_value()) << use.error().text();
  EXPECT_THAT(use->images, ElementsAre(std::pair("sha256:of-web", "web")));
  EXPECT_THAT(use->layers, ElementsAre("base", "top"));
}

}  // namespace
}  // namespace sm
