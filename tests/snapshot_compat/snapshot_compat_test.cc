// Snapshots that earlier versions wrote stay readable, and what is written today is what the format
// says, byte for byte.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/bytes.h"
#include "base/file.h"
#include "snapshot_compat/golden.h"
#include "vmm/snapshot/memory_sum.h"
#include "vmm/snapshot/snapshot_dir.h"
#include "vmm/snapshot/state_codec.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

namespace fs = std::filesystem;

std::string golden_file(const std::string& name) {
  const auto bytes = read_file(SM_GOLDEN "/format-1/" + name, 1 << 20);
  EXPECT_TRUE(bytes.has_value()) << name;
  return bytes.value_or("");
}

void expect_golden(const Snapshot& snapshot) {
  SnapshotManifest expected = golden::manifest();
  expected.state_bytes = snapshot.manifest().state_bytes;
  expected.state_crc = snapshot.manifest().state_crc;
  EXPECT_EQ(snapshot.manifest(), expected);
  EXPECT_EQ(snapshot.state(), golden::state());
  std::vector<std::byte> memory(golden::kMemoryBytes), found(golden::kMemoryBytes);
  for (const auto& [page, bytes] : golden::pages()) {
    std::copy(bytes.begin(), bytes.end(),
              memory.begin() + static_cast<std::ptrdiff_t>(page * kPageBytes));
  }
  ASSERT_EQ(::pread(snapshot.memory_fd().get(), found.data(), found.size(), 0),
            static_cast<ssize_t>(found.size()));
  EXPECT_EQ(found, memory);
}

TEST(SnapshotCompat, Format1IsRead) {
  // Copied, so that nothing is written into the source tree.
  const snapshot_testing::TemporaryFolder folder;
  fs::copy(SM_GOLDEN "/format-1", folder / "snap");
  const auto snapshot = Snapshot::open(folder / "snap");
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().text();
  expect_golden(*snapshot);
  EXPECT_TRUE(snapshot->verify().has_value());
}

TEST(SnapshotCompat, Format1IsWrittenAsItWas) {
  EXPECT_EQ(as_text(encode_state(golden::state())), golden_file("state.bin"));
  const auto manifest = decode_manifest(golden_file("manifest.json"));
  ASSERT_TRUE(manifest.has_value());
  EXPECT_EQ(encode_manifest(*manifest), golden_file("manifest.json"));
  const std::string sums = golden_file("memory.sum");
  const auto sum = decode_memory_sum(as_byte_span(sums), golden::kMemoryBytes);
  ASSERT_TRUE(sum.has_value());
  EXPECT_EQ(as_text(encode_memory_sum(*sum)), sums);
}

TEST(SnapshotCompat, Format1SumsOfADiffAreRead) {
  const std::string bytes = golden_file("../diff-1.sum");
  const auto sum = decode_memory_sum(as_byte_span(bytes), golden::kMemoryBytes);
  ASSERT_TRUE(sum.has_value()) << sum.error().text();
  const MemorySum expected{.memory_bytes = golden::kMemoryBytes,
                           .manifest_crc = 0x01020304,
                           .own_pages = std::vector<PageRange>{{2, 1}, {7, 20}},
                           .chunks = {{0, 0x84, 0xAABBCCDD}, {1, 1, 5}}};
  EXPECT_EQ(*sum, expected);
  EXPECT_EQ(as_text(encode_memory_sum(expected)), bytes);
}

}  // namespace
}  // namespace sm
