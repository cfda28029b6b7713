#include "runtime/bake/prepare_bake.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "runtime/bake/fingerprint.h"

namespace sm {
namespace {

// Everything that decides about a baked snapshot.
struct Inputs {
  BakeOptions options;
  BootConfig boot;
  SavedImage image;
  BakeGround ground;

  std::string key() const { return bake_inputs(options, boot, image, ground); }
};

Inputs example() {
  Inputs out;
  out.ground.kernel_digest = "sha256:k";
  out.ground.initramfs_digest = "sha256:i";
  out.image.layers = {"a.sqfs", "b.sqfs"};
  out.image.config.env = {"A=1", "B=2"};
  out.image.config.user = "user";
  out.image.config.working_dir = "/srv";
  out.image.config.entrypoint = {"sh"};
  out.image.config.cmd = {"-c", "true"};
  out.boot.memory_mib = 128;
  out.boot.vcpus = 1;
  out.boot.engine = "soft";
  out.options.ready = "listener";
  out.options.warmup = {"echo one", "echo two"};
  out.options.output = "/log";
  out.options.quiesce = std::chrono::milliseconds(5);
  return out;
}

TEST(BakeInputs, every_input_changes_the_key) {
  const std::map<std::string, std::function<void(Inputs&)>> changes = {
      {"kernel", [](Inputs& i) { i.ground.kernel_digest = "sha256:x"; }},
      {"initramfs", [](Inputs& i) { i.ground.initramfs_digest = "sha256:x"; }},
      {"kernel and initramfs changed places",
       [](Inputs& i) { std::swap(i.ground.kernel_digest, i.ground.initramfs_digest); }},
      {"layer", [](Inputs& i) { i.image.layers[1] = "c.sqfs"; }},
      {"order of layers", [](Inputs& i) { std::swap(i.image.layers[0], i.image.layers[1]); }},
      {"one layer less", [](Inputs& i) { i.image.layers.pop_back(); }},
      {"variable", [](Inputs& i) { i.image.config.env[1] = "B=3"; }},
      {"order of variables",
       [](Inputs& i) { std::swap(i.image.config.env[0], i.image.config.env[1]); }},
      {"user", [](Inputs& i) { i.image.config.user = "other"; }},
      {"folder", [](Inputs& i) { i.image.config.working_dir = "/"; }},
      {"entrypoint", [](Inputs& i) { i.image.config.entrypoint = {"ash"}; }},
      {"command",
       [](Inputs& i) {
         i.image.config.cmd = {"-c", "false"};
       }},
      {"a word from the entrypoint to the command",
       [](Inputs& i) {
         i.image.config.entrypoint.clear();
         i.image.config.cmd.insert(i.image.config.cmd.begin(), "sh");
       }},
      {"words joined", [](Inputs& i) { i.image.config.cmd = {"-c true"}; }},
      {"memory", [](Inputs& i) { i.boot.memory_mib = 129; }},
      {"CPUs", [](Inputs& i) { i.boot.vcpus = 2; }},
      {"engine", [](Inputs& i) { i.boot.engine = "kvm"; }},
      {"sign of readiness", [](Inputs& i) { i.options.ready = "heartbeat"; }},
      {"port", [](Inputs& i) { i.options.ready = "listener:80"; }},
      {"name of a request", [](Inputs& i) { i.options.ready = "request:a"; }},
      {"other name of a request", [](Inputs& i) { i.options.ready = "request:b"; }},
      {"warm-up", [](Inputs& i) { i.options.warmup[0] = "echo three"; }},
      {"order of warm-ups", [](Inputs& i) { std::swap(i.options.warmup[0], i.options.warmup[1]); }},
      {"byte of a warm-up that is no text", [](Inputs& i) { i.options.warmup[0] = "echo \xfe"; }},
      {"other byte of it", [](Inputs& i) { i.options.warmup[0] = "echo \xff"; }},
      {"log", [](Inputs& i) { i.options.output = "/other"; }},
      {"byte of the log's name", [](Inputs& i) { i.options.output = "/\xff"; }},
      {"pause", [](Inputs& i) { i.options.quiesce = std::chrono::milliseconds(6); }},
  };
  std::map<std::string, std::string> seen = {{example().key(), "nothing"}};
  EXPECT_EQ(example().key().size(), 64u);
  for (const auto& [what, change] : changes) {
    Inputs inputs = example();
    change(inputs);
    const auto [other, fresh] = seen.emplace(inputs.key(), what);
    EXPECT_TRUE(fresh) << what << " and " << other->second;
  }
  // What does not decide.
  Inputs same = example();
  same.options.tag = "tag";
  same.options.folder = "/folder";
  same.options.limit = std::chrono::seconds(1);
  same.options.no_cache = true;
  same.image.reference = "another name";
  EXPECT_EQ(same.key(), example().key());
}

TEST(BakeInputs, every_input_of_a_boot_changes_its_fingerprint) {
  const BakeInputs first = {"sha256:k", "sha256:i", {"a", "b"}, 1u << 27, 1, 0, "soft", "{}"};
  const std::vector<std::function<void(BakeInputs&)>> changes = {
      [](BakeInputs& i) { i.kernel_digest = "sha256:x"; },
      [](BakeInputs& i) { i.initramfs_digest = "sha256:x"; },
      [](BakeInputs& i) { std::swap(i.kernel_digest, i.initramfs_digest); },
      [](BakeInputs& i) {
        i.layers = {"b", "a"};
      },
      [](BakeInputs& i) { i.layers = {"ab"}; },
      [](BakeInputs& i) {
        i.layers = {"a", "b", ""};
      },
      [](BakeInputs& i) { i.memory_bytes += 1u << 20; },
      [](BakeInputs& i) { i.vcpus = 2; },
      [](BakeInputs& i) { i.root_disk_bytes = 10ull << 30; },
      [](BakeInputs& i) { i.engine = "kvm"; },
      [](BakeInputs& i) { i.guest_config = "{\"hostname\":\"x\"}"; }};
  std::set<std::string> keys = {fingerprint(first)};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    BakeInputs changed = first;
    changes[i](changed);
    EXPECT_TRUE(keys.insert(fingerprint(changed)).second) << i;
  }
}

TEST(WarmupInputs, parent_and_every_part_of_a_command_change_the_key) {
  agent::ExecRequest command;
  command.argv = {"load", "data"};
  command.env = {"A=1"};
  command.cwd = "/srv";
  command.user = "user";
  command.timeout_ms = 5;
  std::set<std::string> keys = {warmup_inputs("parent", {command})};
  const auto is_new = [&keys](const std::string& key) { return keys.insert(key).second; };
  EXPECT_TRUE(is_new(warmup_inputs("other", {command})));
  EXPECT_TRUE(is_new(warmup_inputs("parent", {command, command})));
  EXPECT_TRUE(is_new(warmup_inputs("parent", {})));
  const std::vector<std::function<void(agent::ExecRequest&)>> changes = {
      [](auto& c) { c.argv = {"load data"}; }, [](auto& c) { c.argv[1] = "\xff"; },
      [](auto& c) { c.argv[1] = "\xfe"; },     [](auto& c) { c.env = {"A=2"}; },
      [](auto& c) { c.env.clear(); },          [](auto& c) { c.cwd = "/"; },
      [](auto& c) { c.user.clear(); },         [](auto& c) { c.timeout_ms = 6; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    agent::ExecRequest changed = command;
    changes[i](changed);
    EXPECT_TRUE(is_new(warmup_inputs("parent", {changed}))) << i;
  }
}

}  // namespace
}  // namespace sm
