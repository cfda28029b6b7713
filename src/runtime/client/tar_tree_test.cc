#include "runtime/client/tar_tree.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/file.h"
#include "oci/testing/tar_builder.h"
#include "oci/testing/text_stream.h"

namespace sm {
namespace {

namespace fs = std::filesystem;
using testing::TarBuilder;

class TarTreeTest : public ::testing::Test {
 protected:
  TarTreeTest() {
    char name[] = "/tmp/tar-tree-XXXXXX";
    dir_ = ::mkdtemp(name);
    fs::create_directory(dir_ + "/in");
    fs::create_directory(dir_ + "/secret");
    std::ofstream(dir_ + "/secret/file") << "old";
  }
  ~TarTreeTest() override { fs::remove_all(dir_); }

  Result<Unpacked> unpack(const TarBuilder& tar, const std::string& name = "new") {
    testing::TextStream stream(tar.finish());
    return unpack_tree(stream, dir_ + "/in", name);
  }
  std::string text(const std::string& path) const {
    std::ostringstream out;
    out << std::ifstream(dir_ + "/" + path).rdbuf();
    return out.str();
  }

  std::string dir_;
};

TEST_F(TarTreeTest, ATreeGetsItsName) {
  const auto done = unpack(TarBuilder()
                               .dir("./old/", 0555)
                               .file("./old/a", "A", 04755)
                               .symlink("old/link", "../../secret/file")
                               .hard_link("old/same", "./old/a")
                               .device("old/null", '3', 1, 3)
                               .file("old/deep/er/b", "B"));
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(done->files, 2u);
  EXPECT_EQ(done->skipped, 1u);
  EXPECT_EQ(text("in/new/a"), "A");
  EXPECT_EQ(text("in/new/same"), "A");
  EXPECT_EQ(text("in/new/deep/er/b"), "B");
  EXPECT_EQ(fs::read_symlink(dir_ + "/in/new/link"), "../../secret/file");
  EXPECT_EQ(fs::status(dir_ + "/in/new/a").permissions(), fs::perms(0755));
  EXPECT_EQ(fs::status(dir_ + "/in/new").permissions(), fs::perms(0555));
}

TEST_F(TarTreeTest, AHostileArchiveStaysInside) {
  const TarBuilder bad[] = {
      TarBuilder().file("../secret/file", "evil"),
      TarBuilder().file("/etc/evil", "evil"),
      TarBuilder().file("x/../../secret/file", "evil"),
      TarBuilder().dir("x").symlink("x/out", "../../secret").file("x/out/file", "evil"),
      TarBuilder().symlink("x", "../secret").file("x/file", "evil"),
      TarBuilder().dir("x").symlink("x/s", dir_ + "/secret").hard_link("x/h", "x/s/file"),
      TarBuilder().dir("x").hard_link("x/h", "../secret/file"),
      TarBuilder().dir("x").file("y/beside", "evil"),
  };
  for (const TarBuilder& tar : bad) {
    EXPECT_FALSE(unpack(tar));
    EXPECT_EQ(text("secret/file"), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_ + "/secret"), {}), 1);
    EXPECT_FALSE(fs::exists(dir_ + "/in/y"));
    fs::remove_all(dir_ + "/in");
    fs::create_directory(dir_ + "/in");
  }
}

TEST_F(TarTreeTest, LinksAreReplacedNotFollowed) {
  ASSERT_TRUE(unpack(TarBuilder().dir("x").symlink("x/f", "../../secret/file").file("x/f", "new")));
  EXPECT_EQ(text("in/new/f"), "new");
  EXPECT_EQ(text("secret/file"), "old");
  fs::create_symlink("../secret/file", dir_ + "/in/one");
  ASSERT_TRUE(unpack(TarBuilder().file("f", "mine"), "one"));
  EXPECT_EQ(text("in/one"), "mine");
  EXPECT_EQ(text("secret/file"), "old");
}

TEST_F(TarTreeTest, WhatIsPackedComesBack) {
  fs::create_directories(dir_ + "/src/sub");
  std::ofstream(dir_ + "/src/sub/file") << "content";
  fs::create_symlink("sub/file", dir_ + "/src/link");
  const std::string tar = dir_ + "/tar";
  const UniqueFd out = open_file(tar, O_WRONLY | O_CREAT).value();
  const auto packed = pack_tree(dir_ + "/src", "named", out.get());
  ASSERT_TRUE(packed) << packed.error().text();
  testing::TextStream stream(read_file(tar, 1u << 20).value());
  ASSERT_TRUE(unpack_tree(stream, dir_ + "/in", "back"));
  EXPECT_EQ(text("in/back/sub/file"), "content");
  EXPECT_EQ(fs::read_symlink(dir_ + "/in/back/link"), "sub/file");
}

TEST_F(TarTreeTest, WithoutANameTheEntriesComeThemselves) {
  fs::create_directories(dir_ + "/src/sub");
  std::ofstream(dir_ + "/src/sub/file") << "content";
  std::ofstream(dir_ + "/src/other") << "more";
  const std::string tar = dir_ + "/tar";
  const UniqueFd out = open_file(tar, O_WRONLY | O_CREAT).value();
  ASSERT_TRUE(pack_tree(dir_ + "/src/", "", out.get()));
  testing::TextStream stream(read_file(tar, 1u << 20).value());
  ASSERT_TRUE(unpack_tree(stream, dir_ + "/in", ""));
  EXPECT_EQ(text("in/sub/file"), "content");
  EXPECT_EQ(text("in/other"), "more");
  ASSERT_TRUE(unpack(TarBuilder().dir("./").file("./third", "3"), ""));
  EXPECT_EQ(text("in/third"), "3");
  EXPECT_FALSE(unpack(TarBuilder().file("../secret/file", "evil"), ""));
  EXPECT_FALSE(unpack(TarBuilder().symlink("x", "../secret").file("x/file", "evil"), ""));
  EXPECT_FALSE(unpack(TarBuilder().hard_link("h", "./"), ""));
  EXPECT_EQ(text("secret/file"), "old");
}

}  // namespace
}  // namespace sm
