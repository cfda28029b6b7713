// The image store among processes and after crashes; archives out of it and into it.
#include "oci/store/image_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/registry/pull.h"
#include "oci/registry/push.h"
#include "oci/store/archive.h"
#include "oci/store/blob_writer.h"
#include "oci/store/prune.h"
#include "oci/testing/fake_registry.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

using ::testing::HasSubstr;

class ImageStoreTest : public ::testing::Test {
 protected:
  ImageStoreTest() : store_(*ImageStore::open(folder_ / "store")) {}
  // Takes an image of one layer into the store; unnamed when `name` is empty.
  Digest add(const std::string& name, const std::string& content) {
    testing::ImageBuilder image(folder_ / ("image-" + std::to_string(++images_)));
    image.layer(testing::TarBuilder().file("f", content).finish());
    image.write(name.empty() ? "!" : name);
    const auto archive = pack(image.folder());
    const auto loaded = load_images(store_, archive);
    EXPECT_TRUE(loaded.has_value()) << loaded.error().text();
    return loaded->front().id;
  }
  // The layout as a tar file.
  std::string pack(const std::string& layout) {
    testing::TarBuilder tar;
    for (const auto& file : std::filesystem::recursive_directory_iterator(layout)) {
      if (!file.is_regular_file()) continue;
      tar.file(std::filesystem::relative(file.path(), layout).string(),
               *read_file(file.path().string(), 1U << 30U));
    }
    auto path = layout + ".tar";
    testing::write_file(path, tar.finish());
    return path;
  }
  std::vector<std::string> names() {
    std::vector<std::string> out;
    const auto entries = store_.entries();
    for (const auto& entry : *entries) out.push_back(entry.name);
    return out;
  }
  testing::TempDir folder_;
  ImageStore store_;
  int images_ = 0;
};

TEST_F(ImageStoreTest, names_digests_and_ids_lead_to_an_image) {
  const auto id = add("app:v1", "one");
  add("app:v2", "two");
  EXPECT_EQ(store_.get("app:v1")->source.id(), id);
  EXPECT_EQ(store_.get("docker.io/library/app:v1")->source.id(), id);
  EXPECT_EQ(store_.get(id.hex().substr(0, 12))->source.id(), id);
  EXPECT_EQ(store_.get(id.text())->source.id(), id);
  const auto manifest = store_.find("app:v1")->front().target.digest;
  EXPECT_EQ(store_.get("app@" + manifest.text())->source.id(), id);
  EXPECT_EQ(store_.get("other@" + manifest.text()).error().code(), Code::kNotFound);
  EXPECT_EQ(store_.get("app").error().code(), Code::kNotFound);
  EXPECT_EQ(store_.get("app:v").error().code(), Code::kNotFound);
  EXPECT_EQ(store_.get("A:B:C").error().code(), Code::kInvalidArgument);
}

TEST_F(ImageStoreTest, an_image_without_a_name_has_its_id) {
  const auto id = add("", "one");
  EXPECT_THAT(names(), ::testing::ElementsAre(""));
  EXPECT_EQ(store_.get(id.hex())->source.id(), id);
  const auto target = store_.find(id.hex())->front().target;
  ASSERT_TRUE(store_.set("docker.io/library/x:1", target).has_value());
  EXPECT_THAT(names(), ::testing::ElementsAre("docker.io/library/x:1"));
}

TEST_F(ImageStoreTest, a_name_moves_and_what_had_it_stays_without) {
  const auto id = add("app:v1", "one");
  add("app:v2", "two");
  add("app:v1", "two");
  EXPECT_THAT(names(),
              ::testing::ElementsAre("docker.io/library/app:v1", "docker.io/library/app:v2", ""));
  EXPECT_EQ(store_.get(id.hex())->entry.name, "");
  add("app:v2", "three");
  EXPECT_EQ(names().size(), 3U) << "the second has another name still";
}

TEST_F(ImageStoreTest, blobs_of_no_image_are_pruned) {
  add("app:v1", "one");
  add("app:v2", "two");
  ASSERT_TRUE(store_.update([](auto& entries) -> Status {
    entries.erase(entries.begin());
    return {};
  }));
  const auto exclusive = store_.exclusive();
  const auto gone = prune_blobs(store_, *exclusive);
  ASSERT_TRUE(gone.has_value());
  EXPECT_EQ(gone->size(), 3U) << "manifest, configuration and layer of the first";
  EXPECT_TRUE(store_.get("app:v2").has_value());
  EXPECT_TRUE(prune_blobs(store_, *exclusive)->empty());
}

