// What a worker, which a hostile guest may have taken over, says to its parent on the control
// socket.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "proto/control.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  sm::control::MessageParser parser;
  parser.feed(bytes);
  for (auto message = parser.next(); message && *message; message = parser.next()) {
  }
  const auto message = sm::control::decode(bytes);
  if (!message) return 0;
  // What is taken comes back from the encoder, behind its length.
  const auto again = sm::control::encode(*message);
  SM_CHECK(sm::control::decode(std::span(again).subspan(sizeof(std::uint32_t))).has_value());
  return 0;
}
