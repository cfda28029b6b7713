#include "runtime/worker/options.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

Result<WorkerOptions> parse(std::vector<std::string> words) { return parse_worker_options(words); }

std::string refusal(std::vector<std::string> words) {
  const auto r = parse(std::move(words));
  return r ? "accepted" : r.error().cause();
}

TEST(WorkerOptions, defaults_are_those_of_the_reference) {
  const auto o = parse({}).value();
  EXPECT_EQ(o.memory_mib, 256u);
  EXPECT_EQ(o.vcpus, 1u);
  EXPECT_EQ(o.vsock_exec_guest_port, 1028u);
  EXPECT_FALSE(o.cmdline);
}

TEST(WorkerOptions, values_come_as_a_word_or_after_an_equals_sign) {
  const auto o = parse({"--kernel", "k", "--memory=512", "--virtio-blk", "a", "--virtio-blk=b",
                        "--root-disk=r", "--cmdline=--odd x=y", "--memory", "64"})
                     .value();
  EXPECT_EQ(o.kernel, "k");
  EXPECT_EQ(o.memory_mib, 64u);
  EXPECT_EQ(o.virtio_blk, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(o.root_disk, "r");
  EXPECT_EQ(o.cmdline, "--odd x=y");
}

TEST(WorkerOptions, a_flag_is_never_swallowed_as_a_value) {
  EXPECT_EQ(refusal({"--kernel", "--initramfs", "x"}), "--kernel: missing value");
  EXPECT_EQ(refusal({"--memory"}), "--memory: missing value");
  EXPECT_EQ(parse({"--cmdline=--version"}).value().version, false);
}

TEST(WorkerOptions, numbers_are_checked_for_form_and_range) {
  EXPECT_EQ(refusal({"--memory", "abc"}), "--memory: invalid value \"abc\": not a number");
  for (const char* bad : {"0", "-1", "31", "1048577", "99999999999999999999", "1x", ""}) {
    EXPECT_NE(refusal({std::string("--memory=") + bad}), "accepted") << bad;
  }
  EXPECT_NE(refusal({"--vcpus=0"}), "accepted");
  EXPECT_NE(refusal({"--vcpus=33"}), "accepted");
  EXPECT_NE(refusal({"--vsock-exec-guest-port=4294967296"}), "accepted");
}

TEST(WorkerOptions, profile_gives_way_to_vcpus_in_any_order) {
  EXPECT_EQ(parse({"--profile", "throughput"}).value().vcpus, 4u);
  EXPECT_EQ(parse({"--profile", "low-latency"}).value().vcpus, 1u);
  EXPECT_EQ(parse({"--vcpus", "2", "--profile", "throughput"}).value().vcpus, 2u);
  EXPECT_EQ(parse({"--profile", "throughput", "--vcpus", "2"}).value().vcpus, 2u);
  EXPECT_NE(refusal({"--profile", "fast"}), "accepted");
}

TEST(WorkerOptions, the_sandbox_is_there_unless_told_otherwise) {
  EXPECT_FALSE(parse({}).value().no_sandbox);
  EXPECT_TRUE(parse({"--no-sandbox"}).value().no_sandbox);
  EXPECT_EQ(refusal({"--no-sandbox=1"}), "unknown arg: --no-sandbox=1");
}

TEST(WorkerOptions, unknown_words_are_named) {
  EXPECT_EQ(refusal({"--kernels", "x"}), "unknown arg: --kernels");
  EXPECT_EQ(refusal({"stray"}), "unknown arg: stray");
}

TEST(WorkerOptions, env_needs_a_name) {
  EXPECT_EQ(parse({"--env", "A=b=c"}).value().env[0].second, "b=c");
  EXPECT_NE(refusal({"--env", "=x"}), "accepted");
  EXPECT_NE(refusal({"--env", "NOEQUALS"}), "accepted");
}

TEST(WorkerOptions, more_disks_than_slots_are_refused) {
  std::vector<std::string> words;
  for (int i = 0; i < 33; ++i) words.push_back("--virtio-blk=d");
  EXPECT_EQ(refusal(words), "--virtio-blk: more than 32 disks");
}

TEST(WorkerOptions, digest_goes_with_a_snapshot) {
  const std::string digest(32, 'a');
  EXPECT_EQ(parse({"--restore-from=s", "--restore-digest", digest}).value().restore_digest, digest);
  EXPECT_EQ(refusal({"--restore-digest", digest}), "--restore-digest: without --restore-from");
  EXPECT_NE(refusal({"--restore-from=s", "--restore-digest=xyz"}), "accepted");
}

TEST(WorkerOptions, layer_slots_go_with_a_boot_and_hold_all_layers) {
  EXPECT_EQ(parse({"--layer-slots=4", "--virtio-blk=a"}).value().layer_slots, 4u);
  EXPECT_EQ(parse({"--virtio-blk=a"}).value().layer_slots, 0u);
  EXPECT_NE(refusal({"--layer-slots=0"}), "accepted");
  EXPECT_NE(refusal({"--layer-slots=33"}), "accepted");
  EXPECT_EQ(refusal({"--layer-slots=1", "--virtio-blk=a", "--virtio-blk=b"}),
            "--layer-slots: fewer than layers");
  EXPECT_EQ(refusal({"--layer-slots=1", "--restore-from=/s"}),
            "--layer-slots: a restored VM has the disks that it was saved with");
}

TEST(WorkerOptions, snapshots_of_a_kernel_need_slots_and_someone_who_takes_them) {
  EXPECT_EQ(refusal({"--snapshot-on-kernel", "--control=3"}),
            "--snapshot-on-kernel: without --layer-slots");
  EXPECT_NE(refusal({"--snapshot-on-kernel", "--layer-slots=1"}), "accepted");
  EXPECT_TRUE(
      parse({"--snapshot-on-kernel", "--snapshot-on-pre-exec", "--layer-slots=1", "--control=3"}));
  EXPECT_TRUE(
      parse({"--snapshot-on-kernel", "--layer-slots=1", "--snapshot-out=/s", "--no-sandbox"}));
  EXPECT_NE(refusal({"--snapshot-on-kernel", "--snapshot-on-pre-exec", "--layer-slots=1",
                     "--snapshot-out=/s", "--no-sandbox"}),
            "accepted");
  // Whether the saved machine is past that point is known when it is opened.
  EXPECT_TRUE(parse({"--restore-from=/s", "--snapshot-on-pre-exec", "--control=3"}));
}

TEST(WorkerOptions, a_disk_is_filled_only_where_it_is_handed_over) {
  const WorkerOptions options = parse({"--root-disk-fd=5", "--root-disk-from-fd=6"}).value();
  EXPECT_EQ(options.root_disk_fd, 5);
  EXPECT_EQ(options.root_disk_from_fd, 6);
  EXPECT_EQ(refusal({"--root-disk=d", "--root-disk-from-fd=6"}),
            "--root-disk-from-fd: without --root-disk-fd");
  EXPECT_NE(refusal({"--root-disk-fd=5", "--root-disk-from-fd=2"}), "accepted");
}

TEST(WorkerOptions, a_worker_that_waits_is_told_everything_later) {
  EXPECT_TRUE(parse({"--pool-worker", "--control=3"})->pool_worker);
  EXPECT_TRUE(parse({"--pool-worker", "--control=3", "--guest-config=/dev/fd/4"}));
  EXPECT_EQ(refusal({"--pool-worker"}), "--pool-worker: without --control");
  EXPECT_EQ(refusal({"--pool-worker", "--control=3", "--restore-from=/s"}),
            "--pool-worker: --restore-from comes with the restore request");
  EXPECT_EQ(refusal({"--no-sandbox", "--pool-worker", "--control=3"}),
            "--pool-worker: --no-sandbox comes with the restore request");
}

TEST(WorkerOptions, a_restore_request_is_a_command_line_without_descriptors) {
  const auto told =
      parse_restore_request({"--restore-from=/s", "--no-sandbox", "--engine=soft"}, 7);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->restore_from, "/s");
  EXPECT_EQ(told->control_fd, 7);
  EXPECT_TRUE(told->no_sandbox);
  EXPECT_EQ(parse_restore_request({"--restore-from=/s", "--control=9"}, 7)->control_fd, 7);
  // Who saves it is the parent, as with a command line.
  EXPECT_TRUE(parse_restore_request({"--restore-from=/s", "--snapshot-on-pre-exec"}, 7));
  using Words = std::vector<std::string>;
  for (const Words& words :
       {Words{}, Words{"--kernel=/k"}, Words{"--restore-from=/s", "--kernel=/k"},
        Words{"--restore-from=/s", "--help"}, Words{"--restore-from=/s", "--version"},
        Words{"--restore-from=/s", "--root-disk-fd=5"}, Words{"--restore-from=/s", "--pool-worker"},
        Words{"--restore-from=/s", "--what"}, Words{"--restore-from"}}) {
    EXPECT_FALSE(parse_restore_request(words, 7)) << testing::PrintToString(words);
  }
}

TEST(WorkerOptions, signs_of_readiness_are_the_parents_affair) {
  EXPECT_EQ(refusal({"--snapshot-at", "7"}),
            "--snapshot-at: a worker does not look into its guest");
  EXPECT_EQ(refusal({"--snapshot-on-listener"}),
            "--snapshot-on-listener: a worker does not look into its guest");
  EXPECT_EQ(refusal({"--snapshot-attic"}), "unknown arg: --snapshot-attic");
  EXPECT_EQ(parse({"--kcache-restore-from=/kernel"})->restore_from, "/kernel");
}

TEST(WorkerOptions, help_names_every_flag) {
  const std::string help = worker_help();
  for (const char* flag :
       {"--kernel", "--initramfs", "--cmdline", "--memory", "--virtio-blk", "--vcpus", "--profile",
        "--log-sink", "--console-input", "--env", "--env-file", "--vsock-exec",
        "--vsock-exec-guest-port", "--stats", "--trace", "--version", "--help"}) {
    EXPECT_NE(help.find(std::string("  ") + flag + " "), std::string::npos) << flag;
  }
}

}  // namespace
}  // namespace sm
