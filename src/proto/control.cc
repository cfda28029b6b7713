#include "proto/control.h"

#include <array>
#include <utility>

#include "base/bytes.h"
#include "base/json.h"

namespace sm::control {

namespace {

using nlohmann::json;

constexpr std::array<std::pair<EventName, std::string_view>, 8> kEvents = {{
    {EventName::kStarted, "started"},
    {EventName::kBooted, "booted"},
    {EventName::kAgentReady, "agent-ready"},
    {EventName::kWorkloadStart, "workload-start"},
    {EventName::kWorkloadExit, "workload-exit"},
    {EventName::kFatal, "fatal"},
    {EventName::kImageAwaited, "image-awaited"},
    {EventName::kStopped, "stopped"},
}};

json to_json(const Hello& m) {
  return {{"type", "hello"}, {"version", m.version}, {"program", m.program}};
}
json to_json(const Event& m) {
  return {{"type", "event"},
          {"name", event_text(m.name)},
          {"argument", m.argument},
          {"at_ns", m.at_ns}};
}
json to_json(const Failure& m) {
  return {{"type", "failure"}, {"code", m.code}, {"cause", m.cause}, {"remedy", m.remedy}};
}
json to_json(const Stop&) { return {{"type", "stop"}}; }
json to_json(const RestoreRequest& m) { return {{"type", "restore"}, {"arguments", m.arguments}}; }
json to_json(const SnapshotRequest& m) {
  return {{"type", "snapshot"}, {"id", m.id},           {"changed_only", m.changed_only},
          {"path", m.path},     {"replace", m.replace}, {"disk", m.disk}};
}
json to_json(const PauseRequest& m) {
  return {{"type", m.pause ? "pause" : "resume"}, {"id", m.id}};
}
json to_json(const Done& m) {
  return {{"type", "done"}, {"id", m.id}, {"pause_ns", m.pause_ns}, {"bytes", m.bytes}};
}
json to_json(const Refused& m) {
  return {{"type", "refused"},
          {"id", m.id},
          {"code", m.why.code},
          {"cause", m.why.cause},
          {"remedy", m.why.remedy}};
}
json to_json(const GetStats&) { return {{"type", "get-stats"}}; }
json to_json(const Stats& m) { return {{"type", "stats"}, {"vcpus", m.vcpus}}; }

tl::unexpected<Error> malformed() {
  return fail(Code::kCorrupt, "control socket: malformed message");
}

Result<std::string> text_of(const json& body, const char* key) {
  const auto it = body.find(key);
  if (it == body.end() || !it->is_string()) return malformed();
  return it->get<std::string>();
}

Result<std::uint64_t> number_of(const json& body, const char* key) {
  const auto it = body.find(key);
  if (it == body.end() || !it->is_number_unsigned()) return malformed();
  return it->get<std::uint64_t>();
}

Result<bool> flag_of(const json& body, const char* key) {
  const auto it = body.find(key);
  if (it == body.end() || !it->is_boolean()) return malformed();
  return it->get<bool>();
}

// Members one by one: compilers forget those of a braced list that come before an early return.
Result<Failure> failure_of(const json& body) {
  Failure failure;
  failure.code = SM_TRY(text_of(body, "code"));
  failure.cause = SM_TRY(text_of(body, "cause"));
  failure.remedy = SM_TRY(text_of(body, "remedy"));
  return failure;
}

Result<Message> decode_hello(const json& body) {
  const std::uint64_t version = SM_TRY(number_of(body, "version"));
  if (version != kVersion) {
    return fail(Code::kUnsupported,
                "control socket: the peer speaks version " + std::to_string(version) +
                    ", this program version " + std::to_string(kVersion),
                "install supermachine and supermachine-worker from the same build");
  }
  return Hello{kVersion, SM_TRY(text_of(body, "program"))};
}

Result<Message> decode_stats(const json& body) {
  const auto it = body.find("vcpus");
  if (it == body.end() || !it->is_array()) return malformed();
  Stats stats;
  for (const json& vcpu : *it) {
    if (!vcpu.is_object()) return malformed();
    auto& numbers = stats.vcpus.emplace_back();
    for (const auto& [name, value] : vcpu.items()) {
      if (!value.is_number_unsigned()) return malformed();
      numbers[name] = value.get<std::uint64_t>();
    }
  }
  return stats;
}

Result<Message> decode_restore(const json& body) {
  const auto it = body.find("arguments");
  if (it == body.end() || !it->is_array()) return malformed();
  RestoreRequest request;
  for (const json& word : *it) {
    if (!word.is_string()) return malformed();
    request.arguments.push_back(word.get<std::string>());
  }
  return request;
}

Result<Message> decode_event(const json& body) {
  const std::string name = SM_TRY(text_of(body, "name"));
  const std::uint64_t argument = SM_TRY(number_of(body, "argument"));
  if (argument > 0xFF'FFFF) return malformed();
  for (const auto& [event, text] : kEvents) {
    if (text == name) {
      return Event{event, static_cast<std::uint32_t>(argument), SM_TRY(number_of(body, "at_ns"))};
    }
  }
  return malformed();
}

// Requests and their answers.
Result<Message> decode_numbered(const json& body, const std::string& type) {
  const std::uint64_t id = SM_TRY(number_of(body, "id"));
  if (type == "snapshot") {
    SnapshotRequest request;
    request.id = id;
    request.changed_only = SM_TRY(flag_of(body, "changed_only"));
    request.path = SM_TRY(text_of(body, "path"));
    request.replace = SM_TRY(flag_of(body, "replace"));
    if (body.contains("disk")) request.disk = SM_TRY(flag_of(body, "disk"));
    return request;
  }
  if (type == "pause" || type == "resume") return PauseRequest{id, type == "pause"};
  if (type == "done") {
    return Done{id, SM_TRY(number_of(body, "pause_ns")), SM_TRY(number_of(body, "bytes"))};
  }
  if (type == "refused") return Refused{id, SM_TRY(failure_of(body))};
  return malformed();
}

}  // namespace

std::string_view event_text(EventName name) {
  for (const auto& [event, text] : kEvents) {
    if (event == name) return text;
  }
  return "unknown";
}

std::string text_of(const Message& message) {
  const json body = std::visit([](const auto& m) { return to_json(m); }, message);
  // Texts may carry any bytes of a path or a guest: invalid UTF-8 is replaced, never thrown at us.
  return dump_json(body);
}

std::vector<std::byte> encode(const Message& message) {
  ByteWriter w;
  w.put_string(text_of(message));
  return w.release();
}

Result<Message> decode(std::span<const std::byte> bytes) {
  const json body = SM_TRY(
      parse_json(as_text(bytes), "control socket", JsonLimits{.bytes = kMaxMessage, .depth = 8}));
  if (!body.is_object()) return malformed();
  const std::string type = SM_TRY(text_of(body, "type"));
  if (type == "hello") return decode_hello(body);
  if (type == "event") return decode_event(body);
  if (type == "failure") return SM_TRY(failure_of(body));
  if (type == "stop") return Stop{};
  if (type == "restore") return decode_restore(body);
  if (type == "get-stats") return GetStats{};
  if (type == "stats") return decode_stats(body);
  return decode_numbered(body, type);
}

void MessageParser::feed(std::span<const std::byte> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

Result<std::optional<Message>> MessageParser::next() {
  ByteReader r(buffer_);
  const auto length = r.take<std::uint32_t>();
  if (!length) return std::nullopt;
  if (*length > kMaxMessage) {
    return fail(Code::kLimit, "control socket: a message of " + std::to_string(*length) + " bytes");
  }
  const auto body = r.take_bytes(*length);
  if (!body) return std::nullopt;
  Message message = SM_TRY(decode(*body));
  buffer_.erase(buffer_.begin(), buffer_.begin() + 4 + static_cast<std::ptrdiff_t>(*length));
  return message;
}

}  // namespace sm::control
