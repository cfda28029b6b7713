#include "runtime/keeper/event_log.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"

namespace sm {

namespace {
constexpr std::size_t kMaxLine = 64u << 10;
}

std::string encode_event(const VmEvent& event) {
  const nlohmann::json body = {{"at_ns", event.at_ns}, {"action", event.action},
                               {"id", event.id},       {"name", event.name},
                               {"image", event.image}, {"exit_code", event.exit_code & 0xFF}};
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<VmEvent> parse_event(std::string_view line) {
  const auto body = SM_TRY(parse_json(line, "event", {.bytes = kMaxLine, .depth = 2}));
  const auto malformed = [] { return fail(Code::kCorrupt, "a malformed event"); };
  if (!body.is_object()) return malformed();
  for (const char* key : {"action", "id", "name", "image"}) {
    if (!body.contains(key) || !body[key].is_string()) return malformed();
  }
  for (const char* key : {"at_ns", "exit_code"}) {
    if (!body.contains(key) || !body[key].is_number_unsigned()) return malformed();
  }
  if (body["at_ns"] > INT64_MAX || body["exit_code"] > 255) return malformed();
  VmEvent out;
  out.at_ns = body["at_ns"].get<std::int64_t>();
  out.action = body["action"].get<std::string>();
  out.id = body["id"].get<std::string>();
  out.name = body["name"].get<std::string>();
  out.image = body["image"].get<std::string>();
  out.exit_code = body["exit_code"].get<int>();
  return out;
}

void EventLog::add(const VmRecord& record, const std::string& action) const {
  const VmEvent event{unix_now_ns(), action,       record.id,
                      record.name,   record.image, action == "die" ? record.exit_code : 0};
  const auto fd = open_file(path_, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (!fd) return;
  // One write of a short line: those of several processes do not mix.
  static_cast<void>(write_all(fd->get(), as_byte_span(encode_event(event))));
  const auto size = file_size(fd->get());
  if (size && *size > kMaxEvents) ::rename(path_.c_str(), (path_ + ".1").c_str());
}

}  // namespace sm
