#include "runtime/bake/saved_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sm {
namespace {

SavedImage image() {
  SavedImage out;
  out.reference = "oci:/image:tag";
  out.digest = "sha256:abc";
  out.config.user = "user:group";
  out.config.env = {"A=1", "B=two words\n\"quoted\""};
  out.config.entrypoint = {"/bin/sh", "-c"};
  out.config.cmd = {"echo $A"};
  out.config.working_dir = "/srv";
  out.layers = {"base.squashfs", "top.squashfs"};
  out.workload = true;
  return out;
}

std::string text_of(const SavedImage& saved) {
  return saved_annotations(saved).value().at("image-config");
}

TEST(SavedMachine, image_survives_the_round_trip) {
  const SavedImage out = parse_saved_image(text_of(image())).value();
  EXPECT_EQ(out.reference, image().reference);
  EXPECT_EQ(out.digest, image().digest);
  EXPECT_EQ(out.config.user, image().config.user);
  EXPECT_EQ(out.config.env, image().config.env);
  EXPECT_EQ(out.config.entrypoint, image().config.entrypoint);
  EXPECT_EQ(out.config.cmd, image().config.cmd);
  EXPECT_EQ(out.config.working_dir, "/srv");
  EXPECT_EQ(out.layers, image().layers);
  EXPECT_TRUE(out.workload);
}

TEST(SavedMachine, what_a_workload_can_be_given_is_noted) {
  SavedImage saved = image();
  EXPECT_FALSE(parse_saved_image(text_of(saved)).value().input);
  EXPECT_FALSE(parse_saved_image(text_of(saved)).value().terminal);
  saved.input = true;
  EXPECT_TRUE(parse_saved_image(text_of(saved)).value().input);
  EXPECT_FALSE(parse_saved_image(text_of(saved)).value().terminal);
  saved.terminal = true;
  EXPECT_TRUE(parse_saved_image(text_of(saved)).value().terminal);
  auto wrong = nlohmann::json::parse(text_of(saved));
  wrong["input"] = "yes";
  EXPECT_THAT(parse_saved_image(wrong.dump()).error().cause(), ::testing::HasSubstr("input"));
}

TEST(SavedMachine, too_much_of_it_is_refused_before_anything_is_saved) {
  SavedImage big = image();
  big.config.env.push_back("BIG=" + std::string(100'000, 'x'));
  const auto annotations = saved_annotations(big);
  ASSERT_FALSE(annotations);
  EXPECT_EQ(annotations.error().code(), Code::kLimit);
}

TEST(SavedMachine, what_could_not_be_restored_is_refused_before_anything_is_saved) {
  SavedImage bytes = image();
  bytes.config.env.push_back("B=\xff");
  EXPECT_EQ(saved_annotations(bytes).error().code(), Code::kInvalidArgument);
  SavedImage deep = image();
  deep.config.working_dir = "/" + std::string(4096, 'x');
  EXPECT_EQ(saved_annotations(deep).error().code(), Code::kInvalidArgument);
  deep.config.working_dir.pop_back();
  EXPECT_TRUE(saved_annotations(deep));
}

TEST(SavedMachine, every_missing_or_wrong_member_is_named) {
  const auto whole = nlohmann::json::parse(text_of(image()));
  for (const auto& [key, value] : whole.items()) {
    auto without = whole;
    without.erase(key);
    EXPECT_FALSE(parse_saved_image(without.dump())) << key;
    auto wrong = whole;
    wrong[key] = 7;
    const auto parsed = parse_saved_image(wrong.dump());
    ASSERT_FALSE(parsed) << key;
    EXPECT_EQ(parsed.error().code(), Code::kCorrupt);
    EXPECT_THAT(parsed.error().cause(), ::testing::HasSubstr(key));
  }
  EXPECT_FALSE(parse_saved_image(""));
  EXPECT_FALSE(parse_saved_image("[]"));
  EXPECT_FALSE(parse_saved_image(std::string(100'000, '[')));
}

// Neither read nor written.
void expect_refused(const char* key, const nlohmann::json& value, const SavedImage& image_with_it) {
  auto json = nlohmann::json::parse(text_of(image()));
  json[key] = value;
  EXPECT_FALSE(parse_saved_image(json.dump())) << json;
  EXPECT_EQ(saved_annotations(image_with_it).error().code(), Code::kInvalidArgument) << json;
}

TEST(SavedMachine, layers_are_names_of_files_in_the_cache_and_nothing_else) {
  std::vector<std::vector<std::string>> all = {{}};
  for (const char* name : {"", "..", "../x", "a/b", ".hidden", "/etc/passwd"})
    all.push_back({name});
  for (const auto& layers : all) {
    SavedImage bad = image();
    bad.layers = layers;
    expect_refused("layers", layers, bad);
  }
}

TEST(SavedMachine, folder_and_variables_are_well_formed) {
  SavedImage bad = image();
  bad.config.working_dir = "relative";
  expect_refused("workdir", "relative", bad);
  for (const auto& variable : {std::string("=x"), std::string("A=\0b", 4)}) {
    bad = image();
    bad.config.env = {variable};
    expect_refused("env", bad.config.env, bad);
  }
}

TEST(SavedMachine, paths_are_made_absolute) {
  EXPECT_EQ(absolute_path("/tmp/none/../x/").value(), "/tmp/x");
  EXPECT_EQ(absolute_path("x").value().front(), '/');
  EXPECT_FALSE(absolute_path(""));
}

TEST(SavedMachine, folder_that_is_no_snapshot_is_not_found) {
  const auto machine = open_saved_machine("/none", "/none");
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace sm
