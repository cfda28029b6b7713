#include "runtime/worker/guest_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sm {
namespace {

using nlohmann::json;

json make(const WorkerOptions& options, const std::string& requested, const std::string& env_file) {
  return json::parse(make_guest_config(options, requested, env_file).value());
}

TEST(GuestConfig, lists_the_layers_by_serial) {
  WorkerOptions o;
  o.virtio_blk = {"a", "b"};
  const json c = make(o, R"({"hostname":"h"})", "");
  EXPECT_EQ(c["layers"], json({"ro0", "ro1"}));
  EXPECT_EQ(c["hostname"], "h");
  EXPECT_EQ(c["version"], 1);
}

TEST(GuestConfig, machine_before_its_image_names_all_disks_that_may_come) {
  WorkerOptions o;
  o.virtio_blk = {"a", "b"};
  EXPECT_FALSE(make(o, "", "").contains("late_disks"));
  o.layer_slots = 4;
  json c = make(o, "", "");
  EXPECT_EQ(c["layers"], json({"ro0", "ro1", "ro2", "ro3"}));
  EXPECT_EQ(c["late_disks"], json::array());
  o.root_disk = "/r";
  c = make(o, "", "");
  EXPECT_EQ(c["late_disks"], json::array({"root"}));
  EXPECT_FALSE(make_guest_config(o, R"({"late_disks":[]})", "")) << "the worker's own";
}

TEST(GuestConfig, flags_win_over_the_file_and_any_text_survives) {
  WorkerOptions o;
  o.env = {{"A", "flag"}, {"Q", "a\"b\\c\nd"}};
  const json c = make(o, "", R"({"env":{"A":"file","B":"2"},"secrets":{"env":"\u00e4"}})");
  EXPECT_EQ(c["env"], json({"A=flag", "B=2", "env=\xc3\xa4", "Q=a\"b\\c\nd"}));
}

TEST(GuestConfig, malformed_input_is_refused_by_name) {
  const WorkerOptions o;
  for (const char* text : {"x", "[]", R"({"envs":{}})", R"({"env":[]})", R"({"env":{"A":1}})",
                           R"({"env":{"A=":"1"}})", R"({"env":{"A":"\u0000"}})"}) {
    const auto r = make_guest_config(o, "", text);
    ASSERT_FALSE(r) << text;
    EXPECT_EQ(r.error().cause().rfind("--env-file", 0), 0u) << r.error().cause();
  }
  EXPECT_FALSE(make_guest_config(o, R"({"layers":[]})", ""));
  EXPECT_FALSE(make_guest_config(o, "[]", ""));
}

TEST(GuestConfig, a_variable_that_is_not_utf8_is_refused) {
  WorkerOptions o;
  o.env = {{"A", "\xff"}};
  EXPECT_EQ(make_guest_config(o, "", "").error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace sm
