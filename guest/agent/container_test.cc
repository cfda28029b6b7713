// Container settings of programs: limits, capabilities, groups. Those of the machine need a
// machine: tests/e2e/container_test.py.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>

#include "agent/testing/agent_client.h"

namespace sm::guest {
namespace {

using agent::ProcessSettings;
using testing::AgentProcess;
using ::testing::HasSubstr;
using testing::HostConnection;
using testing::Outcome;
using testing::shell;

// A machine whose main workload has these settings and waits; what other programs then say.
class Container {
 public:
  explicit Container(const ProcessSettings& settings, const std::string& script)
      : host_(agent_.connect()) {
    agent::ExecRequest request = shell(script);
    request.main = true;
    request.container.emplace().process = settings;
    host_.send(agent::encode_exec(request));
  }
  Outcome started() {
    agent_.expect_link(LinkType::kWorkloadStart);
    agent_.send_link_message({LinkType::kRelease});
    return host_.finish();
  }
  Outcome refused() { return host_.finish(); }
  AgentProcess& agent() { return agent_; }

 private:
  AgentProcess agent_;
  HostConnection host_;
};

std::string output(const ProcessSettings& settings, const std::string& script) {
  const Outcome outcome = Container(settings, script).started();
  return outcome.error ? outcome.error->message : outcome.out + outcome.err;
}

TEST(ContainerProcess, limits_hold_for_the_workload_and_later_programs) {
  ProcessSettings s;
  s.ulimits = {{7, 100, 200}, {4, 0, 0}};
  Container container(s, "ulimit -Sn; ulimit -Hn; ulimit -c");
  EXPECT_EQ(container.started().out, "100\n200\n0\n");
  EXPECT_EQ(container.agent().run(shell("ulimit -Sn; ulimit -Hn")).out, "100\n200\n");
}

TEST(ContainerProcess, no_new_privileges_and_the_score_are_set) {
  ProcessSettings s;
  s.no_new_privileges = true;
  s.oom_score_adj = 321;
  EXPECT_EQ(output(s, "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj"),
            "NoNewPrivs:\t1\n321\n");
}

constexpr const char* kCapabilities = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status";

std::string capabilities(const std::string& inherited, const std::string& had,
                         const std::string& bound) {
  return "CapInh:\t" + inherited + "\nCapPrm:\t" + had + "\nCapEff:\t" + had + "\nCapBnd:\t" +
         bound + "\nCapAmb:\t" + inherited + "\n";
}

TEST(ContainerProcess, root_has_the_capabilities_of_the_set) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root";
  ProcessSettings s;
  s.capabilities = 0b101;  // CHOWN, DAC_READ_SEARCH
  const std::string none = "0000000000000000", some = "0000000000000005";
  EXPECT_EQ(output(s, kCapabilities), capabilities(none, some, some));
  s.capabilities = 0;
  EXPECT_EQ(output(s, kCapabilities), capabilities(none, none, none));
}

TEST(ContainerProcess, other_users_have_none_and_the_same_bound) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root";
  ProcessSettings s;
  s.capabilities = 0b101;
  Container container(s, "true");
  container.started();
  agent::ExecRequest request = shell(kCapabilities);
  request.user = "4711";
  EXPECT_EQ(container.agent().run(request).out,
            capabilities("0000000000000000", "0000000000000000", "0000000000000005"));
}

TEST(ContainerProcess, groups_come_on_top_of_those_of_the_user) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root";
  ProcessSettings s;
  s.groups = {"4711", "daemon", "4711"};
  Container container(s, "id -G");
  EXPECT_THAT(container.started().out, HasSubstr("4711"));
  agent::ExecRequest request = shell("id -G");
  request.user = "4321:99";
  EXPECT_EQ(container.agent().run(request).out, "99 1 4711\n");
}

TEST(ContainerProcess, an_unknown_group_is_an_error_before_anything_runs) {
  ProcessSettings s;
  s.groups = {"no-such-group"};
  const Outcome outcome = Container(s, "true").refused();
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, agent::ErrorKind::kUser);
  EXPECT_THAT(outcome.error->message, HasSubstr("no-such-group"));
}

TEST(ContainerProcess, a_limit_that_the_kernel_refuses_is_named) {
  ProcessSettings s;
  s.ulimits = {{7, agent::kUnlimited, agent::kUnlimited}};  // above fs.nr_open
  const Outcome outcome = Container(s, "true").refused();
  ASSERT_TRUE(outcome.error.has_value());
  EXPECT_EQ(outcome.error->kind, agent::ErrorKind::kSetting);
  EXPECT_THAT(outcome.error->message, HasSubstr("nofile"));
}

}  // namespace
}  // namespace sm::guest
