// JSON documents of an image.
#include "oci/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/image_config.h"
#include "oci/json.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string digest(char digit) { return "sha256:" + std::string(64, digit); }

Json descriptor(const std::string& media_type, char digit) {
  return {{"mediaType", media_type}, {"digest", digest(digit)}, {"size", 7}};
}

const char* const kManifestType = "application/vnd.oci.image.manifest.v1+json";

Json entry(char digit, const std::string& platform) {
  auto out = descriptor(kManifestType, digit);
  const auto first = platform.find('/');
  const auto second = platform.find('/', first + 1);
  out["platform"] = {{"os", platform.substr(0, first)},
                     {"architecture", platform.substr(first + 1, second - first - 1)}};
  if (second != std::string::npos) out["platform"]["variant"] = platform.substr(second + 1);
  return out;
}

Index index_of(std::vector<Json> entries) {
  auto index = parse_index(Json({{"manifests", std::move(entries)}}).dump());
  EXPECT_TRUE(index.has_value());
  return *std::move(index);
}

Json manifest() {
  return {{"schemaVersion", 2},
          {"config", descriptor("application/vnd.oci.image.config.v1+json", 'c')},
          {"layers", Json::array()}};
}

TEST(JsonTest, depth_is_bounded) {
  const std::string deep = std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']');
  EXPECT_TRUE(parse_json_array(deep, "x").has_value());
  EXPECT_EQ(parse_json_array("[" + deep + "]", "x").error().code(), Code::kLimit);
  EXPECT_EQ(parse_json_object(std::string(1U << 20U, '['), "x").error().code(), Code::kLimit);
  // Brackets in texts do not count.
  EXPECT_TRUE(parse_json_object(R"({"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[["})", "x"));
}

TEST(JsonTest, damage_and_wrong_types_are_corrupt) {
  for (const auto* text : {"", "{", "{}x", "[]", "null", "1", "{\"a\":\xFF}"}) {
    EXPECT_EQ(parse_json_object(text, "x").error().code(), Code::kCorrupt) << text;
  }
  const auto json = *parse_json_object(R"({"n":1,"s":"a","z":"a\u0000b","l":["x",1],"f":-1})", "x");
  EXPECT_FALSE(json_text(json, "n", "x").has_value());
  EXPECT_FALSE(json_text(json, "z", "x").has_value());
  EXPECT_FALSE(json_texts(json, "l", "x").has_value());
  EXPECT_FALSE(json_texts(json, "s", "x").has_value());
  EXPECT_FALSE(json_unsigned(json, "f", "x", 0).has_value());
  EXPECT_FALSE(json_unsigned(json, "s", "x", 0).has_value());
  EXPECT_EQ(*json_unsigned(json, "missing", "x", 5), 5U);
  EXPECT_EQ(*json_text(json, "missing", "x"), "");
}

TEST(ManifestTest, layers_of_all_known_types) {
  auto json = manifest();
  json["layers"] = {descriptor("application/vnd.oci.image.layer.v1.tar", '1'),
                    descriptor("application/vnd.oci.image.layer.v1.tar+gzip", '2'),
                    descriptor("application/vnd.oci.image.layer.v1.tar+zstd", '3'),
                    descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", '4')};
  const auto parsed = parse_manifest(json.dump());
  ASSERT_TRUE(parsed.has_value()) << parsed.error().text();
  ASSERT_EQ(parsed->layers.size(), 4U);
  EXPECT_EQ(parsed->layers[0].compression, Compression::kNone);
  EXPECT_EQ(parsed->layers[1].compression, Compression::kGzip);
  EXPECT_EQ(parsed->layers[2].compression, Compression::kZstd);
  EXPECT_EQ(parsed->layers[3].compression, Compression::kGzip);
  EXPECT_EQ(parsed->layers[3].blob.digest.text(), digest('4'));
  EXPECT_EQ(parsed->layers[3].blob.size, 7U);
}

TEST(ManifestTest, unknown_media_types_are_named) {
  auto json = manifest();
  json["layers"] = Json::array({descriptor("application/x-evil\n", '1')});
  auto error = parse_manifest(json.dump()).error();
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.cause(), HasSubstr("application/x-evil\\x0a"));
  EXPECT_THAT(error.cause(), HasSubstr(digest('1')));

  json = manifest();
  json["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json";
  error = parse_manifest(json.dump()).error();
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.cause(), HasSubstr("helm"));

  EXPECT_EQ(document_kind("application/x-other", "{}").error().code(), Code::kUnsupported);
}

TEST(ManifestTest, contradictions_are_refused) {
  const auto refused = [](auto change, Code code) {
    auto json = manifest();
    json["layers"] = Json::array({descriptor("application/vnd.oci.image.layer.v1.tar", '1')});
    change(json);
    const auto parsed = parse_manifest(json.dump());
    EXPECT_FALSE(parsed.has_value()) << json.dump();
    if (!parsed) {
      EXPECT_EQ(parsed.error().code(), code) << parsed.error().text();
    }
  };
  refused([](Json& j) { j["schemaVersion"] = 1; }, Code::kUnsupported);
  refused([](Json& j) { j.erase("config"); }, Code::kCorrupt);
  refused([](Json& j) { j.erase("layers"); }, Code::kCorrupt);
  refused([](Json& j) { j["layers"] = "x"; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0] = 1; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0]["digest"] = "sha256:../../etc/passwd"; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0]["size"] = -1; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0]["size"] = 1e30; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0]["size"] = 0xFFFFFFFFFFFFFFFF; }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0].erase("size"); }, Code::kCorrupt);
  refused([](Json& j) { j["layers"][0].erase("digest"); }, Code::kCorrupt);
  refused([](Json& j) { j["layers"] = Json(std::vector<Json>(2000, j["layers"][0])); },
          Code::kLimit);
}

