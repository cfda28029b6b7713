#include "runtime/keeper/keeper_protocol.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/json.h"
#include "runtime/keeper/vm_record.h"

namespace sm {

namespace {

using nlohmann::json;

constexpr int kMaxSignal = 64;

constexpr std::array<std::pair<KeeperVerb, std::string_view>, 11> kVerbs = {{
    {KeeperVerb::kStop, "stop"},
    {KeeperVerb::kKill, "kill"},
    {KeeperVerb::kPause, "pause"},
    {KeeperVerb::kUnpause, "unpause"},
    {KeeperVerb::kWait, "wait"},
    {KeeperVerb::kStats, "stats"},
    {KeeperVerb::kRename, "rename"},
    {KeeperVerb::kAttach, "attach"},
    {KeeperVerb::kExec, "exec"},
    {KeeperVerb::kStarted, "started"},
    {KeeperVerb::kSave, "save"},
}};

tl::unexpected<Error> malformed() {
  return fail(Code::kCorrupt, "keeper's socket: a malformed message");
}

std::vector<std::byte> frame(const json& body) {
  ByteWriter w;
  w.put_string(dump_json(body));
  return w.release();
}

Result<json> open_body(std::span<const std::byte> bytes) {
  json body = SM_TRY(
      parse_json(as_text(bytes), "keeper's socket", {.bytes = kMaxKeeperMessage, .depth = 4}));
  if (!body.is_object()) return malformed();
  const auto version = body.find("version");
  if (version == body.end() || !version->is_number_unsigned()) return malformed();
  if (*version != kKeeperVersion) {
    return fail(Code::kUnsupported, "keeper's socket: the peer speaks version " + version->dump(),
                "use the supermachine that started the VM");
  }
  return body;
}

Result<std::uint64_t> number_of(const json& body, const char* key, std::uint64_t most) {
  const auto it = body.find(key);
  if (it == body.end() || !it->is_number_unsigned()) return malformed();
  const auto value = it->get<std::uint64_t>();
  if (value > most) return malformed();
  return value;
}

Result<std::string> text_of(const json& body, const char* key) {
  const auto it = body.find(key);
  if (it == body.end() || !it->is_string()) return malformed();
  return it->get<std::string>();
}

constexpr std::array<std::pair<const char*, std::uint64_t KeeperStats::*>, 6> kStats = {{
    {"cpu_ns", &KeeperStats::cpu_ns},
    {"memory_bytes", &KeeperStats::memory_bytes},
    {"memory_limit", &KeeperStats::memory_limit},
    {"read_bytes", &KeeperStats::read_bytes},
    {"write_bytes", &KeeperStats::write_bytes},
    {"processes", &KeeperStats::processes},
}};

}  // namespace

std::vector<std::byte> encode_request(const KeeperRequest& request) {
  std::string_view verb;
  for (const auto& [value, text] : kVerbs) {
    if (value == request.verb) verb = text;
  }
  json body = {{"version", kKeeperVersion},
               {"verb", verb},
               {"signal", static_cast<std::uint64_t>(request.signal)},
               {"text", to_hex(request.text)}};
  if (request.seconds) body["seconds"] = *request.seconds;
  if (request.replace) body["replace"] = true;
  return frame(body);
}

std::vector<std::byte> encode_reply(const KeeperReply& reply) {
  json body = {{"version", kKeeperVersion}, {"status", static_cast<std::uint64_t>(reply.status)}};
  for (const auto& [name, member] : kStats) body[name] = reply.stats.*member;
  if (reply.pause_ns != 0) {
    body["saved_bytes"] = reply.saved_bytes;
    body["pause_ns"] = reply.pause_ns;
  }
  if (reply.error) {
    body["code"] = static_cast<std::uint64_t>(reply.error->code());
    body["cause"] = reply.error->cause();
    body["remedy"] = reply.error->remedy();
  }
  return frame(body);
}

Result<KeeperRequest> decode_request(std::span<const std::byte> bytes) {
  const json body = SM_TRY(open_body(bytes));
  const std::string verb = SM_TRY(text_of(body, "verb"));
  const auto* const known =
      std::find_if(kVerbs.begin(), kVerbs.end(), [&](const auto& v) { return v.second == verb; });
  if (known == kVerbs.end()) {
    return fail(Code::kUnsupported, "keeper's socket: an unknown request",
                "use the supermachine that started the VM");
  }
  KeeperRequest out;
  out.verb = known->first;
  out.signal = static_cast<int>(SM_TRY(number_of(body, "signal", kMaxSignal)));
  const std::string text = SM_TRY(text_of(body, "text"));
  out.text = SM_TRY(from_hex(text));
  if (body.contains("seconds")) {
    out.seconds = static_cast<std::uint32_t>(SM_TRY(number_of(body, "seconds", UINT32_MAX)));
  }
  if (const auto replace = body.find("replace"); replace != body.end()) {
    if (!replace->is_boolean()) return malformed();
    out.replace = replace->get<bool>();
  }
  return out;
}

Result<KeeperReply> decode_reply(std::span<const std::byte> bytes) {
  const json body = SM_TRY(open_body(bytes));
  KeeperReply out;
  out.status = static_cast<int>(SM_TRY(number_of(body, "status", 255)));
  for (const auto& [name, member] : kStats) {
    out.stats.*member = SM_TRY(number_of(body, name, UINT64_MAX));
  }
  if (body.contains("pause_ns")) {
    out.saved_bytes = SM_TRY(number_of(body, "saved_bytes", UINT64_MAX));
    out.pause_ns = SM_TRY(number_of(body, "pause_ns", UINT64_MAX));
  }
  if (body.contains("code")) {
    const auto code = SM_TRY(number_of(body, "code", static_cast<std::uint64_t>(Code::kInternal)));
    std::string cause = SM_TRY(text_of(body, "cause"));
    std::string remedy = SM_TRY(text_of(body, "remedy"));
    out.error = Error(static_cast<Code>(code), std::move(cause), std::move(remedy));
  }
  return out;
}

Result<std::optional<std::vector<std::byte>>> take_message(std::vector<std::byte>& buffer) {
  ByteReader r(buffer);
  const auto length = r.take<std::uint32_t>();
  if (!length) return std::nullopt;
  if (*length > kMaxKeeperMessage) {
    return fail(Code::kLimit,
                "keeper's socket: a message of " + std::to_string(*length) + " bytes");
  }
  const auto body = r.take_bytes(*length);
  if (!body) return std::nullopt;
  std::vector<std::byte> out(body->begin(), body->end());
  buffer.erase(buffer.begin(), buffer.begin() + 4 + static_cast<std::ptrdiff_t>(*length));
  return out;
}

}  // namespace sm
