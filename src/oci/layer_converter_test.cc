// Tar streams in, squashfs images out: every attribute, every refusal.
#include "oci/layer_converter.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/squashfs_contents.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/temp_dir.h"
#include "oci/testing/text_stream.h"

namespace sm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::read_squashfs;
using testing::SquashfsItem;
using testing::TarBuilder;
using testing::TempDir;
using testing::TextStream;
using ::testing::UnorderedElementsAre;

using Contents = std::map<std::string, SquashfsItem>;
using Position = LayerTree::Position;

class LayerConverterTest : public ::testing::Test {
 protected:
  Result<ConvertResult> convert(const std::vector<std::string>& tars, const std::string& name,
                                const ConvertOptions& options) {
    std::deque<TextStream> streams(tars.begin(), tars.end());
    std::vector<LayerInput> inputs;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      inputs.push_back({streams[i], "layer " + std::to_string(i)});
    }
    auto fd = open_file(dir_ / name, O_RDWR | O_CREAT | O_TRUNC);
    EXPECT_TRUE(fd.has_value());
    return convert_layers(inputs, fd->get(), options);
  }
  Contents read(const std::vector<std::string>& tars, ConvertOptions options = {}) {
    auto result = convert(tars, "image", options);
    EXPECT_TRUE(result.has_value()) << result.error().text();
    if (!result) return {};
    last_ = *result;
    return read_squashfs(dir_ / "image");
  }
  Contents read_above(const std::string& tar) {
    ConvertOptions options;
    options.position = Position::kAbove;
    return read({tar}, options);
  }
  Error error_of(const std::vector<std::string>& tars, ConvertOptions options = {}) {
    auto result = convert(tars, "image", options);
    EXPECT_FALSE(result.has_value());
    return result ? Error(Code::kInternal, "no error") : std::move(result).error();
  }

  TempDir dir_;
  ConvertResult last_;
};

std::vector<std::string> paths(const Contents& contents) {
  std::vector<std::string> out;
  for (const auto& [path, item] : contents) out.push_back(path);
  return out;
}

// --- what is kept ---

TEST_F(LayerConverterTest, empty_layer_gives_a_root_directory) {
  const auto contents = read({TarBuilder().finish()});
  ASSERT_EQ(paths(contents), std::vector<std::string>{""});
  EXPECT_EQ(contents.at("").mode, S_IFDIR | 0755U);
  EXPECT_EQ(contents.at("").links, 2U);
  EXPECT_EQ(last_.image_size % 4096, 0U);
}

