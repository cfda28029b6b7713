// A guest's /proc/net/tcp, as its agent hands it out.
#include "runtime/bake/tcp_listeners.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  SM_CHECK(sm::parse_tcp_listeners(text).size() <= 4096);
  return 0;
}
