// The image configuration in a snapshot's annotations, from a hostile disk: what is taken leads to
// no other folder and comes back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/bake/saved_machine.h"
#include "runtime/bake/tcp_listeners.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The guest's list of sockets is as hostile.
  for (const auto& listener : sm::parse_tcp_listeners(text)) SM_CHECK(listener.port != 0);
  const auto image = sm::parse_saved_image(text);
  if (!image) return 0;
  for (const std::string& layer : image->layers) {
    SM_CHECK(!layer.empty() && layer.find('/') == std::string::npos && layer != "..");
  }
  const auto annotations = sm::saved_annotations(*image);
  if (!annotations) return 0;  // escapes make the text longer
  const auto again = sm::parse_saved_image(annotations->at("image-config"));
  SM_CHECK(again && again->layers == image->layers && again->config.env == image->config.env);
  return 0;
}