TEST(ManifestTest, document_kind_comes_from_type_or_shape) {
  EXPECT_EQ(*document_kind("application/vnd.oci.image.index.v1+json", "{}"), DocumentKind::kIndex);
  EXPECT_EQ(
      *document_kind("", R"({"mediaType":"application/vnd.docker.distribution.manifest.v2+json"})"),
      DocumentKind::kManifest);
  EXPECT_EQ(*document_kind("", R"({"manifests":[]})"), DocumentKind::kIndex);
  EXPECT_EQ(*document_kind("", R"({"layers":[]})"), DocumentKind::kManifest);
  EXPECT_FALSE(document_kind("", "{}").has_value());
}

TEST(PlatformTest, the_wanted_one_is_chosen) {
  const auto index = index_of({entry('1', "linux/arm64/v8"), entry('2', "windows/amd64"),
                               entry('3', "linux/amd64/v3"), entry('4', "linux/amd64"),
                               entry('5', "unknown/unknown")});
  EXPECT_EQ(choose_platform(index, {})->digest.text(), digest('4'));
  EXPECT_EQ(choose_platform(index, {"linux", "arm64", "v8"})->digest.text(), digest('1'));
  EXPECT_EQ(choose_platform(index, {"linux", "amd64", "v3"})->digest.text(), digest('3'));
  EXPECT_EQ(choose_platform(index, {"linux", "amd64", "v2"})->digest.text(), digest('4'));
}

TEST(PlatformTest, higher_levels_never_match) {
  const auto index = index_of({entry('1', "linux/amd64/v3"), entry('2', "linux/amd64/v2")});
  const auto error = choose_platform(index, {}).error();
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.cause(), HasSubstr("linux/amd64/v3, linux/amd64/v2"));
  EXPECT_EQ(choose_platform(index, {"linux", "amd64", "v4"})->digest.text(), digest('1'));
  const auto v1 = index_of({entry('1', "linux/amd64/v1")});
  EXPECT_TRUE(choose_platform(v1, {}).has_value());
}

TEST(PlatformTest, attestations_are_no_images) {
  auto attestation = descriptor(kManifestType, '1');
  attestation["annotations"] = {{"vnd.docker.reference.type", "attestation-manifest"}};
  auto signature = entry('2', "linux/amd64");
  signature["artifactType"] = "application/vnd.example.signature";
  const auto index = index_of({attestation, entry('2', "unknown/unknown"), signature});
  EXPECT_EQ(choose_platform(index, {}).error().code(), Code::kUnsupported);
  const auto with_bare = index_of({attestation, descriptor(kManifestType, '3')});
  EXPECT_EQ(choose_platform(with_bare, {})->digest.text(), digest('3'));
}

