// The cache of converted layers: what it keeps, shares and leaves behind.
#include "oci/layer_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/squashfs_contents.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ImageBuilder;
using ::testing::IsEmpty;
using testing::read_squashfs;
using testing::TarBuilder;
using testing::TempDir;
using testing::write_file;

std::string noise(std::size_t size, std::uint32_t seed) {
  std::string out(size, '\0');
  for (auto& c : out) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24U);
  }
  return out;
}

class LayerCacheTest : public ::testing::Test {
 protected:
  ImageSource image(const ImageBuilder& builder) {
    auto source = ImageSource::open(*parse_reference(builder.reference()));
    EXPECT_TRUE(source.has_value()) << source.error().text();
    return *std::move(source);
  }
  LayerCache cache(CacheOptions options = {}) {
    options.root = root();
    auto opened = LayerCache::open(std::move(options));
    EXPECT_TRUE(opened.has_value());
    return *std::move(opened);
  }
  std::string root() const { return dir_ / "cache/layers"; }
  std::vector<std::string> cached() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(root())) {
      out.push_back(entry.path().filename());
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  TempDir dir_;
};

TEST_F(LayerCacheTest, layers_come_base_first_and_are_kept) {
  ImageBuilder builder(dir_ / "image");
  builder.layer(TarBuilder().file("a", "1").whiteout(".wh.x").finish());
  builder.layer(TarBuilder().file("b", "2").whiteout(".wh.a").finish(), Compression::kZstd);
  builder.write();
  const auto first = cache().prepare(image(builder));
  ASSERT_TRUE(first.has_value()) << first.error().text();
  EXPECT_EQ(first->converted, 2U);
  ASSERT_EQ(first->layers.size(), 2U);
  const auto base = read_squashfs(first->layers[0]);
  EXPECT_TRUE(base.contains("a"));
  EXPECT_FALSE(base.contains("x"));
  const auto top = read_squashfs(first->layers[1]);
  EXPECT_EQ(top.at("a").mode, S_IFCHR);
  EXPECT_EQ(cached().size(), 2U);

  const auto again = cache().prepare(image(builder));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->converted, 0U);
  EXPECT_EQ(again->layers, first->layers);
}

TEST_F(LayerCacheTest, layers_are_shared_whatever_packs_them) {
  const auto tar = TarBuilder().file("a", "1").finish();
  ImageBuilder one(dir_ / "one");
  one.layer(tar, Compression::kGzip).write();
  ImageBuilder two(dir_ / "two");
  two.layer(tar, Compression::kNone).write();
  ASSERT_TRUE(cache().prepare(image(one)).has_value());
  EXPECT_EQ(cache().prepare(image(two))->converted, 0U);
}

TEST_F(LayerCacheTest, image_without_layers_gives_an_empty_root) {
  ImageBuilder builder(dir_ / "image");
  builder.write();
  const auto prepared = cache().prepare(image(builder));
  ASSERT_TRUE(prepared.has_value());
  ASSERT_EQ(prepared->layers.size(), 1U);
  EXPECT_EQ(read_squashfs(prepared->layers[0]).size(), 1U);
}

TEST_F(LayerCacheTest, equal_layers_in_one_image) {
  ImageBuilder builder(dir_ / "image");
  const auto tar = TarBuilder().file("a", "1").finish();
  for (int i = 0; i < 4; ++i) builder.layer(tar);
  builder.write();
  const auto prepared = cache().prepare(image(builder));
  ASSERT_TRUE(prepared.has_value()) << prepared.error().text();
  EXPECT_EQ(prepared->layers.size(), 4U);
  EXPECT_EQ(cached().size(), 2U);  // as base and above
}

TEST_F(LayerCacheTest, many_layers_are_merged_from_the_base_up) {
  ImageBuilder builder(dir_ / "image");
  for (int i = 0; i < 30; ++i) {
    TarBuilder tar;
    tar.file("f" + std::to_string(i), std::to_string(i)).file("last", std::to_string(i));
    if (i > 0) tar.whiteout(".wh.f" + std::to_string(i - 1));
    builder.layer(tar.finish());
  }
  builder.write();
  const auto source = image(builder);
  const auto prepared = cache().prepare(source);
  ASSERT_TRUE(prepared.has_value()) << prepared.error().text();
  ASSERT_EQ(prepared->layers.size(), 16U);
  EXPECT_EQ(prepared->converted, 16U);
  const auto merged = read_squashfs(prepared->layers[0]);
  // Layers 0 to 14.
  EXPECT_EQ(merged.at("last").data, "14");
  EXPECT_EQ(merged.at("f14").data, "14");
  EXPECT_EQ(merged.size(), 3U);
  EXPECT_EQ(read_squashfs(prepared->layers[1]).at("f15").data, "15");
  EXPECT_EQ(read_squashfs(prepared->layers[15]).at("f29").data, "29");
  EXPECT_EQ(cache().prepare(source)->converted, 0U);
}

