// Hostile image configurations.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "oci/image_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto config = sm::parse_image_config({reinterpret_cast<const char*>(data), size});
  if (!config) return 0;
  SM_CHECK(config->env.size() <= sm::kMaxConfigItems);
  // All of these become C strings in the guest.
  for (const auto* list : {&config->env, &config->cmd, &config->entrypoint, &config->volumes}) {
    for (const auto& text : *list) SM_CHECK(text.find('\0') == std::string::npos);
  }
  SM_CHECK(config->working_dir.find('\0') == std::string::npos);
  SM_CHECK(config->user.find('\0') == std::string::npos);
  return 0;
}