TEST(ImageConfigTest, all_fields) {
  const auto config = parse_image_config(R"({
    "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "variant": "v2",
    "config": {"User": "app:grp", "Env": ["A=b", "PATH=/bin"], "Entrypoint": ["/e", ""],
      "Cmd": ["c"], "WorkingDir": "/w", "StopSignal": "SIGINT", "Hostname": "h",
      "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
      "Labels": {"k": "v"}, "Unknown": [1, 2],
      "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5, "Timeout": 6, "StartPeriod": 7, "Retries": 3}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:)" +
                                         std::string(64, 'a') + R"("]}})");
  ASSERT_TRUE(config.has_value()) << config.error().text();
  EXPECT_EQ(config->user, "app:grp");
  EXPECT_THAT(config->env, ElementsAre("A=b", "PATH=/bin"));
  EXPECT_THAT(config->entrypoint, ElementsAre("/e", ""));
  EXPECT_THAT(config->cmd, ElementsAre("c"));
  EXPECT_EQ(config->working_dir, "/w");
  EXPECT_EQ(config->stop_signal, "SIGINT");
  EXPECT_EQ(config->hostname, "h");
  EXPECT_THAT(config->exposed_ports, ElementsAre("53/udp", "80/tcp"));
  EXPECT_THAT(config->volumes, ElementsAre("/data"));
  EXPECT_EQ(config->labels.at("k"), "v");
  ASSERT_TRUE(config->healthcheck.has_value());
  EXPECT_THAT(config->healthcheck->test, ElementsAre("CMD", "x"));
  EXPECT_EQ(config->healthcheck->retries, 3U);
  EXPECT_EQ(config->platform.text(), "linux/amd64/v2");
  EXPECT_EQ(config->diff_ids.size(), 1U);
}

TEST(ImageConfigTest, empty_and_null_fields_are_empty) {
  for (const auto* text :
       {R"({"rootfs":{"type":"layers","diff_ids":[]}})",
        R"({"config":null,"rootfs":{"type":"layers","diff_ids":null}})",
        R"({"config":{"Cmd":null,"Entrypoint":null,"Env":null,"Volumes":null,"Labels":null,
            "Healthcheck":null},"rootfs":{"type":"layers"}})"}) {
    const auto config = parse_image_config(text);
    ASSERT_TRUE(config.has_value()) << config.error().text();
    EXPECT_THAT(config->cmd, IsEmpty());
    EXPECT_FALSE(config->healthcheck.has_value());
  }
}

TEST(ImageConfigTest, wrong_types_are_refused) {
  for (const auto* field :
       {R"("User":1)", R"("Env":["A",2])", R"("Env":"A")", R"("Cmd":["a\u0000b"])",
        R"("Volumes":["/a"])", R"("Labels":{"a":1})", R"("Healthcheck":[])",
        R"("Healthcheck":{"Retries":-1})", R"("WorkingDir":"/a\u0000")"}) {
    const auto text =
        std::string(R"({"config":{)") + field + R"(},"rootfs":{"type":"layers","diff_ids":[]}})";
    EXPECT_EQ(parse_image_config(text).error().code(), Code::kCorrupt) << text;
  }
  EXPECT_EQ(parse_image_config("{}").error().code(), Code::kCorrupt);
  EXPECT_EQ(parse_image_config(R"({"rootfs":{"type":"other"}})").error().code(),
            Code::kUnsupported);
  EXPECT_EQ(parse_image_config(R"({"rootfs":{"type":"layers","diff_ids":["x"]}})").error().code(),
            Code::kCorrupt);
}

TEST(ImageConfigTest, counts_are_bounded) {
  Json json = {{"config", {{"Env", std::vector<std::string>(5000, "A=b")}}},
               {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}};
  EXPECT_EQ(parse_image_config(json.dump()).error().code(), Code::kLimit);
}

}  // namespace
}  // namespace sm
