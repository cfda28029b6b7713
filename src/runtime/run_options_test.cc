#include "runtime/run_options.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

std::optional<std::string> host_env(const std::string& name) {
  if (name == "HOST_VAR") return "from host";
  return std::nullopt;
}

ImageConfig image() {
  ImageConfig c;
  c.entrypoint = {"/entry", "e"};
  c.cmd = {"cmd"};
  c.env = {"PATH=/bin", "A=image"};
  c.working_dir = "/srv";
  c.user = "app";
  return c;
}

using Words = std::vector<std::string>;

Words argv(const RunOptions& options, const ImageConfig& config = image()) {
  return make_request(options, config, {}, host_env).value().argv;
}

TEST(MakeRequest, entrypoint_and_cmd_follow_docker) {
  EXPECT_EQ(argv({}), (Words{"/entry", "e", "cmd"}));
  EXPECT_EQ(argv({.command = {"x", "y"}}), (Words{"/entry", "e", "x", "y"}));
  RunOptions o;
  o.entrypoint = "/other";
  EXPECT_EQ(argv(o), (Words{"/other"}));
  o.command = {"x"};
  EXPECT_EQ(argv(o), (Words{"/other", "x"}));
  o.entrypoint = "";
  EXPECT_EQ(argv(o), (Words{"x"}));
}

TEST(MakeRequest, an_image_without_command_needs_one) {
  EXPECT_EQ(make_request({}, ImageConfig{}, {}, host_env).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(argv({.command = {"sh"}}, ImageConfig{}), (Words{"sh"}));
}

TEST(MakeRequest, later_sources_of_a_variable_win) {
  RunOptions o;
  o.env = {"A=flag", "HOST_VAR", "UNSET_ON_HOST", "EMPTY="};
  const auto q = make_request(o, image(), {"A=file", "B=file"}, host_env).value();
  EXPECT_EQ(q.env, (Words{"PATH=/bin", "A=flag", "B=file", "HOST_VAR=from host", "EMPTY="}));
}

TEST(MakeRequest, user_and_folder_come_from_the_flags_or_the_image) {
  const auto q = make_request({}, image(), {}, host_env).value();
  EXPECT_EQ(q.user, "app");
  EXPECT_EQ(q.cwd, "/srv");
  RunOptions o;
  o.user = "0:0";
  o.workdir = "/w";
  EXPECT_EQ(make_request(o, image(), {}, host_env).value().cwd, "/w");
  EXPECT_EQ(make_request(o, image(), {}, host_env).value().user, "0:0");
  o.workdir = "relative";
  EXPECT_FALSE(make_request(o, image(), {}, host_env));
  EXPECT_EQ(make_request({.command = {"x"}}, ImageConfig{}, {}, host_env).value().cwd, "/");
}

TEST(MakeRequest, a_nameless_variable_is_refused) {
  for (const char* entry : {"", "=x"}) {
    EXPECT_FALSE(make_request({.env = {entry}}, image(), {}, host_env)) << entry;
  }
}

TEST(ParseEnvFile, keeps_values_verbatim_and_skips_comments) {
  const auto r = parse_env_file("# c\n\nA=1 2\r\n  B=\"q\"\nHOST_VAR\nUNSET\nC=", "f", host_env);
  EXPECT_EQ(r.value(), (Words{"A=1 2", "B=\"q\"", "HOST_VAR=from host", "C="}));
  const auto bad = parse_env_file("A=1\n=x\n", "f", host_env);
  EXPECT_NE(bad.error().cause().find("f, line 2"), std::string::npos);
}

TEST(ParseMemorySize, takes_dockers_units_and_refuses_the_rest) {
  EXPECT_EQ(parse_memory_size("512m").value(), 512ull << 20);
  EXPECT_EQ(parse_memory_size("1G").value(), 1ull << 30);
  EXPECT_EQ(parse_memory_size("67108864").value(), 64ull << 20);
  EXPECT_EQ(parse_memory_size("67108865b").value(), 65ull << 20);
  for (const char* text : {"", "m", "-1", "1.5g", "12x", "63m", "99999999999999999999", "2000g",
                           "18446744073709551615g"}) {
    EXPECT_FALSE(parse_memory_size(text)) << text;
  }
}

}  // namespace
}  // namespace sm
