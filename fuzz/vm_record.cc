// The files of a VM's record: the record itself, lines of its log, events.
#include "runtime/keeper/vm_record.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runtime/keeper/event_log.h"
#include "runtime/keeper/log_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto record = sm::parse_record(text, "record")) {
    SM_CHECK(sm::parse_record(sm::encode_record(*record), "record").has_value());
  }
  if (const auto line = sm::parse_log_line(text)) {
    const std::string again = sm::encode_log_line(*line);
    const auto twice = sm::parse_log_line(std::string_view(again).substr(0, again.size() - 1));
    SM_CHECK(twice && twice->at_ns == line->at_ns && twice->text == line->text);
  }
  if (const auto event = sm::parse_event(text)) {
    SM_CHECK(sm::parse_event(sm::encode_event(*event)).has_value());
  }
  return 0;
}
