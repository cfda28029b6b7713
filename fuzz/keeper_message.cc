// What anybody of the same user says on a keeper's control socket, and what it answers.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "runtime/keeper/keeper_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  std::vector<std::byte> stream(bytes.begin(), bytes.end());
  for (auto message = sm::take_message(stream); message && *message;
       message = sm::take_message(stream)) {
  }
  if (const auto request = sm::decode_request(bytes)) {
    const auto again = sm::encode_request(*request);
    SM_CHECK(sm::decode_request(std::span(again).subspan(4)).has_value());
  }
  if (const auto reply = sm::decode_reply(bytes)) {
    const auto again = sm::encode_reply(*reply);
    SM_CHECK(sm::decode_reply(std::span(again).subspan(4)).has_value());
  }
  return 0;
}
