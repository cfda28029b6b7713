#include "runtime/keeper/vm_record.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/json.h"

namespace sm {

namespace {

using nlohmann::json;

constexpr std::uint64_t kRecordVersion = 1;
// Limit: what a command line may have of anything.
constexpr std::size_t kMaxItems = 64u << 10;

constexpr std::array<std::pair<VmState, std::string_view>, 5> kStates = {{
    {VmState::kCreated, "created"},
    {VmState::kRunning, "running"},
    {VmState::kPaused, "paused"},
    {VmState::kRestarting, "restarting"},
    {VmState::kExited, "exited"},
}};

constexpr std::array<std::pair<RestartKind, std::string_view>, 4> kRestarts = {{
    {RestartKind::kNo, "no"},
    {RestartKind::kOnFailure, "on-failure"},
    {RestartKind::kAlways, "always"},
    {RestartKind::kUnlessStopped, "unless-stopped"},
}};

// Takes members of an object; the first that is missing or of another kind spoils the whole.
class Members {
 public:
  explicit Members(const json& object) : object_(object) {}
  bool ok() const { return ok_; }
  void spoil() { ok_ = false; }

  const json* get(const char* key) {
    const auto it = object_.find(key);
    if (it != object_.end()) return &*it;
    ok_ = false;
    return nullptr;
  }
  void take(const char* key, std::string& out) {
    const json* value = get(key);
    if (value == nullptr || !value->is_string()) return spoil();
    out = value->get<std::string>();
  }
  void take(const char* key, bool& out) {
    const json* value = get(key);
    if (value == nullptr || !value->is_boolean()) return spoil();
    out = value->get<bool>();
  }
  template <class T>
  requires std::is_integral_v<T>
  void take(const char* key, T& out) {
    const json* value = get(key);
    if (value == nullptr || !value->is_number_integer()) return spoil();
    const bool fits = value->is_number_unsigned() ? std::in_range<T>(value->get<std::uint64_t>())
                                                  : std::in_range<T>(value->get<std::int64_t>());
    if (!fits) return spoil();
    out = value->get<T>();
  }
  void take(const char* key, std::vector<std::string>& out) {
    const json* value = get(key);
    if (value == nullptr || !value->is_array() || value->size() > kMaxItems) return spoil();
    for (const json& item : *value) {
      if (!item.is_string()) return spoil();
      out.push_back(item.get<std::string>());
    }
  }
  void take(const char* key, std::map<std::string, std::string>& out) {
    const json* value = get(key);
    if (value == nullptr || !value->is_object() || value->size() > kMaxItems) return spoil();
    for (const auto& [name, text] : value->items()) {
      if (!text.is_string()) return spoil();
      out[name] = text.get<std::string>();
    }
  }

