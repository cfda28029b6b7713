// Resolving images in folders and archives; damaged and hostile stores.
#include "oci/image_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/docker_archive.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using testing::ImageBuilder;
using testing::TarBuilder;
using testing::TempDir;
using testing::write_file;

constexpr std::uint64_t kPlenty = 1U << 30U;
const char* const kIndexType = "application/vnd.oci.image.index.v1+json";

std::string layer_tar(const std::string& text) { return TarBuilder().file("f", text).finish(); }

// A tar file of everything in a folder.
std::string pack_folder(const std::string& folder, const std::string& prefix = "") {
  TarBuilder tar;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const auto name = prefix + std::filesystem::relative(entry.path(), folder).string();
    if (entry.is_directory()) {
      tar.dir(name + "/");
    } else {
      tar.file(name, *read_file(entry.path(), kPlenty));
    }
  }
  return tar.finish();
}

class ImageSourceTest : public ::testing::Test {
 protected:
  Result<ImageSource> open(const std::string& text) {
    auto reference = parse_reference(text);
    EXPECT_TRUE(reference.has_value());
    return ImageSource::open(*reference);
  }
  Error error_of(const std::string& text) {
    auto image = open(text);
    EXPECT_FALSE(image.has_value());
    return image ? Error(Code::kInternal, "no error") : std::move(image).error();
  }
  std::string layer_text(const ImageSource& image, std::size_t index) {
    auto stream = image.open_layer(index, kPlenty);
    EXPECT_TRUE(stream.has_value());
    auto text = read_stream(**stream, kPlenty, "layer");
    EXPECT_TRUE(text.has_value()) << text.error().text();
    return text.value_or("");
  }
  Error layer_error(const ImageSource& image, std::size_t index) {
    auto stream = image.open_layer(index, kPlenty);
    if (!stream) return std::move(stream).error();
    auto text = read_stream(**stream, kPlenty, "layer");
    EXPECT_FALSE(text.has_value());
    return text ? Error(Code::kInternal, "no error") : std::move(text).error();
  }
  std::string ref(const std::string& tag = "") {
    return builder_.reference() + (tag.empty() ? "" : ":" + tag);
  }

  TempDir dir_;
  ImageBuilder builder_{dir_ / "image"};
};

TEST_F(ImageSourceTest, layout_with_all_compressions) {
  builder_.layer(layer_tar("a"), Compression::kGzip);
  builder_.layer(layer_tar("b"), Compression::kZstd);
  builder_.layer(layer_tar("c"), Compression::kNone);
  builder_.write("v1");
  const auto image = open(ref("v1"));
  ASSERT_TRUE(image.has_value()) << image.error().text();
  ASSERT_EQ(image->layers().size(), 3U);
  EXPECT_EQ(layer_text(*image, 0), layer_tar("a"));
  EXPECT_EQ(layer_text(*image, 1), layer_tar("b"));
  EXPECT_EQ(layer_text(*image, 2), layer_tar("c"));
  EXPECT_THAT(image->config().cmd, ElementsAre("/bin/sh"));
  EXPECT_EQ(image->id().text(), builder_.manifest["config"]["digest"]);
  EXPECT_TRUE(open(ref()).has_value());
}

TEST_F(ImageSourceTest, image_without_layers) {
  builder_.write();
  const auto image = open(ref());
  ASSERT_TRUE(image.has_value());
  EXPECT_TRUE(image->layers().empty());
}

TEST_F(ImageSourceTest, tag_selects_among_images) {
  builder_.layer(layer_tar("a"));
  auto first = builder_.describe();
  first["annotations"] = {{"org.opencontainers.image.ref.name", "one"}};
  ImageBuilder other(builder_.folder());
  other.layer(layer_tar("b"));
  auto second = other.describe();
  second["annotations"] = {{"org.opencontainers.image.ref.name", "two"},
                           {"io.containerd.image.name", "docker.io/library/x:two"}};
  builder_.write_index({first, second});
  EXPECT_EQ(layer_text(*open(ref("one")), 0), layer_tar("a"));
  EXPECT_EQ(layer_text(*open(ref("two")), 0), layer_tar("b"));
  EXPECT_EQ(layer_text(*open(ref("docker.io/library/x:two")), 0), layer_tar("b"));
  const auto ambiguous = error_of(ref());
  EXPECT_EQ(ambiguous.code(), Code::kInvalidArgument);
  EXPECT_THAT(ambiguous.remedy(), HasSubstr("one, two"));
  const auto missing = error_of(ref("three"));
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_THAT(missing.remedy(), HasSubstr("one, two"));
}