TEST_F(LayerConverterTest, attributes_of_all_kinds_are_kept) {
  TarBuilder tar;
  tar.add({.name = "./", .type = '5', .mode = 0711, .uid = 5, .gid = 6, .mtime = 7});
  tar.add({.name = "f", .mode = 04755, .uid = 1000, .gid = 2000, .mtime = 1234567, .data = "hi"});
  tar.add({.name = "d", .type = '5', .mode = 01777, .uid = 4'000'000'000, .gid = 4'000'000'001});
  tar.add({.name = "d/sg", .mode = 02711});
  tar.add({.name = "c", .type = '3', .mode = 0620, .gid = 5, .major = 4, .minor = 300});
  tar.add({.name = "b", .type = '4', .mode = 0660, .major = 8, .minor = 1});
  tar.add({.name = "p", .type = '6', .mode = 0600});
  tar.add({.name = "l", .type = '2', .uid = 3, .mtime = 99, .link = "../somewhere/else"});
  const auto contents = read({tar.finish()});
  EXPECT_THAT(paths(contents), ElementsAre("", "b", "c", "d", "d/sg", "f", "l", "p"));
  EXPECT_EQ(contents.at("").mode, S_IFDIR | 0711U);
  EXPECT_EQ(contents.at("").uid, 5U);
  EXPECT_EQ(contents.at("").gid, 6U);
  EXPECT_EQ(contents.at("").mtime, 7U);
  EXPECT_EQ(contents.at("").links, 3U);
  EXPECT_EQ(contents.at("f").mode, S_IFREG | 04755U);
  EXPECT_EQ(contents.at("f").uid, 1000U);
  EXPECT_EQ(contents.at("f").gid, 2000U);
  EXPECT_EQ(contents.at("f").mtime, 1234567U);
  EXPECT_EQ(contents.at("f").data, "hi");
  EXPECT_EQ(contents.at("f").links, 1U);
  EXPECT_EQ(contents.at("d").mode, S_IFDIR | 01777U);
  EXPECT_EQ(contents.at("d").uid, 4'000'000'000U);
  EXPECT_EQ(contents.at("d").gid, 4'000'000'001U);
  EXPECT_EQ(contents.at("d/sg").mode, S_IFREG | 02711U);
  EXPECT_EQ(contents.at("c").mode, S_IFCHR | 0620U);
  EXPECT_EQ(contents.at("c").device, ((300U & 0xFFU) | (4U << 8U) | ((300U & ~0xFFU) << 12U)));
  EXPECT_EQ(contents.at("b").mode, S_IFBLK | 0660U);
  EXPECT_EQ(contents.at("b").device, 0x801U);
  EXPECT_EQ(contents.at("p").mode, S_IFIFO | 0600U);
  EXPECT_EQ(contents.at("l").mode, S_IFLNK | 0777U);
  EXPECT_EQ(contents.at("l").data, "../somewhere/else");
  EXPECT_EQ(contents.at("l").uid, 3U);
  EXPECT_EQ(contents.at("l").mtime, 99U);
}

TEST_F(LayerConverterTest, times_outside_of_32_bits_are_clamped) {
  TarBuilder tar;
  tar.add({.name = "old", .mtime = -5});
  tar.add({.name = "new", .mtime = 0x1'0000'0000});
  tar.add({.name = "fraction", .mtime = 1, .pax = {{"mtime", "1500000000.999999999"}}});
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at("old").mtime, 0U);
  EXPECT_EQ(contents.at("new").mtime, 0xFFFFFFFFU);
  EXPECT_EQ(contents.at("fraction").mtime, 1'500'000'000U);
}

TEST_F(LayerConverterTest, missing_parents_belong_to_root) {
  const auto contents = read({TarBuilder().file("a/b/c", "x").finish()});
  EXPECT_THAT(paths(contents), ElementsAre("", "a", "a/b", "a/b/c"));
  EXPECT_EQ(contents.at("a/b").mode, S_IFDIR | 0755U);
  EXPECT_EQ(contents.at("a/b").uid, 0U);
  EXPECT_EQ(contents.at("a").links, 3U);
}

TEST_F(LayerConverterTest, hard_links_share_an_inode_and_count) {
  TarBuilder tar;
  tar.file("a", "data").hard_link("z/b", "a").hard_link("c", "./z/b").symlink("s", "a");
  tar.hard_link("s2", "s").device("dev", '3', 1, 3).hard_link("dev2", "dev");
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at("a").inode, contents.at("z/b").inode);
  EXPECT_EQ(contents.at("a").inode, contents.at("c").inode);
  EXPECT_EQ(contents.at("c").links, 3U);
  EXPECT_EQ(contents.at("c").data, "data");
  EXPECT_EQ(contents.at("s").inode, contents.at("s2").inode);
  EXPECT_EQ(contents.at("s2").links, 2U);
  EXPECT_EQ(contents.at("dev2").links, 2U);
  EXPECT_EQ(contents.at("dev").inode, contents.at("dev2").inode);
}

TEST_F(LayerConverterTest, hard_link_keeps_a_replaced_file_alive) {
  TarBuilder tar;
  tar.file("a", "first").hard_link("b", "a").file("a", "second");
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at("a").data, "second");
  EXPECT_EQ(contents.at("b").data, "first");
  EXPECT_EQ(contents.at("b").links, 1U);
}

TEST_F(LayerConverterTest, hard_link_to_itself_changes_nothing) {
  const auto contents = read({TarBuilder().file("a", "x").hard_link("a", "a").finish()});
  EXPECT_EQ(contents.at("a").data, "x");
  EXPECT_EQ(contents.at("a").links, 1U);
}

