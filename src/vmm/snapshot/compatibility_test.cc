#include "vmm/snapshot/compatibility.h"

#include <gtest/gtest.h>

#include <functional>

#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

SnapshotManifest saved() {
  SnapshotManifest m = snapshot_testing::example_manifest({});
  m.cpu_signature = "vendor 1/2/3";
  m.memory_bytes = 1 << 20;
  m.vcpus = 2;
  m.devices = {{"rng", "", 0, false}, {"blk", "upper", 4096, false}, {"blk", "spare0", 0, false}};
  return m;
}

HostFacts matching(const SnapshotManifest& m) {
  return {.cpu_model = m.cpu_model,
          .cpu_signature = m.cpu_signature,
          .kernel_digest = m.kernel_digest,
          .initramfs_digest = m.initramfs_digest,
          .memory_bytes = m.memory_bytes,
          .vcpus = m.vcpus,
          .devices = m.devices};
}

TEST(Compatibility, TakesWhatMatches) {
  const SnapshotManifest m = saved();
  EXPECT_TRUE(check_compatible(m, matching(m)).has_value());
  HostFacts host = matching(m);
  host.memory_bytes.reset();
  host.vcpus.reset();
  host.devices.reset();
  EXPECT_TRUE(check_compatible(m, host).has_value());
}

TEST(Compatibility, AnEmptyDiskMayBeBound) {
  const SnapshotManifest m = saved();
  HostFacts host = matching(m);
  (*host.devices)[2].bytes = 1 << 20;
  EXPECT_TRUE(check_compatible(m, host).has_value());
}

TEST(Compatibility, SaysWhatDiffersAndWhatToDo) {
  struct Case {
    std::function<void(HostFacts&)> change;
    const char* there;
    const char* here;
  };
  const std::vector<Case> cases{
      {[](HostFacts& h) { h.cpu_model = "host"; }, "\"x86-64-v2\"", "\"host\""},
      {[](HostFacts& h) { h.cpu_signature = ""; }, "\"vendor 1/2/3\"", "none"},
      {[](HostFacts& h) { h.kernel_digest = "sha256:1"; }, "aaaa", "\"sha256:1\""},
      {[](HostFacts& h) { h.initramfs_digest = "sha256:2"; }, "bbbb", "\"sha256:2\""},
      {[](HostFacts& h) { h.memory_bytes = 1 << 21; }, "1048576", "2097152"},
      {[](HostFacts& h) { h.vcpus = 3; }, "CPUs 2", "is 3"},
      {[](HostFacts& h) { h.devices->pop_back(); }, "devices 3", "is 2"},
      {[](HostFacts& h) { (*h.devices)[0].type = "vsock"; }, "device 0 rng", "vsock"},
      {[](HostFacts& h) { (*h.devices)[1].serial = "x"; }, "blk \"upper\"", "blk \"x\""},
      {[](HostFacts& h) { (*h.devices)[1].bytes = 8192; }, "of 4096 bytes", "of 8192 bytes"},
      {[](HostFacts& h) { (*h.devices)[1].read_only = true; }, "of 4096 bytes", "read-only"},
  };
  for (const Case& c : cases) {
    const SnapshotManifest m = saved();
    HostFacts host = matching(m);
    c.change(host);
    const auto status = check_compatible(m, host);
    ASSERT_FALSE(status.has_value()) << c.there;
    EXPECT_EQ(status.error().code(), Code::kUnsupported);
    EXPECT_NE(status.error().cause().find(c.there), std::string::npos) << status.error().text();
    EXPECT_NE(status.error().cause().find(c.here), std::string::npos) << status.error().text();
    EXPECT_NE(status.error().remedy().find("bake"), std::string::npos) << status.error().text();
  }
}

TEST(Compatibility, DevicesThatLookAlikeInTextDiffer) {
  SnapshotManifest m = saved();
  m.devices[1] = {"blk \"x\"", "", 4096, false};
  HostFacts host = matching(m);
  (*host.devices)[1] = {"blk", "x", 4096, false};
  EXPECT_FALSE(check_compatible(m, host).has_value());
}

TEST(Compatibility, OtherFormat) {
  SnapshotManifest m = saved();
  m.format = 7;
  const auto status = check_compatible(m, matching(m));
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().cause().find("format 7"), std::string::npos);
}

}  // namespace
}  // namespace sm
