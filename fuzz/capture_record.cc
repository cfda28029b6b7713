// What a worker, which a hostile guest may have taken over, says of its saved machine.
#include "vmm/snapshot/capture_record.h"

#include <cstddef>
#include <cstdint>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto record = sm::decode_capture(bytes);
  if (!record) return 0;
  // What is taken comes back from the encoder.
  const auto again = sm::decode_capture(sm::encode_capture(*record));
  SM_CHECK(again && again->state == record->state && again->facts == record->facts &&
           again->changed == record->changed);
  return 0;
}