TEST_F(ImageSourceTest, platform_is_chosen_in_nested_indexes) {
  builder_.layer(layer_tar("a"));
  auto ours = builder_.describe();
  ours["platform"] = {{"os", "linux"}, {"architecture", "amd64"}};
  auto arm = ours;
  arm["platform"]["architecture"] = "arm64";
  arm["digest"] = "sha256:" + std::string(64, '0');
  auto attestation = arm;
  attestation["platform"] = {{"os", "unknown"}, {"architecture", "unknown"}};
  auto inner = builder_.blob(
      Json({{"schemaVersion", 2}, {"manifests", {arm, attestation, ours}}}).dump(), kIndexType);
  builder_.write_index({inner});
  EXPECT_EQ(layer_text(*open(ref()), 0), layer_tar("a"));

  auto only_arm = builder_.blob(Json({{"manifests", {arm, attestation}}}).dump(), kIndexType);
  builder_.write_index({only_arm});
  const auto error = error_of(ref());
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.cause(), HasSubstr("it has linux/arm64"));
}

TEST_F(ImageSourceTest, index_nesting_is_bounded) {
  builder_.layer(layer_tar("a"));
  auto at = builder_.describe();
  std::vector<Code> seen;
  for (int depth = 0; depth < 6; ++depth) {
    builder_.write_index({at});
    const auto image = open(ref());
    seen.push_back(image ? Code::kInternal : image.error().code());
    at = builder_.blob(Json({{"schemaVersion", 2}, {"manifests", {at}}}).dump(), kIndexType);
  }
  EXPECT_THAT(seen, ElementsAre(Code::kInternal, Code::kInternal, Code::kInternal, Code::kInternal,
                                Code::kLimit, Code::kLimit));
}

TEST_F(ImageSourceTest, docker_media_types_are_known) {
  builder_.layer(layer_tar("a"));
  builder_.manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip";
  builder_.manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json";
  builder_.manifest["config"] =
      builder_.blob(builder_.config.dump(), "application/vnd.docker.container.image.v1+json");
  auto entry = builder_.describe();
  entry["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json";
  builder_.write_index({entry});
  EXPECT_EQ(layer_text(*open(ref()), 0), layer_tar("a"));
}

TEST_F(ImageSourceTest, foreign_architecture_is_refused_before_any_layer) {
  builder_.config["architecture"] = "arm64";
  builder_.layer(layer_tar("a"));
  builder_.write();
  const auto error = error_of(ref());
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.cause(), HasSubstr("linux/arm64"));
}

TEST_F(ImageSourceTest, damaged_documents_are_found) {
  builder_.layer(layer_tar("a"));
  const auto entry = builder_.describe();
  builder_.write();
  write_file(builder_.blob_path(builder_.manifest["config"]),
             std::string(builder_.config.dump().size(), ' '));
  EXPECT_THAT(error_of(ref()).cause(), HasSubstr("image configuration sha256:"));
  EXPECT_THAT(error_of(ref()).cause(), HasSubstr("does not match its digest"));
  write_file(builder_.blob_path(entry), builder_.manifest.dump() + " ");
  EXPECT_THAT(error_of(ref()).cause(), HasSubstr("more than"));
  std::filesystem::remove(builder_.blob_path(entry));
  EXPECT_EQ(error_of(ref()).code(), Code::kNotFound);
  write_file(builder_.folder() + "/index.json", "{");
  EXPECT_EQ(error_of(ref()).code(), Code::kCorrupt);
}

TEST_F(ImageSourceTest, absurd_document_sizes_are_refused_unread) {
  builder_.layer(layer_tar("a"));
  auto entry = builder_.describe();
  entry["size"] = std::uint64_t{1} << 40U;
  builder_.write_index({entry});
  EXPECT_EQ(error_of(ref()).code(), Code::kLimit);
  write_file(builder_.folder() + "/index.json", std::string(5U << 20U, ' '));
  EXPECT_EQ(error_of(ref()).code(), Code::kLimit);
}

