// manifest.json from a hostile disk: what is taken is within the limits and comes back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "vmm/snapshot/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = sm::decode_manifest(text);
  if (!manifest) return 0;
  SM_CHECK(manifest->format == sm::kSnapshotFormat);
  SM_CHECK(manifest->memory_bytes != 0 && manifest->memory_bytes <= sm::kMaxSnapshotMemory);
  SM_CHECK(manifest->annotations.size() <= sm::kMaxAnnotations);
  // Paths go to the kernel: no zero byte may come through.
  SM_CHECK(!manifest->base || (manifest->base->path.starts_with('/') &&
                               manifest->base->path.find('\0') == std::string::npos));
  const auto again = sm::decode_manifest(sm::encode_manifest(*manifest));
  // Escapes and blanks may make the text longer than it may be.
  SM_CHECK(again ? *again == *manifest : again.error().code() == sm::Code::kLimit);
  return 0;
}
