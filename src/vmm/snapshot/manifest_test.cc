#include "vmm/snapshot/manifest.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "vmm/snapshot/state_codec.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

using Json = nlohmann::json;

SnapshotManifest full_manifest() {
  SnapshotManifest m = snapshot_testing::example_manifest(snapshot_testing::random_state(5));
  m.cpu_signature = "GenuineIntel 6/85/7";
  m.memory_bytes = 512ull << 20;
  m.vcpus = 2;
  m.devices = {{"rng", "", 0, false}, {"blk", "layer0", 1 << 20, true}};
  m.state_bytes = 12345;
  m.state_crc = 0xFFFFFFFF;
  m.memory_digest = std::string(32, 'd');
  m.base = SnapshotBase{"/snapshots/base", std::string(32, 'e')};
  return m;
}

Code code_of(const Json& json) {
  const auto result = decode_manifest(json.dump());
  return result ? Code::kInternal : result.error().code();
}

TEST(SnapshotManifest, ComesBack) {
  SnapshotManifest m = full_manifest();
  auto again = decode_manifest(encode_manifest(m));
  ASSERT_TRUE(again.has_value()) << again.error().text();
  EXPECT_EQ(*again, m);
  m.base.reset();
  m.awaits_image = true;
  m.annotations.clear();
  m.devices.clear();
  m.created_unix_ns = std::numeric_limits<std::int64_t>::max();
  again = decode_manifest(encode_manifest(m));
  ASSERT_TRUE(again.has_value()) << again.error().text();
  EXPECT_EQ(*again, m);
}

SnapshotManifest manifest_with_disk() {
  SnapshotManifest m = full_manifest();
  m.devices.push_back({"blk", "root", 8192, false});
  m.disk = SnapshotDisk{"root", 8192};
  return m;
}

TEST(SnapshotManifest, ADiskComesBackAndIsOneOfTheDevices) {
  const SnapshotManifest m = manifest_with_disk();
  const auto again = decode_manifest(encode_manifest(m));
  ASSERT_TRUE(again.has_value()) << again.error().text();
  EXPECT_EQ(*again, m);
  const Json good = Json::parse(encode_manifest(m));
  // What is not there is a snapshot without one.
  Json none = good;
  none.erase("disk");
  EXPECT_FALSE(decode_manifest(none.dump())->disk.has_value());
  for (const Json& disk :
       {Json(), Json("root"), Json::object(), Json{{"serial", "root"}}, Json{{"bytes", 8192}},
        Json{{"serial", "layer0"}, {"bytes", 1 << 20}}, Json{{"serial", "root"}, {"bytes", 4096}},
        Json{{"serial", "root"}, {"bytes", -1}}, Json{{"serial", "root"}, {"bytes", 0}}}) {
    Json bad = good;
    bad["disk"] = disk;
    EXPECT_EQ(code_of(bad), Code::kCorrupt) << disk.dump();
  }
  Json more = good;
  more["disk"]["file"] = "x";
  EXPECT_EQ(code_of(more), Code::kUnsupported);
  Json huge = good;
  huge["disk"]["bytes"] = kMaxSnapshotDisk + 4096;
  EXPECT_EQ(code_of(huge), Code::kLimit);
  // Pages are what is summed up.
  Json uneven = good;
  uneven["disk"]["bytes"] = uneven["devices"][2]["bytes"] = 8192 + 512;
  EXPECT_EQ(code_of(uneven), Code::kCorrupt);
}

// So that programs that do not know the key read all snapshots of images.
TEST(SnapshotManifest, AwaitsImageIsWrittenOnlyWhenTrue) {
  SnapshotManifest m = full_manifest();
  EXPECT_EQ(encode_manifest(m).find("awaits_image"), std::string::npos);
  m.awaits_image = true;
  Json json = Json::parse(encode_manifest(m));
  EXPECT_EQ(json.at("awaits_image"), true);
  json["awaits_image"] = false;
  EXPECT_FALSE(decode_manifest(json.dump()).value().awaits_image);
  for (const Json& bad : {Json(1), Json("true"), Json(nullptr), Json::array()}) {
    json["awaits_image"] = bad;
    EXPECT_EQ(code_of(json), Code::kCorrupt) << bad;
  }
}

TEST(SnapshotManifest, NamesOtherFormats) {
  Json json = Json::parse(encode_manifest(full_manifest()));
  json["format"] = 2;
  json["something_new"] = true;
  const auto result = decode_manifest(json.dump());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kUnsupported);
  EXPECT_NE(result.error().cause().find("format 2"), std::string::npos);
  EXPECT_NE(result.error().cause().find("format 1"), std::string::npos);
  EXPECT_FALSE(result.error().remedy().empty());
}

