#include "common/name_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;
using agent::MachineSettings;

TEST(NameFiles, hosts_of_the_user_stand_first) {
  MachineSettings s;
  s.hosts = {{"10.0.0.7", "db"}, {"fd00::1", "db"}};
  EXPECT_EQ(container_hosts("127.0.0.1\tlocalhost\n10.9.9.9 db\n", s, "web"),
            "10.0.0.7\tdb\nfd00::1\tdb\n127.0.0.1\tlocalhost\n10.9.9.9 db\n");
}

TEST(NameFiles, hosts_that_stand_there_already_are_not_added_again) {
  agent::MachineSettings settings;
  settings.hosts = {{"10.0.0.7", "db"}};
  settings.domainname = "example.org";
  const std::string once = container_hosts("127.0.0.1\tlocalhost\n", settings, "box");
  EXPECT_EQ(container_hosts(once, settings, "box"), once);
}

TEST(NameFiles, a_domain_name_makes_a_full_name) {
  MachineSettings s;
  s.domainname = "example.org";
  EXPECT_EQ(container_hosts("127.0.1.1\tweb\n", s, "web"),
            "127.0.1.1\tweb.example.org web\n127.0.1.1\tweb\n");
}

TEST(NameFiles, the_resolver_gets_what_is_given_and_keeps_the_rest) {
  const std::string old =
      "# ours\nnameserver 9.9.9.9\nsearch old.org\ndomain old.org\n\toptions rotate\nlast";
  MachineSettings s;
  s.dns = {"10.0.0.1", "::1"};
  EXPECT_EQ(container_resolver(old, s),
            "# ours\nsearch old.org\ndomain old.org\n\toptions rotate\nlast\n"
            "nameserver 10.0.0.1\nnameserver ::1\n");
  s = {};
  s.dns_search = {"a.org", "b.org"};
  s.dns_options = {"ndots:2", "use-vc"};
  EXPECT_EQ(container_resolver(old, s),
            "# ours\nnameserver 9.9.9.9\nlast\nsearch a.org b.org\noptions ndots:2 use-vc\n");
  s = {};
  s.dns_search = {"."};
  EXPECT_EQ(container_resolver("search old.org\nnameserver 9.9.9.9\n", s), "nameserver 9.9.9.9\n");
}

class NameFilesOnDisk : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sm-name-files-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }
  Status write(const MachineSettings& settings) {
    const UniqueFd root = SM_TRY(open_file(root_, O_PATH | O_DIRECTORY));
    return write_name_files(root.get(), settings, "web");
  }
  std::string get(const std::string& name) {
    return read_file(root_ + name, 1u << 21).value_or("(missing)");
  }
  std::string root_;
};

TEST_F(NameFilesOnDisk, only_what_a_setting_asks_for_is_written) {
  MachineSettings s;
  s.hosts = {{"10.0.0.7", "db"}};
  ASSERT_TRUE(write(s).has_value());
  EXPECT_EQ(get("/etc/hosts"), "10.0.0.7\tdb\n");
  EXPECT_EQ(get("/etc/resolv.conf"), "(missing)");
  s = {};
  s.dns = {"10.0.0.1"};
  ASSERT_TRUE(write(s).has_value());
  EXPECT_EQ(get("/etc/hosts"), "10.0.0.7\tdb\n");
  EXPECT_EQ(get("/etc/resolv.conf"), "nameserver 10.0.0.1\n");
}

TEST_F(NameFilesOnDisk, a_link_is_replaced_and_not_written_through) {
  fs::create_directories(root_ + "/etc");
  fs::create_symlink("../outside", root_ + "/etc/hosts");
  ASSERT_TRUE(write_file_atomic(root_ + "/outside", "10.1.1.1 a\n").has_value());
  MachineSettings s;
  s.hosts = {{"10.0.0.7", "db"}};
  ASSERT_TRUE(write(s).has_value());
  EXPECT_EQ(get("/etc/hosts"), "10.0.0.7\tdb\n10.1.1.1 a\n");
  EXPECT_EQ(get("/outside"), "10.1.1.1 a\n");
}

}  // namespace
}  // namespace sm::guest
