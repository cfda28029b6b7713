#include "common/hosts_file.h"

#include <gtest/gtest.h>

namespace sm::guest {
namespace {

TEST(HostsFile, StripTakesAwayWhatCompleteHasAdded) {
  const std::vector<HostEntry> entries = {{"10.0.0.1", "db"}, {"fd00::1", "cache"}};
  for (const std::string before :
       {"127.0.0.1\tlocalhost\n::1\tlocalhost\n", "::1 localhost\n# mine\n127.0.0.1 localhost\n"}) {
    const std::string full = complete_hosts(before, "web", entries);
    EXPECT_NE(full, before);
    EXPECT_EQ(strip_hosts(full, "web", entries), before);
  }
}

TEST(HostsFile, StripLeavesEveryOtherLine) {
  const std::string text =
      "127.0.1.1\tweb extra\n10.0.0.1 db\n\n127.0.1.1\tother\n#127.0.1.1\tweb\nlast";
  EXPECT_EQ(strip_hosts(text, "web", {{"10.0.0.1", "db"}}), text);
  EXPECT_EQ(strip_hosts("", "web", {}), "");
  EXPECT_EQ(strip_hosts("127.0.1.1\tweb", "web", {}), "");
}

TEST(HostsFile, ResolverHasOneLinePerServer) {
  EXPECT_EQ(resolv_conf({"10.0.0.1", "::1"}), "nameserver 10.0.0.1\nnameserver ::1\n");
}

}  // namespace
}  // namespace sm::guest
