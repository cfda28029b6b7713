#include "vmm/snapshot/capture_record.h"

#include <gtest/gtest.h>

#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

CaptureRecord example() {
  CaptureRecord record;
  record.state = snapshot_testing::random_state(7);
  record.facts = snapshot_testing::example_manifest(record.state);
  record.facts.memory_digest.assign(32, '0');
  record.facts.memory_bytes = 1u << 20;
  record.changed = {{3, 4}, {100, 1}};
  return record;
}

TEST(CaptureRecord, survives_the_round_trip) {
  const CaptureRecord record = example();
  const auto again = decode_capture(encode_capture(record));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->state, record.state);
  EXPECT_EQ(again->facts, record.facts);
  EXPECT_EQ(again->changed, record.changed);
}

TEST(CaptureRecord, every_other_length_is_refused) {
  const auto bytes = encode_capture(example());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode_capture(std::span(bytes).first(size))) << size;
  }
  auto longer = bytes;
  longer.push_back({});
  EXPECT_FALSE(decode_capture(longer));
}

TEST(CaptureRecord, a_count_beyond_the_bytes_allocates_nothing) {
  CaptureRecord record = example();
  record.changed.clear();
  auto bytes = encode_capture(record);
  for (std::size_t i = 1; i <= 8; ++i) bytes[bytes.size() - i] = std::byte{0xFF};
  EXPECT_EQ(decode_capture(bytes).error().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace sm