TEST_F(ImageSourceTest, damaged_layers_are_explained_by_their_digest) {
  builder_.layer(layer_tar(std::string(100'000, 'a')));
  builder_.write();
  const auto path = builder_.blob_path(builder_.manifest["layers"][0]);
  auto bytes = *read_file(path, kPlenty);
  const auto image = open(ref());
  ASSERT_TRUE(image.has_value());

  auto flipped = bytes;
  flipped[bytes.size() / 2] = static_cast<char>(flipped[bytes.size() / 2] ^ 1);
  write_file(path, flipped);
  auto error = layer_error(*image, 0);
  EXPECT_EQ(error.code(), Code::kCorrupt);
  EXPECT_THAT(error.cause(), HasSubstr("does not match its digest"));

  write_file(path, bytes.substr(0, bytes.size() - 1));
  error = layer_error(*image, 0);
  EXPECT_EQ(error.code(), Code::kCorrupt);
  EXPECT_THAT(error.cause(), HasSubstr("layer sha256:"));

  std::filesystem::remove(path);
  EXPECT_EQ(layer_error(*image, 0).code(), Code::kNotFound);
}

TEST_F(ImageSourceTest, content_must_match_the_diff_id) {
  builder_.layer(layer_tar("a"));
  builder_.config["rootfs"]["diff_ids"][0] = "sha256:" + std::string(64, 'f');
  builder_.write();
  EXPECT_THAT(layer_error(*open(ref()), 0).cause(), HasSubstr("its content does not match"));
  builder_.config["rootfs"]["diff_ids"].push_back("sha256:" + std::string(64, 'f'));
  builder_.manifest.erase("config");
  builder_.write();
  EXPECT_EQ(error_of(ref()).code(), Code::kCorrupt);
}

TEST_F(ImageSourceTest, special_files_in_a_layout_are_not_read) {
  builder_.layer(layer_tar("a"));
  builder_.write();
  const auto path = builder_.blob_path(builder_.manifest["layers"][0]);
  const auto image = open(ref());
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(layer_error(*image, 0).code(), Code::kCorrupt);
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  EXPECT_EQ(layer_error(*image, 0).code(), Code::kCorrupt);
}

// --- archives ---

TEST_F(ImageSourceTest, oci_archive_plain_and_packed) {
  builder_.layer(layer_tar("a"));
  builder_.write("v1");
  for (const auto* prefix : {"", "./"}) {
    const auto tar = pack_folder(builder_.folder(), prefix);
    for (const auto& bytes : {tar, testing::gzip(tar), testing::zstd(tar)}) {
      write_file(dir_ / "image.tar", bytes);
      const auto image = open("oci-archive:" + dir_ / "image.tar");
      ASSERT_TRUE(image.has_value()) << image.error().text();
      EXPECT_EQ(layer_text(*image, 0), layer_tar("a"));
    }
  }
  EXPECT_TRUE(open("oci-archive:" + (dir_ / "image.tar") + ":v1").has_value());
  EXPECT_EQ(error_of("oci-archive:" + (dir_ / "image.tar") + ":v2").code(), Code::kNotFound);
}

// What `docker save` writes: a manifest, configurations and layers.
struct DockerParts {
  std::string config;
  std::string config_name;
  std::string tar_a = layer_tar("a");
  std::string tar_b = layer_tar("b");
};

DockerParts docker_parts() {
  DockerParts parts;
  const Json config = {{"os", "linux"},
                       {"architecture", "amd64"},
                       {"config", {{"Cmd", {"/x"}}}},
                       {"rootfs",
                        {{"type", "layers"},
                         {"diff_ids",
                          {Hasher::of(as_byte_span(parts.tar_a)).text(),
                           Hasher::of(as_byte_span(parts.tar_b)).text()}}}}};
  parts.config = config.dump();
  parts.config_name = Hasher::of(as_byte_span(parts.config)).hex() + ".json";
  return parts;
}

std::string docker_manifest(const std::string& config, const std::vector<std::string>& layers) {
  return Json({{{"Config", config}, {"RepoTags", {"busybox:latest"}}, {"Layers", layers}}}).dump();
}

TEST_F(ImageSourceTest, docker_archive_in_the_old_layout) {
  const auto parts = docker_parts();
  TarBuilder tar;
  tar.file(parts.config_name, parts.config);
  tar.dir("aaa/").file("aaa/VERSION", "1.0").file("aaa/layer.tar", parts.tar_a);
  tar.dir("bbb/").file("data.tar", parts.tar_b).symlink("bbb/layer.tar", "../data.tar");
  tar.file("manifest.json", docker_manifest(parts.config_name, {"aaa/layer.tar", "bbb/layer.tar"}));
  write_file(dir_ / "d.tar", tar.finish());
  for (const auto* tag : {"", ":busybox", ":docker.io/library/busybox:latest"}) {
    const auto image = open("docker-archive:" + (dir_ / "d.tar") + tag);
    ASSERT_TRUE(image.has_value()) << image.error().text();
    EXPECT_EQ(layer_text(*image, 0), parts.tar_a);
    EXPECT_EQ(layer_text(*image, 1), parts.tar_b);
    EXPECT_THAT(image->config().cmd, ElementsAre("/x"));
    EXPECT_FALSE(image->layers()[0].digest.has_value());
  }
  EXPECT_EQ(error_of("docker-archive:" + (dir_ / "d.tar") + ":other").code(), Code::kNotFound);
}

TEST_F(ImageSourceTest, docker_archive_in_the_new_layout) {
  auto parts = docker_parts();
  const auto packed = testing::gzip(parts.tar_a);
  const auto blob = [](const std::string& data) {
    return "blobs/sha256/" + Hasher::of(as_byte_span(data)).hex();
  };
  TarBuilder tar;
  tar.file(blob(parts.config), parts.config).file(blob(packed), packed);
  tar.file(blob(parts.tar_b), parts.tar_b);
  tar.file("manifest.json", docker_manifest(blob(parts.config), {blob(packed), blob(parts.tar_b)}));
  write_file(dir_ / "d.tar", tar.finish());
  const auto image = open("docker-archive:" + dir_ / "d.tar");
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(layer_text(*image, 0), parts.tar_a);
  EXPECT_EQ(layer_text(*image, 1), parts.tar_b);
  ASSERT_TRUE(image->layers()[0].digest.has_value());
}

TEST_F(ImageSourceTest, damaged_docker_archives_are_refused) {
  const auto parts = docker_parts();
  const auto refused = [&](const TarBuilder& tar, Code code, const std::string& says) {
    write_file(dir_ / "d.tar", tar.finish());
    const auto image = open("docker-archive:" + dir_ / "d.tar");
    const auto error = image ? layer_error(*image, 0) : image.error();
    EXPECT_EQ(error.code(), code) << error.text();
    EXPECT_THAT(error.cause(), HasSubstr(says));
  };
  const auto manifest = docker_manifest(parts.config_name, {"a", "b"});
  const auto with = [&](const std::string& a) {
    return TarBuilder()
        .file("manifest.json", manifest)
        .file(parts.config_name, parts.config)
        .file("a", a)
        .file("b", parts.tar_b);
  };
  refused(with(parts.tar_b), Code::kCorrupt, "does not match its digest");
  refused(TarBuilder().file("manifest.json", manifest), Code::kNotFound, parts.config_name);
  refused(TarBuilder().file("manifest.json", manifest).file(parts.config_name, "{}"),
          Code::kCorrupt, "does not match its digest");
  refused(TarBuilder().file("manifest.json", "[]"), Code::kNotFound, "holds no image");
  refused(TarBuilder().file("manifest.json", "{}"), Code::kCorrupt, "not a JSON array");
  refused(TarBuilder().file("x", ""), Code::kNotFound, "manifest.json");
  refused(TarBuilder().file("manifest.json", manifest).file(parts.config_name, parts.config),
          Code::kNotFound, "\"a\"");
  refused(TarBuilder().symlink("manifest.json", "../../etc/passwd"), Code::kCorrupt,
          "outside of the archive");
  refused(TarBuilder().symlink("manifest.json", "/etc/passwd"), Code::kCorrupt,
          "outside of the archive");
  refused(TarBuilder().symlink("manifest.json", "x").symlink("x", "manifest.json"), Code::kCorrupt,
          "circles");
  refused(TarBuilder().file("../manifest.json", manifest), Code::kCorrupt, "outside");
  refused(TarBuilder().file("manifest.json", docker_manifest("../../../../etc/passwd", {})),
          Code::kNotFound, "etc/passwd");
}

TEST_F(ImageSourceTest, wrong_transports_are_explained) {
  builder_.layer(layer_tar("a"));
  builder_.write();
  write_file(dir_ / "o.tar", pack_folder(builder_.folder()));
  EXPECT_THAT(error_of("docker-archive:" + dir_ / "o.tar").remedy(), HasSubstr("oci-archive:"));
  EXPECT_THAT(error_of("oci-archive:" + builder_.folder()).remedy(), HasSubstr("oci:"));
  EXPECT_THAT(error_of("oci:" + dir_ / "o.tar").remedy(), HasSubstr("oci-archive:"));
  EXPECT_EQ(error_of("oci:" + dir_ / "nothing").code(), Code::kNotFound);
  write_file(dir_ / "x.xz", std::string("\xFD"
                                        "7zXZ\0",
                                        6));
  EXPECT_EQ(error_of("oci-archive:" + dir_ / "x.xz").code(), Code::kUnsupported);
  write_file(dir_ / "empty", "");
  EXPECT_EQ(error_of("oci-archive:" + dir_ / "empty").code(), Code::kCorrupt);
}

TEST_F(ImageSourceTest, archives_of_too_many_members_are_refused) {
  TarBuilder tar;
  for (int i = 0; i < 20; ++i) tar.file(std::to_string(i), "");
  write_file(dir_ / "m.tar", tar.finish());
  EXPECT_TRUE(archive_store(dir_ / "m.tar", {.max_members = 20}).has_value());
  EXPECT_EQ(archive_store(dir_ / "m.tar", {.max_members = 19}).error().code(), Code::kLimit);
  write_file(dir_ / "m.tar.gz", testing::gzip(tar.finish()));
  EXPECT_EQ(archive_store(dir_ / "m.tar.gz", {.max_unpacked_bytes = 5000}).error().code(),
            Code::kLimit);
}

}  // namespace
}  // namespace sm