TEST(SnapshotManifest, RefusesUnknownKeysByName) {
  for (const char* place : {"/odd", "/devices/0/odd", "/base/odd"}) {
    Json json = Json::parse(encode_manifest(full_manifest()));
    json[Json::json_pointer(place)] = 1;
    const auto result = decode_manifest(json.dump());
    ASSERT_FALSE(result.has_value()) << place;
    EXPECT_EQ(result.error().code(), Code::kUnsupported);
    EXPECT_NE(result.error().cause().find("\"odd\""), std::string::npos);
  }
  Json json = Json::parse(encode_manifest(full_manifest()));
  json["annotations"]["odd"] = "fine";
  EXPECT_EQ(decode_manifest(json.dump())->annotations.at("odd"), "fine");
}

TEST(SnapshotManifest, NeedsEveryKeyWithItsType) {
  const Json good = Json::parse(encode_manifest(full_manifest()));
  for (const auto& [key, value] : good.items()) {
    Json json = good;
    json.erase(key);
    const bool optional = key == "base" || key == "annotations";
    EXPECT_EQ(code_of(json), optional ? Code::kInternal : Code::kCorrupt) << key;
    for (const Json& other : {Json(nullptr), Json(-1), Json(1.5), Json(Json::array({1}))}) {
      if (other.is_array() && key == "devices") continue;
      json[key] = other;
      EXPECT_EQ(code_of(json), Code::kCorrupt) << key << " = " << other.dump();
    }
  }
  for (const char* text : {"", "{", "[]", "3", "null", "\"text\""}) {
    const auto result = decode_manifest(text);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().code(), Code::kCorrupt) << text;
  }
}

TEST(SnapshotManifest, RefusesImpossibleValues) {
  const Json good = Json::parse(encode_manifest(full_manifest()));
  const auto with = [&](const char* place, const Json& value) {
    Json json = good;
    json[Json::json_pointer(place)] = value;
    return code_of(json);
  };
  EXPECT_EQ(with("/memory_bytes", 0), Code::kCorrupt);
  EXPECT_EQ(with("/memory_bytes", 4097), Code::kCorrupt);
  EXPECT_EQ(with("/memory_bytes", kMaxSnapshotMemory + 4096), Code::kLimit);
  EXPECT_EQ(with("/vcpus", kMaxStateVcpus + 1), Code::kLimit);
  EXPECT_EQ(with("/state_bytes", kMaxStateBytes + 1), Code::kLimit);
  EXPECT_EQ(with("/state_crc", 1ull << 32), Code::kLimit);
  EXPECT_EQ(with("/memory_digest", std::string(32, 'X')), Code::kCorrupt);
  EXPECT_EQ(with("/memory_digest", "short"), Code::kCorrupt);
  EXPECT_EQ(with("/base/path", "relative"), Code::kCorrupt);
  EXPECT_EQ(with("/base/path", std::string("/a\0b", 4)), Code::kCorrupt);
  EXPECT_EQ(with("/engine", std::string(kMaxManifestText + 1, 'x')), Code::kLimit);
  EXPECT_EQ(with("/annotations/empty", std::string(kMaxAnnotationBytes + 1, 'x')), Code::kLimit);
  EXPECT_EQ(with("/annotations/empty", 1), Code::kCorrupt);
  Json json = good;
  json["devices"] = std::vector<Json>(kMaxStateDevices + 1, good["devices"][0]);
  EXPECT_EQ(code_of(json), Code::kLimit);
  json = good;
  for (std::size_t i = 0; i <= kMaxAnnotations; ++i) json["annotations"][std::to_string(i)] = "";
  EXPECT_EQ(code_of(json), Code::kLimit);
}

TEST(SnapshotManifest, BoundsItsText) {
  const std::string large(kMaxSnapshotManifestBytes + 1, ' ');
  EXPECT_EQ(decode_manifest(large).error().code(), Code::kLimit);
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  EXPECT_EQ(decode_manifest(deep).error().code(), Code::kLimit);
}

TEST(SnapshotManifest, EveryTruncationIsFound) {
  const std::string text = encode_manifest(full_manifest());
  for (std::size_t size = 0; size + 1 < text.size(); ++size) {  // the last byte is a line end
    ASSERT_FALSE(decode_manifest(std::string_view(text).substr(0, size)).has_value()) << size;
  }
}

TEST(SnapshotManifest, TextsThatAreNotUtf8DoNotComeBack) {
  SnapshotManifest m = full_manifest();
  m.annotations["bad"] = "\xFF";
  const auto again = decode_manifest(encode_manifest(m));
  ASSERT_TRUE(again.has_value());
  EXPECT_NE(*again, m);
}

}  // namespace
}  // namespace sm
