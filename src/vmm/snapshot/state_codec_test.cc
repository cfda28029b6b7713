#include "vmm/snapshot/state_codec.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "vmm/snapshot/testing/example.h"

namespace sm {
namespace {

using snapshot_testing::random_state;

// Offsets in the file, as docs/reference/snapshot-format.md has them.
constexpr std::size_t kHeader = 32, kEntry = 32;

template <class T>
T get(const std::vector<std::byte>& bytes, std::size_t at) {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}
template <class T>
void put(std::vector<std::byte>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

// Makes the sums right again after a change, so that what lies behind them is reached.
void repair(std::vector<std::byte>& bytes) {
  const auto count = get<std::uint32_t>(bytes, 12);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = kHeader + kEntry * i;
    const auto offset = get<std::uint64_t>(bytes, entry + 16);
    const auto length = get<std::uint64_t>(bytes, entry + 24);
    if (offset > bytes.size() || length > bytes.size() - offset) continue;
    put(bytes, entry + 12,
        crc32c(std::span(bytes).subspan(static_cast<std::size_t>(offset),
                                        static_cast<std::size_t>(length))));
  }
  put(bytes, 16, std::uint64_t{bytes.size()});
  const std::span<const std::byte> all(bytes);
  put(bytes, 28, crc32c(all.subspan(kHeader, kEntry * count), crc32c(all.first(28))));
}

MachineState small_state() {
  MachineState state;
  state.vcpus.resize(1);
  state.devices.resize(1);
  return state;
}

Code code_of(const Result<MachineState>& result) {
  return result ? Code::kInternal : result.error().code();
}

TEST(StateCodec, EveryStateComesBack) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    const MachineState state = random_state(seed);
    const auto bytes = encode_state(state);
    const auto again = decode_state(bytes);
    ASSERT_TRUE(again.has_value()) << seed << ": " << again.error().text();
    ASSERT_EQ(*again, state) << seed;
    ASSERT_EQ(encode_state(*again), bytes) << seed;
  }
}

TEST(StateCodec, SectionsHaveTheirDocumentedSizes) {
  // Counted by hand, so that no field can be left out of the lists that both directions use.
  MachineState state = small_state();
  auto bytes = encode_state(state);
  const std::vector<std::uint64_t> sizes{507, 212, 14, 4, 46};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(get<std::uint64_t>(bytes, kHeader + kEntry * i + 24), sizes[i]) << i;
  }
  const auto before = bytes.size();
  state.devices[0].queues.resize(2);
  EXPECT_EQ(encode_state(state).size(), before + 2 * 35);
  state.vcpus[0].msrs.resize(3);
  EXPECT_EQ(encode_state(state).size(), before + 2 * 35 + 3 * 12);
}

TEST(StateCodec, EveryFlippedBitIsFound) {
  const auto good = encode_state(random_state(3));
  auto bytes = good;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[i] ^= static_cast<std::byte>(1 << bit);
      const auto result = decode_state(bytes);
      ASSERT_FALSE(result.has_value()) << "byte " << i << " bit " << bit;
      bytes[i] = good[i];
    }
  }
}

TEST(StateCodec, EveryTruncationAndExtensionIsFound) {
  auto bytes = encode_state(random_state(4));
  const std::span<const std::byte> all(bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_EQ(code_of(decode_state(all.first(size))), Code::kCorrupt) << size;
  }
  bytes.push_back(std::byte{0});
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kCorrupt);
}

TEST(StateCodec, NamesVersionsItDoesNotKnow) {
  auto bytes = encode_state(small_state());
  put(bytes, 8, std::uint32_t{2});
  auto result = decode_state(bytes);
  EXPECT_EQ(code_of(result), Code::kUnsupported);
  EXPECT_NE(result.error().cause().find("version 2"), std::string::npos);

  bytes = encode_state(small_state());
  put(bytes, kHeader + kEntry * 2 + 8, std::uint32_t{9});
  repair(bytes);
  result = decode_state(bytes);
  EXPECT_EQ(code_of(result), Code::kUnsupported);
  EXPECT_NE(result.error().cause().find("section uart 0 has version 9"), std::string::npos)
      << result.error().cause();
  EXPECT_FALSE(result.error().remedy().empty());

  bytes = encode_state(small_state());
  put(bytes, kHeader + kEntry * 4, std::uint32_t{77});
  repair(bytes);
  result = decode_state(bytes);
  EXPECT_EQ(code_of(result), Code::kUnsupported);
  EXPECT_NE(result.error().cause().find("77"), std::string::npos);
}

TEST(StateCodec, RefusesDirectoriesThatLie) {
  struct Lie {
    const char* what;
    std::size_t at;
    std::uint64_t value;
  };
  const std::size_t second = kHeader + kEntry;
  for (const Lie& lie : {Lie{"offset", second + 16, 0}, Lie{"offset", second + 16, ~0ull},
                         Lie{"length", second + 24, ~0ull}, Lie{"length", second + 24, 1ull << 63},
                         Lie{"length", second + 24, 0}}) {
    auto bytes = encode_state(small_state());
    put(bytes, lie.at, lie.value);
    repair(bytes);
    EXPECT_EQ(code_of(decode_state(bytes)), Code::kCorrupt) << lie.what << " " << lie.value;
  }
  // The same section twice, and numbers with a gap.
  auto bytes = encode_state(small_state());
  put(bytes, second, std::uint32_t{1});
  repair(bytes);
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kCorrupt);
  bytes = encode_state(small_state());
  put(bytes, kHeader + 4, std::uint32_t{1});
  repair(bytes);
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kCorrupt);
}

TEST(StateCodec, ChecksLimitsBeforeItAllocates) {
  auto bytes = encode_state(small_state());
  put(bytes, 12, ~std::uint32_t{0});
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kLimit);

  // The length of the device's own state is the last field of the last section.
  bytes = encode_state(small_state());
  put(bytes, bytes.size() - 4, ~std::uint32_t{0});
  repair(bytes);
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kLimit);
  bytes = encode_state(small_state());
  put(bytes, bytes.size() - 4, std::uint32_t{1000});
  repair(bytes);
  EXPECT_EQ(code_of(decode_state(bytes)), Code::kCorrupt);

  EXPECT_EQ(code_of(decode_state(std::vector<std::byte>(kMaxStateBytes + 1))), Code::kLimit);
  MachineState state = small_state();
  state.devices.resize(kMaxStateDevices + 1);
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kLimit);
}

TEST(StateCodec, RefusesStatesThatAreNone) {
  MachineState state = small_state();
  state.vcpus.clear();
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kCorrupt);
  state = small_state();
  state.vcpus[0].msrs = {{5, 0}, {5, 1}};
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kCorrupt);
  state = small_state();
  state.vcpus[0].xsave.resize(512);
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kCorrupt);
  state = small_state();
  state.vcpus[0].mp_state = static_cast<MpState>(5);
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kCorrupt);
  state = small_state();
  state.uart.fifo.resize(17);
  EXPECT_EQ(code_of(decode_state(encode_state(state))), Code::kLimit);
}

}  // namespace
}  // namespace sm