TEST_F(LayerCacheTest, sixteen_layers_are_not_merged) {
  ImageBuilder builder(dir_ / "image");
  for (int i = 0; i < 16; ++i) builder.layer(TarBuilder().file("f", std::to_string(i)).finish());
  builder.write();
  const auto prepared = cache().prepare(image(builder));
  ASSERT_TRUE(prepared.has_value());
  EXPECT_EQ(prepared->layers.size(), 16U);
  for (const auto& name : cached()) EXPECT_THAT(name, ::testing::StartsWith("sha256-"));
}

TEST_F(LayerCacheTest, opaque_root_drops_the_layers_below) {
  ImageBuilder builder(dir_ / "image");
  builder.layer(TarBuilder().file("a", "1").finish());
  builder.layer(TarBuilder().whiteout(".wh..wh..opq").file("b", "2").finish());
  builder.layer(TarBuilder().file("c", "3").finish());
  builder.write();
  for (int i = 0; i < 2; ++i) {
    const auto prepared = cache().prepare(image(builder));
    ASSERT_TRUE(prepared.has_value());
    ASSERT_EQ(prepared->layers.size(), 2U);
    EXPECT_TRUE(read_squashfs(prepared->layers[0]).contains("b"));
  }
}

TEST_F(LayerCacheTest, unsound_files_are_made_again) {
  ImageBuilder builder(dir_ / "image");
  builder.layer(TarBuilder().file("a", noise(100'000, 1)).finish());
  builder.write();
  const auto path = cache().prepare(image(builder))->layers[0];
  const auto good = *read_file(path, 1U << 30U);
  for (const auto& bad : {std::string(), good.substr(0, 4096), good.substr(0, good.size() - 4096),
                          std::string(good.size(), '\0'), good + std::string(4096, '\0')}) {
    write_file(path, bad);
    const auto prepared = cache().prepare(image(builder));
    ASSERT_TRUE(prepared.has_value());
    EXPECT_EQ(prepared->converted, 1U);
    EXPECT_TRUE(*read_file(path, 1U << 30U) == good);
  }
}

TEST_F(LayerCacheTest, every_failure_leaves_the_cache_empty) {
  struct Case {
    std::string what;
    std::function<void(ImageBuilder&)> spoil;
    CacheOptions options;
  };
  const auto good = TarBuilder().file("a", noise(300'000, 1)).finish();
  const auto spoil_blob = [](ImageBuilder& builder, auto change) {
    const auto path = builder.blob_path(builder.manifest["layers"][0]);
    auto bytes = *read_file(path, 1U << 30U);
    change(bytes);
    write_file(path, bytes);
  };
  const std::vector<Case> cases = {
      {"flipped", [&](auto& b) { spoil_blob(b, [](auto& s) { s[s.size() / 2] ^= 1; }); }, {}},
      {"truncated", [&](auto& b) { spoil_blob(b, [](auto& s) { s.resize(s.size() / 2); }); }, {}},
      {"missing",
       [&](auto& b) { std::filesystem::remove(b.blob_path(b.manifest["layers"][0])); },
       {}},
      {"unpacked size", [](auto&) {}, {.max_unpacked_bytes = 200'000}},
      {"entries", [](auto&) {}, {.tree = {.max_names = 0}}},
      {"disk", [](auto&) {}, {.keep_free = std::uint64_t{1} << 60U}},
  };
  for (const auto& item : cases) {
    SCOPED_TRACE(item.what);
    ImageBuilder builder(dir_ / item.what);
    builder.layer(good).write();
    item.spoil(builder);
    auto result = cache(item.options).prepare(image(builder));
    ASSERT_FALSE(result.has_value());
    EXPECT_THAT(cached(), IsEmpty());
  }
  // And everything an archive can be refused for.
  ImageBuilder hostile(dir_ / "hostile");
  hostile.layer(TarBuilder().file("big", noise(500'000, 2)).file("../x", "").finish()).write();
  auto result = cache().prepare(image(hostile));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().cause(), HasSubstr("layer sha256:"));
  EXPECT_THAT(result.error().cause(), HasSubstr("entry \"../x\""));
  EXPECT_THAT(cached(), IsEmpty());
}

TEST_F(LayerCacheTest, error_of_one_layer_is_the_one_reported) {
  ImageBuilder builder(dir_ / "image");
  for (int i = 0; i < 8; ++i) {
    builder.layer(TarBuilder().file("f" + std::to_string(i), noise(2'000'000, 7)).finish());
  }
  builder.layer(TarBuilder().file("/absolute", "").finish());
  builder.write();
  auto result = cache().prepare(image(builder));
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kCorrupt) << result.error().text();
  for (const auto& name : cached()) EXPECT_FALSE(name.ends_with(".partial")) << name;
}

TEST_F(LayerCacheTest, progress_reaches_the_blob_size) {
  ImageBuilder builder(dir_ / "image");
  for (std::uint32_t i = 0; i < 3; ++i) {
    builder.layer(TarBuilder().file("f", noise(700'000, i)).finish());
  }
  builder.write();
  const auto source = image(builder);
  std::map<std::size_t, PrepareProgress> last;
  const auto progress = [&](const PrepareProgress& now) {
    EXPECT_GE(now.bytes_done, last[now.layer].bytes_done);
    last[now.layer] = now;
  };
  ASSERT_TRUE(cache().prepare(source, progress).has_value());
  ASSERT_EQ(last.size(), 3U);
  for (const auto& [layer, state] : last) {
    EXPECT_EQ(state.bytes_done, state.bytes_total);
    EXPECT_EQ(state.bytes_total, source.layers()[layer].size);
    EXPECT_EQ(state.layer_count, 3U);
  }
}

TEST_F(LayerCacheTest, stop_request_ends_it_cleanly) {
  ImageBuilder builder(dir_ / "image");
  for (std::uint32_t i = 0; i < 4; ++i) {
    builder.layer(TarBuilder().file("f", noise(3'000'000, i)).finish());
  }
  builder.write();
  std::stop_source stop;
  const auto progress = [&](const PrepareProgress& now) {
    if (now.bytes_done > 500'000) stop.request_stop();
  };
  const auto result = cache().prepare(image(builder), progress, stop.get_token());
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kGone);
  EXPECT_THAT(cached(), IsEmpty());
  const auto at_once = cache().prepare(image(builder), {}, stop.get_token());
  EXPECT_EQ(at_once.error().code(), Code::kGone);
}

TEST_F(LayerCacheTest, leftovers_of_dead_programs_are_removed_those_of_living_ones_not) {
  std::filesystem::create_directories(root());
  write_file(root() + "/dead.partial", "x");
  write_file(root() + "/alive.partial", "x");
  const auto held = open_file(root() + "/alive.partial", O_RDWR);
  ASSERT_EQ(::flock(held->get(), LOCK_EX), 0);
  cache();
  EXPECT_THAT(cached(), ElementsAre("alive.partial"));
}

TEST_F(LayerCacheTest, waiting_for_another_program_can_be_stopped) {
  ImageBuilder builder(dir_ / "image");
  builder.layer(TarBuilder().file("f", "x").finish()).write();
  const auto layers = cache();
  const auto path = layers.prepare(image(builder))->layers[0];
  std::filesystem::remove(path);
  const auto partial = path.substr(0, path.size() - std::string(".squashfs").size()) + ".partial";
  write_file(partial, "");
  const auto held = open_file(partial, O_RDWR);
  ASSERT_EQ(::flock(held->get(), LOCK_EX), 0);
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_EQ(layers.prepare(image(builder), {}, stop.get_token()).error().code(), Code::kGone);
  EXPECT_THAT(cached(), ElementsAre(std::filesystem::path(partial).filename().string()));
}

TEST_F(LayerCacheTest, many_threads_and_processes_build_each_layer_once) {
  ImageBuilder builder(dir_ / "image");
  for (std::uint32_t i = 0; i < 3; ++i) {
    builder.layer(TarBuilder().file("f", noise(1'000'000, i)).finish());
  }
  builder.write();
  constexpr int kProcesses = 3;
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Exit status: how many layers this one converted, or 100.
      auto result = cache().prepare(image(builder));
      ::_exit(result ? static_cast<int>(result->converted) : 100);
    }
    children.push_back(child);
  }
  std::mutex mutex;
  std::size_t converted = 0;
  {
    const auto layers = cache();
    const auto source = image(builder);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        const auto result = layers.prepare(source);
        std::lock_guard lock(mutex);
        converted += result ? result->converted : 1000;
      });
    }
  }
  for (const auto child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    converted += static_cast<std::size_t>(WEXITSTATUS(status));
  }
  EXPECT_EQ(converted, 3U);
  EXPECT_EQ(cached().size(), 3U);
}

TEST_F(LayerCacheTest, default_root_follows_the_environment) {
  // Restored below: other tests read it too.
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("XDG_CACHE_HOME", "/c", 1);
  EXPECT_EQ(*LayerCache::default_root(), "/c/supermachine/layers");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_THAT(*LayerCache::default_root(), HasSubstr("/.cache/supermachine/layers"));
  before == nullptr ? ::unsetenv("XDG_CACHE_HOME") : ::setenv("XDG_CACHE_HOME", saved.c_str(), 1);
}

}  // namespace
}  // namespace sm
