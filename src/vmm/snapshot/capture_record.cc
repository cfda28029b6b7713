#include "vmm/snapshot/capture_record.h"

#include "base/bytes.h"
#include "vmm/snapshot/state_codec.h"

namespace sm {

namespace {

constexpr std::size_t kMaxManifest = 1u << 20;

tl::unexpected<Error> malformed() {
  return fail(Code::kCorrupt, "the worker's record of a saved machine is malformed");
}

}  // namespace

std::vector<std::byte> encode_capture(const CaptureRecord& record) {
  ByteWriter w;
  w.put_string(encode_manifest(record.facts));
  const auto state = encode_state(record.state);
  w.put(static_cast<std::uint32_t>(state.size()));
  w.put_bytes(state);
  w.put(static_cast<std::uint64_t>(record.changed.size()));
  for (const PageRange& range : record.changed) {
    w.put(range.first);
    w.put(range.count);
  }
  return w.release();
}

Result<CaptureRecord> decode_capture(std::span<const std::byte> bytes) {
  ByteReader r(bytes);
  const auto manifest = r.take_string(kMaxManifest);
  const auto state_size = r.take<std::uint32_t>();
  if (!manifest || !state_size) return malformed();
  const auto state = r.take_bytes(*state_size);
  const auto ranges = r.take<std::uint64_t>();
  if (!state || !ranges || *ranges > r.rest().size() / sizeof(PageRange)) return malformed();
  // One by one: compilers forget those of a braced list that come before an early return.
  CaptureRecord record;
  record.facts = SM_TRY(decode_manifest(*manifest));
  record.state = SM_TRY(decode_state(*state));
  for (std::uint64_t i = 0; i < *ranges; ++i) {
    const auto first = r.take<std::uint64_t>(), count = r.take<std::uint64_t>();
    if (!first || !count) return malformed();
    record.changed.push_back({*first, *count});
  }
  if (!r.at_end()) return malformed();
  return record;
}

}  // namespace sm
