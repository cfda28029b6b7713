#include "common/runtime_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace sm::guest {
namespace {

namespace fs = std::filesystem;

class RuntimeFiles : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sm-runtime-files-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
    config_.hostname = "web";
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& name, std::string_view text) {
    fs::create_directories(fs::path(path(name)).parent_path());
    ASSERT_TRUE(write_file_atomic(path(name), text).has_value());
  }
  std::string get(const std::string& name) {
    return read_file(path(name), 1u << 21).value_or("(missing)");
  }
  std::string path(const std::string& name) const { return root_ + name; }
  Status write() {
    const UniqueFd root = SM_TRY(open_file(root_, O_PATH | O_DIRECTORY));
    return write_runtime_files(root.get(), config_);
  }
  void write_ok() {
    const auto status = write();
    ASSERT_TRUE(status.has_value()) << status.error().text();
  }

  std::string root_;
  BootConfig config_;
};

TEST_F(RuntimeFiles, EmptyRootGetsAll) {
  config_.dns = {"10.0.0.1", "fd00::1"};
  write_ok();
  EXPECT_EQ(get("/etc/hosts"),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tweb\n");
  EXPECT_EQ(get("/etc/hostname"), "web\n");
  EXPECT_EQ(get("/etc/resolv.conf"), "nameserver 10.0.0.1\nnameserver fd00::1\n");
  EXPECT_EQ(fs::read_symlink(path("/etc/mtab")), "/proc/mounts");
  EXPECT_EQ(fs::status(path("/tmp")).permissions(), fs::perms(01777));
  EXPECT_EQ(fs::status(path("/run")).permissions(), fs::perms(0755));
}

TEST_F(RuntimeFiles, CustomHostsStay) {
  put("/etc/hosts", "# mine\n10.1.1.1 db # localhost\n127.0.0.1\tlocalhost web");
  config_.hosts = {{"10.9.9.9", "cache"}};
  write_ok();
  EXPECT_EQ(get("/etc/hosts"),
            "# mine\n10.1.1.1 db # localhost\n127.0.0.1\tlocalhost web\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n10.9.9.9\tcache\n");
}

TEST_F(RuntimeFiles, RunningTwiceChangesNothingMore) {
  write_ok();
  const std::string once = get("/etc/hosts");
  write_ok();
  EXPECT_EQ(get("/etc/hosts"), once);
}

TEST_F(RuntimeFiles, ImageResolvConfStaysWithoutServers) {
  put("/etc/resolv.conf", "search example\n");
  write_ok();
  EXPECT_EQ(get("/etc/resolv.conf"), "search example\n");
}

TEST_F(RuntimeFiles, LinksAreReplacedAndNeverFollowed) {
  put("/outside", "untouched");
  fs::create_directories(path("/etc"));
  fs::create_symlink("../outside", path("/etc/resolv.conf"));
  fs::create_symlink("/proc/sys/kernel/hostname", path("/etc/hostname"));
  fs::create_symlink("/etc/hosts", path("/etc/hosts"));
  config_.dns = {"1.1.1.1"};
  write_ok();
  EXPECT_EQ(get("/outside"), "untouched");
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(path("/etc/resolv.conf"))));
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(path("/etc/hostname"))));
  EXPECT_NE(get("/etc/hosts").find("localhost"), std::string::npos);
}

TEST_F(RuntimeFiles, LinkedHostsKeepTheirContent) {
  put("/data/hosts", "10.0.0.1 kept\n");
  fs::create_directories(path("/etc"));
  fs::create_symlink("/data/hosts", path("/etc/hosts"));
  write_ok();
  EXPECT_EQ(get("/etc/hosts").substr(0, 14), "10.0.0.1 kept\n");
  EXPECT_EQ(get("/data/hosts"), "10.0.0.1 kept\n");
}

TEST_F(RuntimeFiles, LinkedEtcIsResolvedInsideTheRoot) {
  fs::create_directories(path("/config"));
  fs::create_symlink("/config", path("/etc"));
  write_ok();
  EXPECT_EQ(get("/config/hostname"), "web\n");
}

TEST_F(RuntimeFiles, EtcThatLeadsOutOfTheRootDoesNotLeaveIt) {
  fs::create_symlink("../../../../../../tmp", path("/etc"));
  write_ok();
  EXPECT_EQ(get("/tmp/hostname"), "web\n");
  EXPECT_FALSE(fs::exists("/tmp/hostname"));
}

TEST_F(RuntimeFiles, SpecialFilesAreReplacedWithoutBlocking) {
  fs::create_directories(path("/etc"));
  ASSERT_EQ(::mkfifo(path("/etc/hosts").c_str(), 0600), 0);
  write_ok();
  EXPECT_NE(get("/etc/hosts").find("127.0.0.1\tlocalhost"), std::string::npos);
}

TEST_F(RuntimeFiles, HugeHostsFileIsLeftAlone) {
  const std::string huge(2u << 20, '#');
  put("/etc/hosts", huge);
  write_ok();
  EXPECT_EQ(fs::file_size(path("/etc/hosts")), huge.size());
}

TEST_F(RuntimeFiles, EtcThatIsAFileIsAnError) {
  put("/etc", "no folder");
  EXPECT_FALSE(write().has_value());
}

TEST_F(RuntimeFiles, ModesOfExistingFoldersStay) {
  fs::create_directories(path("/tmp"));
  fs::permissions(path("/tmp"), fs::perms(0700));
  write_ok();
  EXPECT_EQ(fs::status(path("/tmp")).permissions(), fs::perms(0700));
}

}  // namespace
}  // namespace sm::guest
