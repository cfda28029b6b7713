#include "common/boot_config.h"

#include <gtest/gtest.h>

namespace sm::guest {
namespace {

std::string cause_of(std::string_view text) {
  const auto config = parse_boot_config(text);
  EXPECT_FALSE(config.has_value()) << text;
  return config ? "" : config.error().cause();
}

TEST(BootConfig, VersionAloneGivesTheDefaults) {
  const auto config = parse_boot_config(R"({"version":1})");
  ASSERT_TRUE(config.has_value());
  EXPECT_TRUE(config->layers.empty());
  EXPECT_EQ(config->hostname, "supermachine");
  EXPECT_EQ(config->shm_bytes, 64u << 20);
  EXPECT_EQ(config->upper_bytes, 0u);
}

TEST(BootConfig, AllKeysAreTaken) {
  const auto config = parse_boot_config(R"({"version":1,"layers":["ro0","ro1"],"hostname":"web-1",
      "env":["A=b","C=\"\n\u00e4="],"shm_bytes":1024,"upper_bytes":4096,"dns":["1.1.1.1","::1"],
      "hosts":[["10.0.0.1","db.local"]]})");
  ASSERT_TRUE(config.has_value()) << config.error().text();
  EXPECT_EQ(config->layers, (std::vector<std::string>{"ro0", "ro1"}));
  EXPECT_EQ(config->hostname, "web-1");
  EXPECT_EQ(config->env[1], "C=\"\n\xc3\xa4=");
  EXPECT_EQ(config->shm_bytes, 1024u);
  EXPECT_EQ(config->upper_bytes, 4096u);
  EXPECT_EQ(config->dns[1], "::1");
  EXPECT_EQ(config->hosts[0].name, "db.local");
}

TEST(BootConfig, UnknownKeyIsNamed) {
  EXPECT_EQ(cause_of(R"({"version":1,"lairs":[]})"),
            "boot configuration: \"lairs\" is not a known key");
}

TEST(BootConfig, VersionMustBeThereAndKnown) {
  EXPECT_NE(cause_of("{}").find("version"), std::string::npos);
  EXPECT_NE(cause_of(R"({"version":"1"})").find("version"), std::string::npos);
  EXPECT_NE(cause_of(R"({"version":2})").find("version 2"), std::string::npos);
}

TEST(BootConfig, NotJsonOrNotAnObject) {
  cause_of("");
  cause_of("[]");
  cause_of("{\"version\":1");
  cause_of("{\"version\":1}{");
  cause_of(std::string(100000, '['));
}

TEST(BootConfig, BadValuesAreRefused) {
  for (const char* text : {
           R"({"version":1,"layers":"ro0"})",
           R"({"version":1,"layers":[1]})",
           R"({"version":1,"layers":[""]})",
           R"({"version":1,"layers":["a/b"]})",
           R"({"version":1,"layers":["a","a"]})",
           R"({"version":1,"late_disks":"root"})",
           R"({"version":1,"late_disks":["a/b"]})",
           R"({"version":1,"late_disks":["a","a"]})",
           R"({"version":1,"layers":["a"],"late_disks":["b","a"]})",
           R"({"version":1,"late_disks":["a"],"layers":["a"]})",
           R"({"version":1,"layers":["123456789012345678901"]})",
           R"({"version":1,"hostname":""})",
           R"({"version":1,"hostname":"a\nb"})",
           R"({"version":1,"hostname":"a b"})",
           R"({"version":1,"env":["novalue"]})",
           R"({"version":1,"env":["=x"]})",
           R"({"version":1,"env":["A=\u0000"]})",
           R"({"version":1,"shm_bytes":-1})",
           R"({"version":1,"shm_bytes":1.5})",
           R"({"version":1,"shm_bytes":"64m"})",
           R"({"version":1,"upper_bytes":99999999999999999999})",
           R"({"version":1,"dns":["example.org"]})",
           R"({"version":1,"dns":["1.1.1.1\nx"]})",
           R"({"version":1,"dns":["1.1.1.1\u0000"]})",
           R"({"version":1,"hosts":[["1.1.1.1"]]})",
           R"({"version":1,"hosts":[["1.1.1.1","a","b"]]})",
           R"({"version":1,"hosts":[["x","a"]]})",
           R"({"version":1,"hosts":{}})",
       }) {
    cause_of(text);
  }
}

}  // namespace
}  // namespace sm::guest
