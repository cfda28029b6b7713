#include "runtime/container/container_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "runtime/run_options.h"

namespace sm {
namespace {

using agent::kUnlimited;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

// Every refusal is typed, names the flag and the value, and has a remedy.
void expect_refused(const ContainerFlags& flags, const std::string& flag,
                    const std::string& value) {
  const auto settings = parse_container_flags(flags);
  ASSERT_FALSE(settings.has_value()) << flag << " " << value;
  const Error& error = settings.error();
  EXPECT_TRUE(error.code() == Code::kInvalidArgument || error.code() == Code::kUnsupported);
  EXPECT_THAT(error.cause(), StartsWith(flag + " "));
  EXPECT_THAT(error.cause(), HasSubstr(value));
  EXPECT_FALSE(error.remedy().empty());
}

agent::ContainerSettings settings_of(const ContainerFlags& flags) {
  return parse_container_flags(flags).value().value();
}

TEST(ContainerFlags, nothing_asked_is_nothing_sent) {
  EXPECT_EQ(parse_container_flags({}).value(), std::nullopt);
  ContainerFlags f;
  f.init = true;
  f.pids_limit = "-1";
  f.security_opt = {"seccomp=unconfined", "apparmor=unconfined", "label=disable"};
  EXPECT_EQ(parse_container_flags(f).value(), std::nullopt);
}

TEST(ContainerFlags, add_host_takes_docker_forms) {
  EXPECT_EQ(parse_add_host("db:10.0.0.7").value(), (HostEntry{"10.0.0.7", "db"}));
  EXPECT_EQ(parse_add_host("db=10.0.0.7").value(), (HostEntry{"10.0.0.7", "db"}));
  EXPECT_EQ(parse_add_host("a.b-c:fd00::1").value(), (HostEntry{"fd00::1", "a.b-c"}));
  EXPECT_EQ(parse_add_host("db:[::1]").value(), (HostEntry{"::1", "db"}));
  for (const std::string bad : {"", "db", "db:", ":10.0.0.7", "db:10.0.0", "d b:10.0.0.7",
                                "db:host-gateway", "db:10.0.0.7\n1.1.1.1 x"}) {
    ContainerFlags f;
    f.add_host = {"ok:10.0.0.1", bad};
    expect_refused(f, "--add-host", bad);
  }
}

TEST(ContainerFlags, resolver) {
  ContainerFlags f;
  f.dns = {"1.1.1.1", "fd00::1"};
  f.dns_search = {"example.org", "."};
  f.dns_option = {"ndots:2"};
  const auto machine = settings_of(f).machine;
  EXPECT_EQ(machine.dns, f.dns);
  EXPECT_EQ(machine.dns_search, f.dns_search);
  EXPECT_EQ(machine.dns_options, f.dns_option);
  f.dns = {"dns.example"};
  expect_refused(f, "--dns", "dns.example");
  f.dns = {};
  f.dns_search = {"a b"};
  expect_refused(f, "--dns-search", "a b");
  f.dns_search = {};
  f.dns_option = {"ndots 2"};
  expect_refused(f, "--dns-option", "ndots 2");
}

TEST(ContainerFlags, tmpfs_has_docker_defaults_and_options) {
  using namespace agent;
  const auto plain = parse_tmpfs("/run/").value();
  EXPECT_EQ(plain, (TmpfsMount{"/run", kTmpfsNoExec | kTmpfsNoSuid | kTmpfsNoDev, ""}));
  const auto all =
      parse_tmpfs("/a/b:rw,exec,suid,nodev,noatime,size=64m,mode=1777,uid=7,gid=8,nr_inodes=1k");
  EXPECT_EQ(all.value(), (TmpfsMount{"/a/b", kTmpfsNoDev | kTmpfsNoAtime,
                                     "size=64m,mode=1777,uid=7,gid=8,nr_inodes=1k"}));
  EXPECT_EQ(parse_tmpfs("/a:ro").value().flags & kTmpfsReadOnly, kTmpfsReadOnly);
  for (const std::string bad : {"", "run", "/", "//", "/a/../b", "/proc", "/proc/x", "/a:size=",
                                "/a:size=12q", "/a:mode=888", "/a:mode=17777", "/a:uid=root",
                                "/a:fancy", "/a:,", "/a:size=1m,,ro", "/a:size=1m:ro"}) {
    ContainerFlags f;
    f.tmpfs = {bad};
    expect_refused(f, "--tmpfs", bad);
  }
}

TEST(ContainerFlags, the_last_one_for_the_same_thing_wins) {
  ContainerFlags f;
  f.tmpfs = {"/a:size=1m", "/b", "/a:size=2m"};
  f.ulimit = {"nofile=1", "core=0", "nofile=2:3"};
  f.sysctl = {"kernel.x=1", "kernel/x=2"};
  const auto s = settings_of(f);
  ASSERT_EQ(s.machine.tmpfs.size(), 2u);
  EXPECT_EQ(s.machine.tmpfs[1].options, "size=2m");
  ASSERT_EQ(s.process.ulimits.size(), 2u);
  EXPECT_EQ(s.process.ulimits[1], (agent::Ulimit{7, 2, 3}));
  ASSERT_EQ(s.machine.sysctls.size(), 1u);
  EXPECT_EQ(s.machine.sysctls[0].second, "2");
}

TEST(ContainerFlags, ulimit) {
  EXPECT_EQ(parse_ulimit("nofile=1024").value(), (agent::Ulimit{7, 1024, 1024}));
  EXPECT_EQ(parse_ulimit("core=0:-1").value(), (agent::Ulimit{4, 0, kUnlimited}));
  EXPECT_EQ(parse_ulimit("rttime=-1").value(), (agent::Ulimit{15, kUnlimited, kUnlimited}));
  for (const std::string bad :
       {"", "nofile", "nofile=", "nofile=x", "nofile=1:x", "nofile=2:1", "=1", "files=1",
        "nofile=-2", "nofile=-1:5", "nofile=1:2:3", "as=1"}) {
    ContainerFlags f;
    f.ulimit = {bad};
    expect_refused(f, "--ulimit", bad);
  }
}

TEST(ContainerFlags, sysctl_names_have_either_separator) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(parse_sysctl("net.core.somaxconn=7").value(), Pair("net/core/somaxconn", "7"));
  EXPECT_EQ(parse_sysctl("net/core/somaxconn=7").value(), Pair("net/core/somaxconn", "7"));
  EXPECT_EQ(parse_sysctl("net.ipv4.conf.eth0/1.forwarding=1").value(),
            Pair("net/ipv4/conf/eth0.1/forwarding", "1"));
  EXPECT_EQ(parse_sysctl("a.b=c=d 1\t2").value(), Pair("a/b", "c=d 1\t2"));
  for (const std::string bad :
       {"", "a.b", "a.b=", "=1", "/a=1", "a/../b=1", ".a=1", "a..b=1", "a b=1", "a.b=1\n2"}) {
    ContainerFlags f;
    f.sysctl = {bad};
    expect_refused(f, "--sysctl", bad);
  }
}

std::uint64_t set_of(const Words& add, const Words& drop) {
  return parse_capabilities(add, drop).value().value();
}

TEST(ContainerFlags, capabilities_follow_docker) {
  constexpr std::uint64_t kAll = agent::kAllCapabilities, kChown = 1, kNetAdmin = 1ull << 12;
  EXPECT_EQ(parse_capabilities({}, {}).value(), std::nullopt);
  EXPECT_EQ(set_of({}, {"CHOWN"}), kAll & ~kChown);
  EXPECT_EQ(set_of({}, {"cap_chown", "CAP_NET_ADMIN"}), kAll & ~kChown & ~kNetAdmin);
  EXPECT_EQ(set_of({"net_admin"}, {"ALL"}), kNetAdmin);
  EXPECT_EQ(set_of({}, {"all"}), 0u);
  EXPECT_EQ(set_of({"CHOWN"}, {"CHOWN"}), kAll);
  EXPECT_EQ(set_of({"ALL"}, {"CHOWN"}), kAll & ~kChown);
  EXPECT_EQ(set_of({"ALL"}, {"ALL"}), kAll);
  EXPECT_EQ(set_of({"CHECKPOINT_RESTORE"}, {"ALL"}), 1ull << 40);
  for (const std::string bad : {"", "CAP_", "CAP_CAP_CHOWN", "ROOT", "CAP_ALL"}) {
    ContainerFlags f;
    f.cap_add = {bad};
    expect_refused(f, "--cap-add", bad);
    f = {};
    f.cap_drop = {bad};
    expect_refused(f, "--cap-drop", bad);
  }
}

TEST(ContainerFlags, security_opt) {
  ContainerFlags f;
  for (const std::string on :
       {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}) {
    f.security_opt = {on};
    EXPECT_TRUE(settings_of(f).process.no_new_privileges) << on;
  }
  f.security_opt = {"no-new-privileges", "no-new-privileges=false"};
  EXPECT_EQ(parse_container_flags(f).value(), std::nullopt);
  for (const std::string bad :
       {"no-new-privileges=maybe", "no-new-privilegesx", "seccomp=/a.json", ""}) {
    f.security_opt = {bad};
    expect_refused(f, "--security-opt", bad);
  }
}

TEST(ContainerFlags, single_values) {
  ContainerFlags f;
  f.shm_size = "128m";
  f.oom_score_adj = "-500";
  f.pids_limit = "100";
  f.domainname = "example.org";
  f.read_only = true;
  f.group_add = {"audio", "7"};
  const auto s = settings_of(f);
  EXPECT_EQ(s.machine.shm_bytes, 128ull << 20);
  EXPECT_EQ(s.process.oom_score_adj, -500);
  EXPECT_EQ(s.machine.max_pids, 100u);
  EXPECT_EQ(s.machine.domainname, "example.org");
  EXPECT_TRUE(s.machine.read_only_root);
  EXPECT_EQ(s.process.groups, f.group_add);
}

TEST(ContainerFlags, single_values_that_are_refused) {
  struct Bad {
    std::string ContainerFlags::*member;
    const char* flag;
    Words values;
  };
  const Bad all[] = {
      {&ContainerFlags::shm_size,
       "--shm-size",
       {"0", "1k", "-1", "x", "2048g", "99999999999999999g"}},
      {&ContainerFlags::oom_score_adj, "--oom-score-adj", {"1001", "-1001", "x", "1.5"}},
      {&ContainerFlags::pids_limit, "--pids-limit", {"-2", "4194305", "x"}},
      {&ContainerFlags::domainname, "--domainname", {"a b", std::string(65, 'a')}}};
  for (const Bad& bad : all) {
    for (const std::string& value : bad.values) {
      ContainerFlags f;
      f.*bad.member = value;
      expect_refused(f, bad.flag, value);
    }
  }
  ContainerFlags f;
  f.group_add = {"a:b"};
  expect_refused(f, "--group-add", "a:b");
}

TEST(ContainerFlags, too_many_are_refused) {
  ContainerFlags f;
  f.dns.assign(17, "1.1.1.1");
  EXPECT_EQ(parse_container_flags(f).error().code(), Code::kInvalidArgument);
  f = {};
  for (int i = 0; i < 65; ++i) f.tmpfs.push_back("/t" + std::to_string(i));
  EXPECT_EQ(parse_container_flags(f).error().code(), Code::kInvalidArgument);
}

TEST(ContainerFlags, the_request_carries_them) {
  RunOptions o;
  o.command = {"sh"};
  const auto none = [](const std::string&) { return std::optional<std::string>(); };
  EXPECT_EQ(make_request(o, {}, {}, none).value().container, std::nullopt);
  o.container.emplace().machine.read_only_root = true;
  EXPECT_EQ(make_request(o, {}, {}, none).value().container, o.container);
}

}  // namespace
}  // namespace sm