TEST_F(LayerConverterTest, extended_attributes_are_kept) {
  const std::string capability("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\n\0\0\0", 16);
  TarBuilder tar;
  tar.add({.name = "ping", .pax = {{"SCHILY.xattr.security.capability", capability}}});
  tar.add({.name = "u",
           .type = '5',
           .pax = {{"SCHILY.xattr.user.empty", ""},
                   {"SCHILY.xattr.user.a=b", "v"},
                   {"SCHILY.xattr.trusted.t", std::string(60'000, 'x')}}});
  tar.add({.name = "b64", .pax = {{"LIBARCHIVE.xattr.user.n%61me", "aGVsbG8"}}});
  tar.add({.name = "link", .type = '2', .link = "x", .pax = {{"SCHILY.xattr.trusted.l", "1"}}});
  const auto contents = read({tar.finish()});
  EXPECT_THAT(contents.at("ping").xattrs, UnorderedElementsAre(std::pair<std::string, std::string>(
                                              "security.capability", capability)));
  EXPECT_EQ(contents.at("u").xattrs.at("user.empty"), "");
  EXPECT_EQ(contents.at("u").xattrs.at("trusted.t"), std::string(60'000, 'x'));
  EXPECT_EQ(contents.at("b64").xattrs.at("user.name"), "hello");
  EXPECT_EQ(contents.at("link").xattrs.at("trusted.l"), "1");
}

TEST_F(LayerConverterTest, attributes_without_room_are_counted) {
  TarBuilder tar;
  tar.add({.name = "a", .pax = {{"SCHILY.xattr.system.posix_acl_access", "x"}}});
  tar.add(
      {.name = "b",
       .pax = {{"SCHILY.acl.access", "user::rwx,user:bin:rwx:2,group::r-x,mask::rwx,other::r--"}}});
  tar.add({.name = "c", .pax = {{"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}});
  tar.add({.name = "d", .pax = {{"SCHILY.xattr.btrfs.compression", "zstd"}}});
  const auto contents = read({tar.finish()});
  for (const auto* name : {"a", "b", "c", "d"})
    EXPECT_TRUE(contents.at(name).xattrs.empty()) << name;
  EXPECT_EQ(last_.notes.acls, 2U);
  EXPECT_EQ(last_.notes.foreign_xattrs, 2U);
}

TEST_F(LayerConverterTest, names_of_any_bytes_are_kept) {
  const std::string longest(255, 'n');
  const std::string umlaut = "gr\xC3\xBC\xC3\x9F\x65";
  const std::string latin1 = "caf\xE9";
  std::string deep;
  while (deep.size() + 101 < 4096) deep += std::string(100, 'd') + "/";
  deep.resize(4094, 'f');
  TarBuilder tar;
  tar.file(longest, "1").file(umlaut, "2").file(latin1, "3").file(deep, "4").file("a b\n\x01", "5");
  tar.add({.name = "pax", .data = "6", .pax = {{"path", "\xE6\x97\xA5\xE6\x9C\xAC"}}});
  tar.add({.name = "pax", .data = "7", .pax = {{"path", "pax\xFFraw"}}});
  tar.add_gnu_long({.name = std::string(200, 'g'), .data = "8"});
  tar.add({.name = "s", .type = '2', .link = "x", .pax = {{"linkpath", "z\xC3\xBC\xFFz"}}});
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at(longest).data, "1");
  EXPECT_EQ(contents.at(umlaut).data, "2");
  EXPECT_EQ(contents.at(latin1).data, "3");
  EXPECT_EQ(contents.at(deep).data, "4");
  EXPECT_EQ(contents.at("a b\n\x01").data, "5");
  EXPECT_EQ(contents.at("\xE6\x97\xA5\xE6\x9C\xAC").data, "6");
  EXPECT_EQ(contents.at("pax\xFFraw").data, "7");
  EXPECT_EQ(contents.at(std::string(200, 'g')).data, "8");
  EXPECT_EQ(contents.at("s").data, "z\xC3\xBC\xFFz");
}

std::string pattern(std::size_t size, std::uint32_t seed) {
  std::string out(size, '\0');
  for (auto& c : out) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24U);
  }
  return out;
}

TEST_F(LayerConverterTest, file_sizes_around_block_borders_are_kept) {
  constexpr std::size_t kBlock = 128U << 10U;
  TarBuilder tar;
  std::map<std::string, std::string> wanted;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kBlock - 1, kBlock, kBlock + 1,
                                 3 * kBlock, 3 * kBlock + 77}) {
    const auto name = "f" + std::to_string(size);
    wanted[name] = pattern(size, static_cast<std::uint32_t>(size));
    tar.file(name, wanted[name]);
  }
  // Same content twice, and zeros in the middle.
  wanted["copy"] = wanted["f" + std::to_string(3 * kBlock + 77)];
  wanted["zeros"] = "begin" + std::string(5 * kBlock, '\0') + "end";
  tar.file("copy", wanted["copy"]).file("zeros", wanted["zeros"]);
  const auto contents = read({tar.finish()});
  for (const auto& [name, data] : wanted) {
    EXPECT_EQ(contents.at(name).size, data.size()) << name;
    EXPECT_TRUE(contents.at(name).data == data) << name;
  }
  EXPECT_GE(contents.at("zeros").sparse, 4 * kBlock);
}

TEST_F(LayerConverterTest, sparse_files_take_no_room) {
  // GNU's 1.0 form: the map stands at the front of the data.
  std::string map = "2\n1048576\n512\n5368709120\n0\n";
  map.resize(512, '\0');
  TarBuilder tar;
  tar.add({.name = "GNUSparseFile.0/big",
           .data = map + std::string(512, 's'),
           .pax = {{"GNU.sparse.major", "1"},
                   {"GNU.sparse.minor", "0"},
                   {"GNU.sparse.name", "big"},
                   {"GNU.sparse.realsize", "5368709120"}}});
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at("big").size, 5'368'709'120U);
  EXPECT_GT(contents.at("big").sparse, 5'368'000'000U);
  EXPECT_LT(last_.image_size, 64U << 10U);
}

TEST_F(LayerConverterTest, directory_of_20000_entries_is_kept) {
  TarBuilder tar;
  std::set<std::string> wanted{"", "d"};
  for (int i = 0; i < 20'000; ++i) {
    const auto name = "d/entry-" + std::to_string(i);
    tar.file(name, i % 3 == 0 ? std::to_string(i) : "");
    wanted.insert(name);
  }
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.size(), wanted.size());
  for (const auto& path : wanted) ASSERT_TRUE(contents.contains(path)) << path;
  EXPECT_EQ(contents.at("d/entry-19998").data, "19998");
}

TEST_F(LayerConverterTest, same_input_gives_same_bytes_with_any_threads) {
  TarBuilder tar;
  for (std::uint32_t i = 0; i < 300; ++i) {
    tar.file("f" + std::to_string(i), pattern((i * 7919) % 400'000, i % 11));
  }
  ConvertOptions options;
  std::vector<std::string> images;
  for (const unsigned threads : {1U, 1U, 2U, 7U}) {
    options.squashfs.threads = threads;
    ASSERT_TRUE(convert({tar.finish()}, "image", options).has_value());
    auto bytes = read_file(dir_ / "image", 256U << 20U);
    ASSERT_TRUE(bytes.has_value());
    images.push_back(*std::move(bytes));
  }
  for (const auto& image : images) EXPECT_TRUE(image == images.front());
}

// --- entries that meet ---

TEST_F(LayerConverterTest, later_entry_replaces_the_former) {
  TarBuilder tar;
  tar.file("f", "1").file("f", "2", 0600);
  tar.dir("d", 0700).file("d/in", "x").dir("d", 0711);  // directory over directory: attributes
  tar.dir("e").file("e/in", "x").file("e", "file");     // file over directory: replaced
  tar.file("g", "x").dir("g").file("g/in", "y");        // directory over file
  tar.symlink("h", "x").dir("h");                       // directory over link
  const auto contents = read({tar.finish()});
  EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/in", "e", "f", "g", "g/in", "h"));
  EXPECT_EQ(contents.at("f").data, "2");
  EXPECT_EQ(contents.at("f").mode, S_IFREG | 0600U);
  EXPECT_EQ(contents.at("d").mode, S_IFDIR | 0711U);
  EXPECT_EQ(contents.at("e").data, "file");
  EXPECT_EQ(contents.at("h").mode, S_IFDIR | 0755U);
}

TEST_F(LayerConverterTest, unknown_kinds_are_regular_files) {
  // POSIX: a reader treats unknown type flags as regular files.
  const auto contents = read({TarBuilder().add({.name = "x", .type = 'Z', .data = "y"}).finish()});
  EXPECT_EQ(contents.at("x").data, "y");
}

// --- whiteouts ---

TEST_F(LayerConverterTest, whiteout_becomes_a_null_device) {
  const auto contents = read_above(TarBuilder().whiteout("d/.wh.gone").finish());
  EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/gone"));
  EXPECT_EQ(contents.at("d/gone").mode, S_IFCHR);
  EXPECT_EQ(contents.at("d/gone").device, 0U);
}

TEST_F(LayerConverterTest, opaque_marker_counts_wherever_it_stands) {
  for (const bool first : {true, false}) {
    TarBuilder tar;
    if (first) tar.whiteout("d/.wh..wh..opq");
    tar.dir("d", 0700).file("d/f", "x");
    if (!first) tar.whiteout("d/.wh..wh..opq");
    const auto contents = read_above(tar.finish());
    EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/f"));
    EXPECT_EQ(contents.at("d").xattrs.at("trusted.overlay.opaque"), "y");
    EXPECT_EQ(contents.at("d").mode, S_IFDIR | 0700U);
    EXPECT_FALSE(last_.hides_lower_layers);
  }
}

TEST_F(LayerConverterTest, opaque_mark_joins_other_attributes) {
  TarBuilder tar;
  tar.add({.name = "d", .type = '5', .pax = {{"SCHILY.xattr.user.x", "1"}}});
  tar.add({.name = "e", .type = '5', .pax = {{"SCHILY.xattr.user.x", "1"}}});
  tar.whiteout("d/.wh..wh..opq");
  const auto contents = read_above(tar.finish());
  EXPECT_EQ(contents.at("d").xattrs.size(), 2U);
  EXPECT_EQ(contents.at("e").xattrs.size(), 1U);
}

TEST_F(LayerConverterTest, base_keeps_no_whiteouts) {
  TarBuilder tar;
  tar.whiteout(".wh.a").whiteout("d/.wh.b").whiteout("d/.wh..wh..opq").whiteout(".wh..wh..opq");
  tar.file("d/c", "x").device("dev", '3', 0, 0);
  const auto contents = read({tar.finish()});
  EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/c"));
  EXPECT_TRUE(contents.at("d").xattrs.empty());
}

TEST_F(LayerConverterTest, whiteouts_below_an_opaque_directory_vanish) {
  TarBuilder tar;
  tar.whiteout("d/.wh..wh..opq")
      .whiteout("d/.wh.x")
      .whiteout("d/e/.wh.y")
      .whiteout("d/e/.wh..wh..opq");
  const auto contents = read_above(tar.finish());
  EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/e"));
  EXPECT_TRUE(contents.at("d/e").xattrs.empty());
}

TEST_F(LayerConverterTest, whiteout_beside_its_name_only_hides_lower_layers) {
  // Spec: a file of the same layer is never hidden, whatever the order.
  for (const bool first : {true, false}) {
    TarBuilder tar;
    if (first) tar.whiteout(".wh.f").whiteout(".wh.d");
    tar.file("f", "new").file("d/in", "new");
    if (!first) tar.whiteout(".wh.f").whiteout(".wh.d");
    const auto contents = read_above(tar.finish());
    EXPECT_THAT(paths(contents), ElementsAre("", "d", "d/in", "f"));
    EXPECT_EQ(contents.at("f").data, "new");
    EXPECT_EQ(contents.at("d").xattrs.at("trusted.overlay.opaque"), "y");
  }
}

TEST_F(LayerConverterTest, null_device_in_a_layer_is_a_whiteout) {
  const auto contents = read_above(TarBuilder().device("x", '3', 0, 0).finish());
  EXPECT_EQ(contents.at("x").mode, S_IFCHR);
}

TEST_F(LayerConverterTest, opaque_root_hides_all_lower_layers) {
  read_above(TarBuilder().whiteout(".wh..wh..opq").file("a", "").finish());
  EXPECT_TRUE(last_.hides_lower_layers);
}

TEST_F(LayerConverterTest, leftovers_of_aufs_are_dropped) {
  TarBuilder tar;
  tar.dir(".wh..wh.plnk").file(".wh..wh.aufs", "");
  EXPECT_THAT(paths(read_above(tar.finish())), ElementsAre(""));
}

// --- merging ---

// Of each KiB the first `random` bytes cannot be packed, the others to next to nothing.
std::string packable_text(std::size_t bytes, std::size_t random) {
  std::mt19937 source(1);  // NOLINT: the same each time
  std::string text(bytes, 'x');
  for (std::size_t i = 0; i < bytes; ++i) {
    if (i % 1024 < random) text[i] = static_cast<char>(source());
  }
  return text;
}

TEST_F(LayerConverterTest, blocks_are_packed_where_they_get_much_smaller) {
  constexpr std::size_t kMiB = 1 << 20;
  const std::string hardly = packable_text(kMiB, 384), well = packable_text(kMiB, 128);
  EXPECT_EQ(read({TarBuilder().file("f", hardly).finish()}).at("f").data, hardly);
  EXPECT_GT(last_.image_size, kMiB);
  EXPECT_EQ(read({TarBuilder().file("f", well).finish()}).at("f").data, well);
  EXPECT_LT(last_.image_size, kMiB / 2);
}

// Older libraries refuse to look into a whole block of ends of files that is not packed.
TEST_F(LayerConverterTest, ends_of_files_fill_whole_blocks) {
  TarBuilder tar;
  constexpr int kFiles = 640;
  const auto data = [](int i) { return pattern(4096, static_cast<std::uint32_t>(1000 + i)); };
  for (int i = 0; i < kFiles; ++i) tar.file("f" + std::to_string(i), data(i));
  const auto size = read({tar.finish()}).size();
  EXPECT_EQ(size, kFiles + 1U);
  const auto without = last_.image_size;
  tar.file("again", data(3));
  const auto contents = read({tar.finish()});
  EXPECT_EQ(contents.at("again").data, data(3));
  EXPECT_EQ(contents.at("f639").data, data(639));
  EXPECT_LE(last_.image_size, without + 4096);  // the same end of a file is kept once
}

TEST_F(LayerConverterTest, merged_layers_hide_and_replace) {
  TarBuilder base;
  base.dir("etc", 0700).file("etc/a", "base").file("etc/b", "base").file("gone", "x");
  base.file("full/x", "1").file("full/y", "1").symlink("lib", "usr/lib").dir("keep", 01777);
  base.file("tree/deep/f", "1").hard_link("hard", "etc/a").file("filedir", "file");
  TarBuilder middle;
  middle.file("etc/a", "middle").whiteout(".wh.gone").whiteout("full/.wh..wh..opq");
  middle.file("full/z", "2").file("lib/x", "2").file("keep/in", "2").whiteout(".wh.tree");
  middle.file("tree/new", "2").file("filedir/in", "2").whiteout("never/.wh.was");
  TarBuilder top;
  top.whiteout("etc/.wh.b").dir("etc", 0711).file("full", "now a file").file("gone", "back");
  const auto contents = read({base.finish(), middle.finish(), top.finish()});
  EXPECT_THAT(paths(contents),
              ElementsAre("", "etc", "etc/a", "filedir", "filedir/in", "full", "gone", "hard",
                          "keep", "keep/in", "lib", "lib/x", "never", "tree", "tree/new"));
  EXPECT_EQ(contents.at("etc/a").data, "middle");
  EXPECT_EQ(contents.at("etc").mode, S_IFDIR | 0711U);
  EXPECT_EQ(contents.at("full").data, "now a file");
  EXPECT_EQ(contents.at("gone").data, "back");
  EXPECT_EQ(contents.at("hard").data, "base");
  EXPECT_EQ(contents.at("hard").links, 1U);
  EXPECT_EQ(contents.at("keep").mode, S_IFDIR | 01777U);
  EXPECT_EQ(contents.at("lib").mode, S_IFDIR | 0755U);
  for (const auto& [path, item] : contents) EXPECT_TRUE(item.xattrs.empty()) << path;
}

TEST_F(LayerConverterTest, merge_keeps_attributes_apart) {
  TarBuilder base;
  base.add({.name = "a", .pax = {{"SCHILY.xattr.user.n", "base"}}});
  TarBuilder top;
  top.add({.name = "b", .pax = {{"SCHILY.xattr.user.n", "top"}}});
  const auto contents = read({base.finish(), top.finish()});
  EXPECT_EQ(contents.at("a").xattrs.at("user.n"), "base");
  EXPECT_EQ(contents.at("b").xattrs.at("user.n"), "top");
}

// --- refusals ---

struct Refusal {
  std::string what;
  std::string tar;
  Code code;
  std::string says;
};

std::vector<Refusal> refusals() {
  const auto one = [](TarBuilder& tar) { return tar.finish(); };
  const auto of = [&](auto fill) {
    TarBuilder tar;
    fill(tar);
    return one(tar);
  };
  using T = TarBuilder&;
  return {
      {"absolute", of([](T t) { t.file("/etc/passwd", ""); }), Code::kCorrupt, "absolute"},
      {"dotdot", of([](T t) { t.file("a/../../x", ""); }), Code::kCorrupt, "outside"},
      {"dotdot last", of([](T t) { t.dir("a/.."); }), Code::kCorrupt, "outside"},
      {"pax dotdot", of([](T t) {
         t.add({.name = "x", .pax = {{"path", "../y"}}});
       }),
       Code::kCorrupt, "outside"},
      {"gnu dotdot", of([](T t) { t.add_gnu_long({.name = "../y"}); }), Code::kCorrupt, "outside"},
      {"long component", of([](T t) { t.file(std::string(256, 'a'), ""); }), Code::kLimit, "255"},
      {"long path", of([](T t) {
         std::string name;
         for (int i = 0; i < 2100; ++i) name += "a/";
         t.file(name + "b", "");
       }),
       Code::kLimit, "4096"},
      {"symlinked parent", of([](T t) { t.symlink("l", "/etc").file("l/passwd", ""); }),
       Code::kCorrupt, "symbolic link"},
      {"symlinked grandparent", of([](T t) { t.symlink("l", "..").file("l/a/b", ""); }),
       Code::kCorrupt, "symbolic link"},
      {"whiteout behind symlink", of([](T t) { t.symlink("l", "..").whiteout("l/.wh.x"); }),
       Code::kCorrupt, "symbolic link"},
      {"file as parent", of([](T t) { t.file("f", "").file("f/x", ""); }), Code::kCorrupt,
       "not a directory"},
      {"hard link outside", of([](T t) { t.hard_link("x", "../../etc/shadow"); }), Code::kCorrupt,
       "not a path inside"},
      {"hard link absolute", of([](T t) { t.hard_link("x", "/etc/shadow"); }), Code::kCorrupt,
       "not a path inside"},
      {"hard link missing", of([](T t) { t.hard_link("x", "nowhere"); }), Code::kCorrupt,
       "does not exist"},
      {"hard link later", of([](T t) { t.hard_link("x", "y").file("y", ""); }), Code::kCorrupt,
       "does not exist"},
      {"hard link to directory", of([](T t) { t.dir("d").hard_link("x", "d"); }), Code::kCorrupt,
       "is a directory"},
      {"hard link to root", of([](T t) { t.hard_link("x", "./"); }), Code::kCorrupt,
       "is a directory"},
      {"hard link through symlink",
       of([](T t) { t.file("d/f", "").symlink("l", "d").hard_link("x", "l/f"); }), Code::kCorrupt,
       "symbolic link"},
      {"hard link below file", of([](T t) { t.file("f", "").hard_link("x", "f/g"); }),
       Code::kCorrupt, "does not exist"},
      {"hard link to whiteout", of([](T t) { t.whiteout(".wh.f").hard_link("x", "f"); }),
       Code::kCorrupt, "does not exist"},
      {"root as file", of([](T t) { t.file("./.", "x"); }), Code::kCorrupt, "root directory"},
      {"empty symlink", of([](T t) { t.symlink("l", ""); }), Code::kCorrupt, "no target"},
      {"long symlink", of([](T t) { t.symlink("l", std::string(4096, 'x')); }), Code::kLimit,
       "4095"},
      {"empty whiteout", of([](T t) { t.whiteout(".wh."); }), Code::kCorrupt, "names no file"},
      {"whiteout of dot", of([](T t) { t.whiteout("d/.wh.."); }), Code::kCorrupt, "names no file"},
      {"whiteout of dotdot", of([](T t) { t.whiteout("d/.wh..."); }), Code::kCorrupt,
       "names no file"},
      {"below whiteout", of([](T t) { t.file(".wh.d/x", ""); }), Code::kCorrupt,
       "below a whiteout"},
      {"huge uid", of([](T t) { t.add({.name = "x", .uid = 0xFFFFFFFF}); }), Code::kLimit, "owner"},
      {"negative gid", of([](T t) { t.add({.name = "x", .gid = -1}); }), Code::kLimit, "owner"},
      {"huge device", of([](T t) { t.device("x", '3', 4096, 0); }), Code::kLimit, "device number"},
      {"huge xattr", of([](T t) {
         t.add({.name = "x", .pax = {{"SCHILY.xattr.user.x", std::string(70'000, 'v')}}});
       }),
       Code::kLimit, "extended attribute"},
      {"long xattr name", of([](T t) {
         t.add({.name = "x", .pax = {{"SCHILY.xattr.user." + std::string(300, 'n'), "v"}}});
       }),
       Code::kLimit, "extended attribute"},
      {"absurd size", of([](T t) { t.add({.name = "x", .size = std::int64_t{1} << 60}); }),
       Code::kLimit, "exceed"},
      {"absurd sparse size", of([](T t) {
         t.add({.name = "x",
                .data = std::string("0\n") + std::string(510, '\0'),
                .pax = {{"GNU.sparse.major", "1"},
                        {"GNU.sparse.minor", "0"},
                        {"GNU.sparse.name", "x"},
                        {"GNU.sparse.realsize", "9000000000000000000"}}});
       }),
       Code::kLimit, "exceed"},
      {"truncated data", TarBuilder().add({.name = "x", .size = 5000}).bytes(), Code::kCorrupt,
       "tar stream"},
      {"truncated header", TarBuilder().file("x", "y").bytes().substr(0, 300), Code::kCorrupt,
       "tar stream"},
      {"noise", std::string(2048, '\x5A'), Code::kCorrupt, "tar stream"},
      {"malformed pax",
       of([](T t) { t.add({.name = "p", .type = 'x', .data = "99 path=oops\n"}).file("x", ""); }),
       Code::kCorrupt, "tar stream"},
      {"huge pax", of([](T t) {
         t.add({.name = "p", .type = 'x', .data = std::string(2U << 20U, 'x')}).file("x", "");
       }),
       Code::kLimit, "tar stream"},
  };
}

TEST_F(LayerConverterTest, hostile_archives_are_refused_by_name) {
  for (const auto& refusal : refusals()) {
    SCOPED_TRACE(refusal.what);
    const auto error = error_of({refusal.tar});
    EXPECT_EQ(error.code(), refusal.code) << error.text();
    EXPECT_THAT(error.cause(), HasSubstr(refusal.says));
    EXPECT_THAT(error.cause(), HasSubstr("layer 0: "));
    EXPECT_EQ(error.cause().find('\n'), std::string::npos);
  }
}

TEST_F(LayerConverterTest, names_in_errors_carry_no_control_characters) {
  const auto error = error_of({TarBuilder().file("/a\x1B[2J\nb", "").finish()});
  EXPECT_THAT(error.cause(), HasSubstr("\\x1b[2J\\x0ab"));
}

TEST_F(LayerConverterTest, limits_on_entries_bytes_and_attributes_hold) {
  TarBuilder many;
  for (int i = 0; i < 50; ++i) many.file("d" + std::to_string(i) + "/f", "x");
  ConvertOptions options;
  options.tree.max_names = 100;
  EXPECT_TRUE(convert({many.finish()}, "image", options).has_value());
  options.tree.max_names = 99;
  EXPECT_EQ(error_of({many.finish()}, options).code(), Code::kLimit);

  TarBuilder links;
  links.file("f", "");
  for (int i = 0; i < 200; ++i) links.hard_link("l" + std::to_string(i), "f");
  EXPECT_EQ(error_of({links.finish()}, options).code(), Code::kLimit);

  TarBuilder whiteouts;
  for (int i = 0; i < 200; ++i) whiteouts.whiteout(".wh." + std::to_string(i));
  EXPECT_EQ(error_of({whiteouts.finish()}, options).code(), Code::kLimit);

  options = {};
  options.max_file_bytes = 10;
  const auto two = TarBuilder().file("a", "12345").file("b", "123456").finish();
  EXPECT_EQ(error_of({two}, options).code(), Code::kLimit);
  options.max_file_bytes = 11;
  EXPECT_TRUE(convert({two}, "image", options).has_value());

  options = {};
  options.tree.max_xattr_bytes = 1000;
  TarBuilder xattrs;
  for (int i = 0; i < 20; ++i) {
    xattrs.add({.name = std::to_string(i), .pax = {{"SCHILY.xattr.user.x", "v"}}});
  }
  EXPECT_EQ(error_of({xattrs.finish()}, options).code(), Code::kLimit);
}

TEST_F(LayerConverterTest, limits_hold_over_merged_layers) {
  TarBuilder tar;
  for (int i = 0; i < 30; ++i) tar.file(std::to_string(i), "x");
  ConvertOptions options;
  options.tree.max_names = 50;
  EXPECT_EQ(error_of({tar.finish(), tar.finish()}, options).code(), Code::kLimit);
}

TEST_F(LayerConverterTest, stop_request_ends_entries_and_holes) {
  std::stop_source stop;
  stop.request_stop();
  ConvertOptions options;
  options.stop = stop.get_token();
  EXPECT_EQ(error_of({TarBuilder().file("a", "x").finish()}, options).code(), Code::kGone);
}

TEST_F(LayerConverterTest, full_disk_is_a_clean_error) {
  ConvertOptions options;
  options.squashfs.keep_free = std::uint64_t{1} << 60;
  const auto error = error_of({TarBuilder().file("a", "x").finish()}, options);
  EXPECT_EQ(error.code(), Code::kIo);
  EXPECT_THAT(error.cause(), HasSubstr("No space left"));
}

}  // namespace
}  // namespace sm
