#include "runtime/keeper/event_log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "oci/locked_file.h"

namespace sm {

namespace {

constexpr std::size_t kMaxLine = 64u << 10;
// Limit: so often somebody else may rename the file between two steps of ours.
constexpr int kTurns = 64;
// Whoever holds the lock writes one line; who is stopped in it must not stop all VMs.
constexpr Duration kLockPatience = std::chrono::seconds(2);

// The file that has the name, locked. Who finds it renamed takes the new one.
std::optional<UniqueFd> lock_current(const std::string& path) {
  const Deadline deadline = Deadline::after(kLockPatience);
  while (!deadline.passed()) {
    auto fd = open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (!fd) return std::nullopt;
    const bool locked = try_lock(fd->get(), LockKind::kExclusive);
    if (locked && is_same_file(fd->get(), path)) return *std::move(fd);
    // A lock has nothing that could be waited for with a deadline.
    if (!locked) ::poll(nullptr, 0, 1);
  }
  return std::nullopt;
}

}  // namespace

std::string encode_event(const VmEvent& event) {
  const nlohmann::json body = {{"at_ns", event.at_ns}, {"action", event.action},
                               {"id", event.id},       {"name", event.name},
                               {"image", event.image}, {"exit_code", event.exit_code & 0xFF}};
  return dump_json(body) + "\n";
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
  auto fd = lock_current(path_);
  if (!fd) return;
  const auto before = file_size(fd->get());
  if (!before) return;
  const std::string line = encode_event(event);
  if (!write_all(fd->get(), as_byte_span(line))) {
    // Half a line would spoil the next one.
    static_cast<void>(::ftruncate(fd->get(), static_cast<off_t>(*before)) == 0);
    return;
  }
  // Under the lock of the file that has the name: nobody else renames it, or writes to it later.
  if (*before + line.size() > max_events_) ::rename(path_.c_str(), (path_ + ".1").c_str());
}

void EventReader::read_file(UniqueFd& fd, const std::function<void(const VmEvent&)>& take) {
  const off_t at_now = ::lseek(fd.get(), 0, SEEK_CUR);
  const auto size = file_size(fd.get());
  // A line that a full disk did not take was cut off again.
  if (size && at_now > static_cast<off_t>(*size)) {
    ::lseek(fd.get(), 0, SEEK_END);
    rest_.clear();
  }
  std::array<char, 16u << 10> buffer;
  for (ssize_t n = 0; (n = ::read(fd.get(), buffer.data(), buffer.size())) > 0;) {
    rest_.append(buffer.data(), static_cast<std::size_t>(n));
    std::size_t at = 0;
    for (auto end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', at)) {
      if (const auto event = parse_event(std::string_view(rest_).substr(at, end - at)))
        take(*event);
      at = end + 1;
    }
    rest_.erase(0, at);
    if (rest_.size() > kMaxLine) rest_.clear();
  }
}

Status EventReader::read(const std::function<void(const VmEvent&)>& take) {
  for (int turn = 0; turn < kTurns; ++turn) {
    const bool current = fd_.valid() && is_same_file(fd_.get(), path_);
    if (fd_.valid()) read_file(fd_, take);
    if (current) return {};
    // Both names at one moment: the current file still has its name when the older one is open.
    UniqueFd next = SM_TRY(open_file(path_, O_RDONLY | O_CREAT, 0600));
    auto older = open_file(path_ + ".1", O_RDONLY);
    if (!is_same_file(next.get(), path_)) continue;
    // Renamed twice since the last look: the one between was not seen yet. The same at the start.
    const bool seen = older && fd_.valid() && is_same_file(fd_.get(), path_ + ".1");
    rest_.clear();
    if (older && !seen) read_file(*older, take);
    rest_.clear();
    fd_ = std::move(next);
  }
  return {};
}

}  // namespace sm