TEST_F(ImageStoreTest, nothing_is_removed_while_somebody_has_a_lease) {
  const auto lease = store_.lease();
  ASSERT_TRUE(lease.has_value());
  EXPECT_TRUE(store_.lease().has_value());
  EXPECT_FALSE(store_.try_exclusive().has_value());
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(store_.exclusive(stop.get_token()).error().code(), Code::kGone);
}

TEST_F(ImageStoreTest, an_image_of_which_parts_are_missing_is_no_image) {
  add("app:v1", "one");
  const auto image = store_.get("app:v1");
  std::filesystem::remove(store_.root() + "/" + image->source.layers()[0].blob);
  EXPECT_EQ(store_.get("app:v1").error().code(), Code::kNotFound);
}

TEST_F(ImageStoreTest, many_writers_lose_no_name) {
  const auto id = add("app:v1", "one");
  const auto target = store_.find("app:v1")->front().target;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const auto own = ImageStore::open(store_.root());
        for (int i = 0; i < 10; ++i) {
          EXPECT_TRUE(
              own->set("docker.io/t" + std::to_string(t) + "/n:" + std::to_string(i), target)
                  .has_value());
        }
      });
    }
  }
  EXPECT_EQ(names().size(), 41U);
  EXPECT_EQ(store_.find(id.hex())->size(), 41U);
}

TEST_F(ImageStoreTest, a_damaged_index_is_told_not_overwritten) {
  add("app:v1", "one");
  testing::write_file(store_.root() + "/index.json", "{");
  EXPECT_FALSE(store_.entries().has_value());
  EXPECT_FALSE(
      store_.set("docker.io/library/x:1", Descriptor{.media_type = {}, .digest = Hasher::of({})})
          .has_value());
  EXPECT_EQ(*read_file(store_.root() + "/index.json", 100), "{");
}

TEST_F(ImageStoreTest, writers_verify_and_leave_nothing_wrong_behind) {
  const std::string text = "content";
  const auto bytes = as_byte_span(text);
  const BlobExpectation expected{Hasher::of(bytes), bytes.size()};
  {
    auto writer = BlobWriter::open(store_.root(), expected);
    ASSERT_TRUE(writer && *writer);
    ASSERT_TRUE((*writer)->append(as_byte_span(std::string_view("CONTENT"))).has_value());
    EXPECT_EQ((*writer)->commit().error().code(), Code::kCorrupt);
  }
  EXPECT_TRUE(std::filesystem::is_empty(store_.root() + "/ingest"));
  {
    auto writer = BlobWriter::open(store_.root(), expected);
    ASSERT_TRUE((*writer)->append(bytes).has_value());
    EXPECT_EQ((*writer)->append(bytes).error().code(), Code::kCorrupt) << "more than is stated";
    EXPECT_TRUE((*writer)->commit().has_value());
  }
  EXPECT_FALSE(BlobWriter::open(store_.root(), expected)->has_value()) << "it is there now";
}

TEST_F(ImageStoreTest, one_writer_at_a_time_and_the_second_finds_the_blob) {
  const std::string text = "content";
  const BlobExpectation expected{Hasher::of(as_byte_span(text)), text.size()};
  auto first = BlobWriter::open(store_.root(), expected);
  bool second_found_it = false;
  {
    const std::jthread second(
        [&] { second_found_it = !BlobWriter::open(store_.root(), expected)->has_value(); });
    ASSERT_TRUE((*first)->append(as_byte_span(text)).has_value());
    ASSERT_TRUE((*first)->commit().has_value());
  }
  EXPECT_TRUE(second_found_it);
}

TEST_F(ImageStoreTest, saved_and_loaded_again) {
  const auto id = add("app:v1", "one");
  add("host:5000/other:x", "two");
  for (const auto kind : {ArchiveKind::kDocker, ArchiveKind::kOci}) {
    std::vector<StoredImage> images;
    for (const auto* name : {"app:v1", "host:5000/other:x"}) images.push_back(*store_.get(name));
    const auto path = folder_ / "saved.tar";
    {
      const auto fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
      const auto saved = save_images(store_, images, kind, fd->get());
      ASSERT_TRUE(saved.has_value()) << saved.error().text();
    }
    testing::TempDir other;
    const auto store = ImageStore::open(other / "store");
    const auto loaded = load_images(*store, path);
    ASSERT_TRUE(loaded.has_value()) << loaded.error().text();
    EXPECT_EQ(loaded->size(), 2U);
    EXPECT_EQ(store->get("app:v1")->source.id(), id);
    const auto reference =
        parse_reference((kind == ArchiveKind::kDocker ? "docker-archive:" : "oci-archive:") + path +
                        ":docker.io/library/app:v1");
    EXPECT_EQ(ImageSource::open(*reference)->id(), id);
  }
}

