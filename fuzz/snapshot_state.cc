// state.bin from a hostile disk. The sums are made right before half of the inputs are read, since
// no mutation gets past them by chance; what is taken must come back from the encoder.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "vmm/snapshot/state_codec.h"

namespace {

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

void repair(std::vector<std::byte>& bytes) {
  if (bytes.size() < kHeader) return;
  const std::span<const std::byte> all(bytes);
  const std::size_t count = get<std::uint32_t>(bytes, 12);
  if (count > (bytes.size() - kHeader) / kEntry) return;
  std::uint64_t end = kHeader + kEntry * count;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = kHeader + kEntry * i;
    // The last section takes what is there.
    if (i + 1 == count && end <= bytes.size()) put(bytes, entry + 24, bytes.size() - end);
    const auto length = get<std::uint64_t>(bytes, entry + 24);
    if (end > bytes.size() || length > bytes.size() - end) break;
    put(bytes, entry + 16, end);
    put(bytes, entry + 12, sm::crc32c(all.subspan(end, length)));
    end += length;
  }
  put(bytes, 16, std::uint64_t{bytes.size()});
  put(bytes, 28, sm::crc32c(all.subspan(kHeader, kEntry * count), sm::crc32c(all.first(28))));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin() + 1, input.end());
  if ((data[0] & 1) != 0) repair(bytes);
  const auto state = sm::decode_state(bytes);
  if (!state) return 0;
  SM_CHECK(!state->vcpus.empty() && state->vcpus.size() <= sm::kMaxStateVcpus);
  SM_CHECK(state->devices.size() <= sm::kMaxStateDevices);
  SM_CHECK(sm::encode_state(*state) == bytes);
  return 0;
}
