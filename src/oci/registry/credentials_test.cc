// Auth files and helpers.
#include "oci/registry/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "oci/registry/registry_config.h"
#include "oci/testing/image_builder.h"
#include "oci/testing/temp_dir.h"

namespace sm {
namespace {

using ::testing::HasSubstr;

// A helper that runs a shell script, found through PATH.
class HelperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("PATH");
    before_ = path == nullptr ? "" : path;
    ASSERT_EQ(::setenv("PATH", (folder_.path() + ":" + before_).c_str(), 1), 0);
    testing::write_file(folder_ / "config.json", R"({"credsStore":"test"})");
  }
  void TearDown() override { ::setenv("PATH", before_.c_str(), 1); }
  void script(const std::string& text) {
    const auto path = folder_ / "docker-credential-test";
    testing::write_file(path, "#!/bin/sh\n" + text + "\n");
    ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  }
  Result<std::optional<Credential>> find(Duration limit = std::chrono::seconds(30)) {
    return CredentialStore({folder_ / "config.json"}, limit).find("reg.example", "a/b");
  }
  testing::TempDir folder_;
  std::string before_;
};

TEST_F(HelperTest, is_asked_with_the_server_on_its_input) {
  script(
      R"(read server; test "$1 $server" = "get reg.example" && echo '{"ServerURL":"x","Username":"me","Secret":"s3cret"}')");
  const auto found = find();
  ASSERT_TRUE(found && *found) << found.error().text();
  EXPECT_EQ((*found)->user, "me");
  EXPECT_EQ((*found)->password, "s3cret");
}

TEST_F(HelperTest, may_give_an_identity_token) {
  script(R"(echo '{"Username":"<token>","Secret":"tok"}')");
  EXPECT_EQ((*find())->identity_token, "tok");
}

TEST_F(HelperTest, may_know_nothing) {
  script("echo 'credentials not found in native keychain'; exit 1");
  const auto found = find();
  ASSERT_TRUE(found.has_value()) << found.error().text();
  EXPECT_FALSE(found->has_value());
}

TEST_F(HelperTest, failures_name_the_helper) {
  script("echo 'store is locked'; exit 3");
  EXPECT_THAT(find().error().cause(), HasSubstr("docker-credential-test failed: store is locked"));
  script("echo nonsense");
  EXPECT_THAT(find().error().cause(), HasSubstr("docker-credential-test"));
  script("exec sleep 1000");
  EXPECT_EQ(find(std::chrono::milliseconds(100)).error().code(), Code::kTimeout);
  script("exec yes");
  EXPECT_EQ(find().error().code(), Code::kLimit);
  testing::write_file(folder_ / "config.json", R"({"credsStore":"is-not-there"})");
  EXPECT_EQ(find().error().code(), Code::kNotFound);
  testing::write_file(folder_ / "config.json", R"({"credsStore":"../../bin/sh"})");
  EXPECT_EQ(find().error().code(), Code::kInvalidArgument);
}

TEST(AuthFileTest, keys_in_all_their_forms) {
  // base64 of "u:p:q"
  const auto file = parse_auth_file(R"({"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnE="},
      "https://other.example/v2/":{"auth":"dTpwOnE="},"host:5000/team":{"username":"a","password":"b"},
      "empty.example":{}},"credHelpers":{"h.example":"pass"},"unknown":[1]})",
                                    "f");
  ASSERT_TRUE(file.has_value()) << file.error().text();
  EXPECT_EQ(file->auths.at("docker.io").user, "u");
  EXPECT_EQ(file->auths.at("docker.io").password, "p:q");
  EXPECT_TRUE(file->auths.contains("other.example"));
  EXPECT_FALSE(file->auths.contains("empty.example"));
  EXPECT_EQ(file->helpers.at("h.example"), "pass");
}

TEST(AuthFileTest, the_most_specific_entry_of_the_first_file) {
  testing::TempDir folder;
  testing::write_file(folder / "a", R"({"auths":{"h/x":{"username":"x","password":"1"}}})");
  testing::write_file(
      folder / "b",
      R"({"auths":{"h":{"username":"h","password":"1"},"h/y/z":{"username":"z","password":"1"}}})");
  const CredentialStore store({folder / "missing", folder / "a", folder / "b"});
  EXPECT_EQ((*store.find("h", "x/1"))->user, "x");
  EXPECT_EQ((*store.find("h", "y/z"))->user, "z");
  EXPECT_EQ((*store.find("h", "y"))->user, "h");
  EXPECT_FALSE(store.find("other", "x")->has_value());
}

TEST(AuthFileTest, nonsense_is_refused) {
  for (const auto* text :
       {"", "[]", R"({"auths":1})", R"({"auths":{"h":{"auth":"!"}}})",
        R"({"auths":{"h":{"auth":"dXNlcg=="}}})", R"({"credsStore":"a/b"})",
        R"({"credHelpers":{"h":1}})", R"({"auths":{"h":{"username":"a\r\nb","password":"x"}}})"}) {
    EXPECT_FALSE(parse_auth_file(text, "f").has_value()) << text;
  }
}

TEST(RegistryConfigTest, fields_and_their_mistakes) {
  const auto config =
      parse_registry_config(R"({"registries":{"docker.io":{"mirrors":["https://m.example/cache/"]},
      "host:5000":{"plain_http":true,"ca_file":"/x.pem"}},"parallel_downloads":2})",
                            "f");
  ASSERT_TRUE(config.has_value()) << config.error().text();
  EXPECT_EQ(config->of("docker.io").mirrors.at(0), "https://m.example/cache");
  EXPECT_TRUE(config->of("host:5000").plain_http);
  EXPECT_FALSE(config->of("unknown").plain_http);
  EXPECT_EQ(config->parallel_downloads, 2U);
  for (const auto* text :
       {"[]", R"({"registry":{}})", R"({"registries":{"a b":{}}})",
        R"({"registries":{"h":{"insecure":true}}})", R"({"registries":{"h":{"plain_http":1}}})",
        R"({"registries":{"h":{"mirrors":["ftp://x"]}}})",
        R"({"registries":{"h":{"mirrors":["https://user@x"]}}})", R"({"parallel_downloads":0})",
        R"({"push_chunk_bytes":5})"}) {
    EXPECT_FALSE(parse_registry_config(text, "f").has_value()) << text;
  }
}

}  // namespace
}  // namespace sm