TEST_F(ImageStoreTest, archives_with_damage_leave_no_name) {
  testing::ImageBuilder image(folder_ / "bad");
  image.layer(testing::TarBuilder().file("f", "x").finish());
  image.write("app:v1");
  testing::write_file(image.blob_path(image.manifest["layers"][0]), "something else");
  const auto loaded = load_images(store_, pack(image.folder()));
  EXPECT_EQ(loaded.error().code(), Code::kCorrupt);
  EXPECT_TRUE(names().empty());
  testing::write_file(folder_ / "empty.tar", testing::TarBuilder().file("x", "y").finish());
  EXPECT_THAT(load_images(store_, folder_ / "empty.tar").error().cause(), HasSubstr("neither"));
}

// A registry that takes uploads.
struct PushTarget {
  explicit PushTarget(int failures = 0)
      : server([this, left = std::make_shared<std::atomic<int>>(failures)](
                   const testing::HttpCall& call, testing::HttpPeer& peer) {
          if (call.method == "PUT" && call.target.starts_with("/upload") && (*left)-- > 0) {
            peer.respond(503, "");
            return;
          }
          answer(call, peer);
        }) {}
  void answer(const testing::HttpCall& call, testing::HttpPeer& peer) {
    const std::lock_guard lock(mutex);
    if (call.method == "HEAD") {
      peer.respond(404, "", {{"Content-Length", "0"}});
    } else if (call.method == "POST") {
      queries.push_back(call.target);
      peer.respond(202, "", {{"Location", "/upload/1?state=a"}});
    } else if (call.method == "PATCH") {
      bytes += call.body;
      ranges.push_back(call.header("Content-Range"));
      peer.respond(202, "", {{"Location", "/upload/1?state=b"}});
    } else {
      puts[call.target] = call.body;
      peer.respond(201, "");
    }
  }
  RegistryOptions options() {
    RegistryOptions out;
    out.config.registries[server.host()].plain_http = true;
    out.config.parallel_downloads = 1;
    out.retry.first = out.retry.longest = std::chrono::milliseconds(1);
    return out;
  }
  std::mutex mutex;
  std::vector<std::string> queries;
  std::vector<std::string> ranges;
  std::string bytes;
  std::map<std::string, std::string> puts;
  testing::HttpServer server;
};

TEST_F(ImageStoreTest, pushed_in_one_piece_again_after_failures) {
  add("app:v1", "one");
  PushTarget target(2);
  RegistryClient client(target.options());
  const auto image = store_.get("app:v1");
  const auto name = parse_image_name(target.server.host() + "/team/app:v9");
  const auto pushed = push_image(store_, client, image->source, *name, {});
  ASSERT_TRUE(pushed.has_value()) << pushed.error().text();
  EXPECT_EQ(pushed->sent, 2U);
  EXPECT_EQ(target.puts.size(), 3U);
  const auto& manifest = target.puts["/v2/team/app/manifests/v9"];
  EXPECT_EQ(Hasher::of(as_byte_span(manifest)), pushed->manifest.digest);
}

TEST_F(ImageStoreTest, pushed_in_chunks) {
  add("app:v1", std::string(100'000, 'x'));
  PushTarget target;
  auto options = target.options();
  options.config.push_chunk_bytes = 100;
  RegistryClient client(std::move(options));
  const auto image = store_.get("app:v1");
  const auto name = parse_image_name(target.server.host() + "/team/app:v9");
  const auto pushed = push_image(store_, client, image->source, *name, {});
  ASSERT_TRUE(pushed.has_value()) << pushed.error().text();
  EXPECT_EQ(target.ranges.at(0), "0-99");
  EXPECT_EQ(target.ranges.at(1).substr(0, 4), "100-");
  EXPECT_EQ(target.bytes.size(),
            image->source.layers()[0].size + image->source.config_text().size());
}

TEST_F(ImageStoreTest, pushed_layers_are_taken_over_from_a_known_repository) {
  PushTarget target;
  const auto host = target.server.host();
  add(host + "/base:1", "one");
  RegistryClient client(target.options());
  const auto image = store_.get(host + "/base:1");
  const auto name = parse_image_name(host + "/derived:1");
  ASSERT_TRUE(push_image(store_, client, image->source, *name, {}).has_value());
  EXPECT_THAT(target.queries.at(0), HasSubstr("from=base"));
  EXPECT_THAT(target.queries.at(0), HasSubstr("mount=sha256%3A"));
}

}  // namespace
}  // namespace sm
