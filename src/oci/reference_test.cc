// Image references.
#include "oci/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sm {
namespace {

using ::testing::HasSubstr;

bool nothing_exists(const std::string&) { return false; }
bool colon_folder_exists(const std::string& path) { return path == "/img" || path == "/img:a"; }

TEST(ReferenceTest, transports_paths_and_tags) {
  const auto layout = parse_reference("oci:/some/dir:v1", &nothing_exists);
  ASSERT_TRUE(layout.has_value());
  EXPECT_EQ(layout->transport, Transport::kOciLayout);
  EXPECT_EQ(layout->path, "/some/dir");
  EXPECT_EQ(layout->tag, "v1");
  EXPECT_EQ(layout->text(), "oci:/some/dir:v1");

  const auto archive = parse_reference("oci-archive:a.tar", &nothing_exists);
  ASSERT_TRUE(archive.has_value());
  EXPECT_EQ(archive->transport, Transport::kOciArchive);
  EXPECT_EQ(archive->path, "a.tar");
  EXPECT_EQ(archive->tag, "");

  const auto docker = parse_reference("docker-archive:x.tar:localhost:5000/a:b", &nothing_exists);
  ASSERT_TRUE(docker.has_value());
  EXPECT_EQ(docker->transport, Transport::kDockerArchive);
  EXPECT_EQ(docker->path, "x.tar");
  EXPECT_EQ(docker->tag, "localhost:5000/a:b");
}

TEST(ReferenceTest, longest_existing_path_wins) {
  EXPECT_EQ(parse_reference("oci:/img:a:b", &colon_folder_exists)->path, "/img:a");
  EXPECT_EQ(parse_reference("oci:/img:a:b", &colon_folder_exists)->tag, "b");
  EXPECT_EQ(parse_reference("oci:/img:a", &colon_folder_exists)->path, "/img:a");
  EXPECT_EQ(parse_reference("oci:/img:a", &colon_folder_exists)->tag, "");
  EXPECT_EQ(parse_reference("oci:/img:c", &colon_folder_exists)->path, "/img");
  EXPECT_EQ(parse_reference("oci:/none:c:d", &colon_folder_exists)->tag, "c:d");
}

TEST(ReferenceTest, names_of_registries_are_told_apart) {
  for (const auto* text :
       {"busybox", "docker.io/library/busybox:1.36", "oci/oci:1", "localhost:5000/x"}) {
    EXPECT_FALSE(is_local_reference(text));
    const auto reference = parse_reference(text, &nothing_exists);
    ASSERT_FALSE(reference.has_value());
    EXPECT_EQ(reference.error().code(), Code::kUnsupported);
  }
  for (const auto* text :
       {"oci:x", "oci-archive:", "docker-archive:a:b", "/img", "./img", "../img", "dir:/x"}) {
    EXPECT_TRUE(is_local_reference(text)) << text;
  }
}

TEST(ReferenceTest, unusable_texts_are_refused) {
  const std::string nul("oci:a\0b", 7);
  for (const auto& text : {std::string(), std::string("oci:"), std::string("oci::tag"),
                           std::string("oci:a:"), nul, "oci:" + std::string(9000, 'x')}) {
    const auto reference = parse_reference(text, &nothing_exists);
    ASSERT_FALSE(reference.has_value()) << text;
    EXPECT_EQ(reference.error().code(), Code::kInvalidArgument);
    EXPECT_FALSE(reference.error().remedy().empty());
  }
  EXPECT_EQ(parse_reference("dir:/x", &nothing_exists).error().code(), Code::kUnsupported);
  EXPECT_THAT(parse_reference("/img", &colon_folder_exists).error().remedy(), HasSubstr("oci:"));
}

}  // namespace
}  // namespace sm