 private:
  const json& object_;
  bool ok_ = true;
};

void take_ports(Members& in, std::vector<PortBinding>& out) {
  const json* value = in.get("ports");
  if (value == nullptr || !value->is_array() || value->size() > kMaxItems) return in.spoil();
  for (const json& item : *value) {
    if (!item.is_object()) return in.spoil();
    Members members(item);
    PortBinding port;
    members.take("ip", port.ip);
    members.take("host", port.host);
    members.take("guest", port.guest);
    // A former version does not write it.
    if (item.contains("any")) members.take("any", port.any);
    if (item.contains("first")) members.take("first", port.first);
    if (item.contains("last")) members.take("last", port.last);
    if (!members.ok()) return in.spoil();
    out.push_back(std::move(port));
  }
}

void take_enums(Members& in, VmRecord& out) {
  std::string state, restart;
  in.take("state", state);
  in.take("restart", restart);
  const auto* const known = std::find_if(kStates.begin(), kStates.end(),
                                         [&](const auto& s) { return s.second == state; });
  const auto policy = parse_restart(restart);
  if (known == kStates.end() || !policy) return in.spoil();
  out.state = known->first;
  out.restart = *policy;
}

// Arguments, paths and requests may hold bytes that JSON cannot.
void take_words(Members& in, VmRecord& out) {
  in.take("words", out.words);
  in.take("folder", out.folder);
  in.take("request", out.request);
  const auto decode = [&in](std::string& text) {
    auto bytes = from_hex(text);
    if (!bytes) return in.spoil();
    text = *std::move(bytes);
  };
  for (std::string& word : out.words) decode(word);
  decode(out.folder);
  decode(out.request);
}

bool is_id(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::string_view vm_state_text(VmState state) {
  for (const auto& [value, text] : kStates) {
    if (value == state) return text;
  }
  return "unknown";
}

bool is_live(VmState state) {
  return state == VmState::kRunning || state == VmState::kPaused || state == VmState::kRestarting;
}

bool is_kept(const VmRecord& record) {
  return is_live(record.state) || (record.state == VmState::kCreated && record.keeper_pid != 0);
}

std::string restart_text(const RestartPolicy& policy) {
  for (const auto& [kind, text] : kRestarts) {
    if (kind != policy.kind) continue;
    return std::string(text) + (policy.most > 0 ? ":" + std::to_string(policy.most) : "");
  }
  return "no";
}

Result<RestartPolicy> parse_restart(const std::string& text) {
  RestartPolicy out;
  const auto colon = text.find(':');
  const std::string word = text.substr(0, colon);
  const auto* const known = std::find_if(kRestarts.begin(), kRestarts.end(),
                                         [&](const auto& r) { return r.second == word; });
  bool good = known != kRestarts.end();
  if (good) out.kind = known->first;
  if (good && colon != std::string::npos) {
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, out.most);
    good = out.kind == RestartKind::kOnFailure && parsed.ec == std::errc() && parsed.ptr == end;
  }
  if (good) return out;
  return fail(Code::kInvalidArgument, "'" + text + "' is not a restart policy",
              "use no, on-failure, on-failure:N, always or unless-stopped");
}

std::string encode_record(const VmRecord& r) {
  json ports = json::array();
  for (const auto& p : r.ports) {
    ports.push_back({{"ip", p.ip}, {"host", p.host}, {"guest", p.guest}, {"any", p.any}});
    if (p.last == 0) continue;
    ports.back()["first"] = p.first;
    ports.back()["last"] = p.last;
  }
  json words = json::array();
  for (const auto& word : r.words) words.push_back(to_hex(word));
  const json body = {{"version", kRecordVersion},
                     {"id", r.id},
                     {"name", r.name},
                     {"image", r.image},
                     {"image_digest", r.image_digest},
                     {"command", r.command},
                     {"labels", r.labels},
                     {"ports", std::move(ports)},
                     {"detached", r.detached},
                     {"tty", r.tty},
                     {"interactive", r.interactive},
                     {"auto_remove", r.auto_remove},
                     {"has_disk", r.has_disk},
                     {"disk_bytes", r.disk_bytes},
                     {"restart", restart_text(r.restart)},
                     {"stop_signal", r.stop_signal},
                     {"stop_timeout_s", r.stop_timeout_s},
                     {"memory_bytes", r.memory_bytes},
                     {"cpus", r.cpus},
                     {"engine", r.engine},
                     {"state", vm_state_text(r.state)},
                     {"created_ns", r.created_ns},
                     {"started_ns", r.started_ns},
                     {"finished_ns", r.finished_ns},
                     {"exit_code", r.exit_code},
                     {"error", r.error},
                     {"restarts", r.restarts},
                     {"stopped", r.stopped},
                     {"health", r.health},
                     {"health_failures", r.health_failures},
                     {"keeper_pid", r.keeper_pid},
                     {"worker_pid", r.worker_pid},
                     {"exec_socket", r.exec_socket},
                     {"keeper_socket", r.keeper_socket},
                     {"words", std::move(words)},
                     {"folder", to_hex(r.folder)},
                     {"request", to_hex(r.request)}};
  return dump_json(body);
}

Result<VmRecord> parse_record(std::string_view text, std::string_view what) {
  const json body = SM_TRY(parse_json(text, what, {.bytes = kMaxRecord, .depth = 8}));
  const auto corrupt = [&] {
    return fail(Code::kCorrupt, std::string(what) + " is not the record of a VM",
                "remove the VM with `supermachine rm -f`");
  };
  if (!body.is_object()) return corrupt();
  Members in(body);
  std::uint64_t version = 0;
  in.take("version", version);
  if (in.ok() && version != kRecordVersion) {
    return fail(Code::kUnsupported,
                std::string(what) + " has version " + std::to_string(version) +
                    ", this program knows version " + std::to_string(kRecordVersion),
                "use the supermachine that made it");
  }
  VmRecord out;
  for (auto [key, value] : {std::pair<const char*, std::string*>{"id", &out.id},
                            {"name", &out.name},
                            {"image", &out.image},
                            {"image_digest", &out.image_digest},
                            {"engine", &out.engine},
                            {"error", &out.error},
                            {"health", &out.health},
                            {"exec_socket", &out.exec_socket},
                            {"keeper_socket", &out.keeper_socket}}) {
    in.take(key, *value);
  }
  for (auto [key, value] : {std::pair<const char*, bool*>{"detached", &out.detached},
                            {"tty", &out.tty},
                            {"interactive", &out.interactive},
                            {"auto_remove", &out.auto_remove},
                            {"stopped", &out.stopped}}) {
    in.take(key, *value);
  }
  // Not in the records of the versions that knew none.
  if (body.contains("has_disk")) in.take("has_disk", out.has_disk);
  if (body.contains("disk_bytes")) in.take("disk_bytes", out.disk_bytes);
  in.take("command", out.command);
  take_words(in, out);
  in.take("labels", out.labels);
  take_ports(in, out.ports);
  take_enums(in, out);
  in.take("stop_signal", out.stop_signal);
  in.take("stop_timeout_s", out.stop_timeout_s);
  in.take("memory_bytes", out.memory_bytes);
  in.take("cpus", out.cpus);
  in.take("created_ns", out.created_ns);
  in.take("started_ns", out.started_ns);
  in.take("finished_ns", out.finished_ns);
  in.take("exit_code", out.exit_code);
  in.take("restarts", out.restarts);
  // Members that a former version does not write.
  if (body.contains("health_failures")) in.take("health_failures", out.health_failures);
  in.take("keeper_pid", out.keeper_pid);
  in.take("worker_pid", out.worker_pid);
  if (!in.ok() || !is_id(out.id)) return corrupt();
  return out;
}

std::int64_t unix_now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

std::string rfc3339(std::int64_t ns) {
  const std::int64_t rest = ((ns % 1'000'000'000) + 1'000'000'000) % 1'000'000'000;
  const time_t seconds = (ns - rest) / 1'000'000'000;
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t n = ::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  const std::string digits = std::to_string(1'000'000'000 + rest).substr(1);
  return std::string(text.data(), n) + "." + digits + "Z";
}

std::string to_hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

Result<std::string> from_hex(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 2);
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return fail(Code::kCorrupt, "not hexadecimal digits");
    out += static_cast<char>(high * 16 + low);
  }
  if (text.size() % 2 != 0) return fail(Code::kCorrupt, "an odd number of hexadecimal digits");
  return out;
}

}  // namespace sm
