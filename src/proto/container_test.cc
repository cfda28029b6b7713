#include "proto/container.h"

#include <gtest/gtest.h>

#include <functional>

#include "proto/agent.h"

namespace sm::agent {
namespace {

ContainerSettings everything() {
  ContainerSettings s;
  s.process.capabilities = 1ull << kLastCapability | 1;
  s.process.no_new_privileges = true;
  s.process.oom_score_adj = -1000;
  s.process.ulimits = {{7, 1024, 4096}, {4, 0, kUnlimited}};
  s.process.groups = {"audio", "4711"};
  s.machine.read_only_root = true;
  s.machine.shm_bytes = 1 << 20;
  s.machine.max_pids = 100;
  s.machine.domainname = "example.org";
  s.machine.hosts = {{"10.0.0.7", "db"}, {"fd00::1", "cache"}};
  s.machine.dns = {"10.0.0.1"};
  s.machine.dns_search = {"example.org", "."};
  s.machine.dns_options = {"ndots:2", "use-vc"};
  s.machine.tmpfs = {{"/run", kTmpfsReadOnly, "size=64m,mode=1777"}, {"/a b/c", 0, ""}};
  s.machine.sysctls = {{"net/core/somaxconn", "1024"}, {"net/ipv4/tcp_rmem", "4096\t8192 16384"}};
  return s;
}

std::vector<std::byte> bytes_of(const ContainerSettings& settings) {
  ByteWriter w;
  put_container(w, settings);
  return w.release();
}

Result<ContainerSettings> decode(std::span<const std::byte> bytes) {
  ByteReader r(bytes);
  auto settings = SM_TRY(take_container(r));
  if (!r.at_end()) return fail(Code::kCorrupt, "bytes left");
  return settings;
}

TEST(ContainerSettings, survive_the_round_trip) {
  EXPECT_EQ(decode(bytes_of(everything())).value(), everything());
  EXPECT_EQ(decode(bytes_of({})).value(), ContainerSettings{});
}

TEST(ContainerSettings, no_capability_at_all_differs_from_nothing_said) {
  ContainerSettings s;
  s.process.capabilities = 0;
  EXPECT_EQ(decode(bytes_of(s)).value().process.capabilities, 0u);
  EXPECT_EQ(decode(bytes_of({})).value().process.capabilities, std::nullopt);
}

TEST(ContainerSettings, every_shorter_payload_is_refused) {
  const auto bytes = bytes_of(everything());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(decode(std::span(bytes).first(n))) << n;
  }
}

TEST(ContainerSettings, unknown_bits_are_refused) {
  auto bytes = bytes_of({});
  bytes[0] = std::byte{8};
  EXPECT_EQ(decode(bytes).error().code(), Code::kCorrupt);
  bytes[0] = std::byte{0};
  bytes[4] = std::byte{1};  // a capability without the bit that says there are any
  EXPECT_EQ(decode(bytes).error().code(), Code::kCorrupt);
}

TEST(ContainerSettings, each_rule_holds_for_the_sender_and_the_receiver) {
  const std::vector<std::function<void(ContainerSettings&)>> offences = {
      [](auto& s) { s.process.capabilities = 1ull << (kLastCapability + 1); },
      [](auto& s) { s.process.oom_score_adj = 1001; },
      [](auto& s) { s.process.oom_score_adj = -1001; },
      [](auto& s) {
        s.process.ulimits = {{kResources, 1, 1}};
      },
      [](auto& s) {
        s.process.ulimits = {{7, 2, 1}};
      },
      [](auto& s) {
        s.process.ulimits = {{7, 1, 1}, {7, 2, 2}};
      },
      [](auto& s) { s.process.groups = {""}; },
      [](auto& s) { s.process.groups = {"a:b"}; },
      [](auto& s) { s.machine.shm_bytes = ~0ull; },
      [](auto& s) { s.machine.max_pids = kMaxPids + 1; },
      [](auto& s) { s.machine.domainname = "a b"; },
      [](auto& s) {
        s.machine.hosts = {{"10.0.0.300", "db"}};
      },
      [](auto& s) {
        s.machine.hosts = {{"10.0.0.3", "d b"}};
      },
      [](auto& s) { s.machine.dns = {"one.one.one.one"}; },
      [](auto& s) { s.machine.dns.assign(kMaxNameServers + 1, "::1"); },
      [](auto& s) { s.machine.dns_search = {"a\nnameserver 6.6.6.6"}; },
      [](auto& s) { s.machine.dns_options = {"ndots 2"}; },
      [](auto& s) {
        s.machine.tmpfs = {{"relative", 0, ""}};
      },
      [](auto& s) {
        s.machine.tmpfs = {{"/", 0, ""}};
      },
      [](auto& s) {
        s.machine.tmpfs = {{"/a/../b", 0, ""}};
      },
      [](auto& s) {
        s.machine.tmpfs = {{"/proc/sys", 0, ""}};
      },
      [](auto& s) {
        s.machine.tmpfs = {{"/a", kAllTmpfsFlags + 1, ""}};
      },
      [](auto& s) {
        s.machine.tmpfs = {{"/a", 0, "size=1 m"}};
      },
      [](auto& s) {
        s.machine.sysctls = {{"../kernel", "1"}};
      },
      [](auto& s) {
        s.machine.sysctls = {{"/kernel", "1"}};
      },
      [](auto& s) {
        s.machine.sysctls = {{"kernel/x", ""}};
      },
      [](auto& s) {
        s.machine.sysctls = {{"kernel/x", "1\n2"}};
      },
  };
  for (std::size_t i = 0; i < offences.size(); ++i) {
    ContainerSettings s = everything();
    offences[i](s);
    EXPECT_EQ(check_container(s).error().code(), Code::kInvalidArgument) << i;
    EXPECT_FALSE(decode(bytes_of(s))) << i;
  }
}

TEST(ContainerSettings, lists_end_at_their_limits) {
  ContainerSettings s;
  s.machine.sysctls.assign(kMaxSysctls, {"kernel/x", "1"});
  EXPECT_TRUE(decode(bytes_of(s)));
  s.machine.sysctls.emplace_back("kernel/x", "1");
  EXPECT_FALSE(decode(bytes_of(s)));
  s = {};
  s.machine.tmpfs.assign(kMaxTmpfs + 1, {"/a", 0, ""});
  EXPECT_FALSE(decode(bytes_of(s)));
  s = {};
  s.process.groups.assign(kMaxAddedGroups + 1, "a");
  EXPECT_FALSE(decode(bytes_of(s)));
}

TEST(ContainerSettings, travel_with_the_main_workload_only) {
  ExecRequest q;
  q.argv = {"sh"};
  q.main = true;
  q.container = everything();
  const auto frame = encode_exec(q);
  EXPECT_EQ(decode_exec(std::span(frame).subspan(kHeaderSize)).value().container, everything());
  q.main = false;
  const auto other = encode_exec(q);
  EXPECT_FALSE(decode_exec(std::span(other).subspan(kHeaderSize)));
  q.container.reset();
  const auto without = encode_exec(q);
  EXPECT_EQ(decode_exec(std::span(without).subspan(kHeaderSize)).value().container, std::nullopt);
}

}  // namespace
}  // namespace sm::agent
