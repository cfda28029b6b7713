#include "runtime/keeper/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/locked_file.h"
#include "runtime/keeper/vm_record.h"

namespace sm {

namespace {

// Longer than any line that a writer makes.
constexpr std::size_t kMaxLine = kMaxLogText + 64;

std::uint64_t offset_of(int fd) {
  const off_t at = ::lseek(fd, 0, SEEK_CUR);
  return at < 0 ? 0 : static_cast<std::uint64_t>(at);
}

}  // namespace

std::string encode_log_line(const LogLine& line) {
  std::string out = std::to_string(line.at_ns);
  out += line.error_stream ? " e" : " o";
  out += line.whole ? ". " : "+ ";
  out += line.text;
  out += '\n';
  return out;
}

std::optional<LogLine> parse_log_line(std::string_view line) {
  LogLine out;
  const char* const end = line.data() + line.size();
  const auto [at, error] = std::from_chars(line.data(), end, out.at_ns);
  if (error != std::errc() || out.at_ns < 0 || end - at < 4) return std::nullopt;
  if (at[0] != ' ' || at[3] != ' ') return std::nullopt;
  if ((at[1] != 'o' && at[1] != 'e') || (at[2] != '.' && at[2] != '+')) return std::nullopt;
  out.error_stream = at[1] == 'e';
  out.whole = at[2] == '.';
  out.text = std::string_view(at + 4, static_cast<std::size_t>(end - at - 4));
  return out;
}

LogWriter LogWriter::open(const std::string& folder, std::uint64_t max_file) {
  LogWriter out(folder, UniqueFd(), 0, max_file);
  out.reopen();
  return out;
}

void LogWriter::write(agent::Stream stream, std::span<const std::byte> bytes) {
  const bool error_stream = stream == agent::Stream::kStderr;
  std::string& held = held_[error_stream ? 1 : 0];
  const std::int64_t at = unix_now_ns();
  std::string out;
  const auto line = [&](bool whole, std::string_view text) {
    out += encode_log_line({at, error_stream, whole, text});
  };
  if (bytes.empty() && !held.empty()) line(false, std::exchange(held, {}));
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    const auto newline = rest.find('\n');
    held += rest.substr(0, newline);
    while (held.size() > kMaxLogText) {
      line(false, std::string_view(held).substr(0, kMaxLogText));
      held.erase(0, kMaxLogText);
    }
    if (newline == std::string_view::npos) break;
    line(true, std::exchange(held, {}));
    rest.remove_prefix(newline + 1);
  }
  if (!out.empty()) put(out);
}

void LogWriter::finish() {
  write(agent::Stream::kStdout, {});
  write(agent::Stream::kStderr, {});
}

// The new file has its name last: without it the old one goes on being `log`.
bool LogWriter::rotate() {
  const std::string path = folder_ + "/log";
  const std::string next = folder_ + "/.log";
  auto fresh = open_file(next, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  if (!fresh || ::rename(path.c_str(), (path + ".1").c_str()) != 0) return false;
  if (::rename(next.c_str(), path.c_str()) != 0) {
    ::rename((path + ".1").c_str(), path.c_str());
    return false;
  }
  fd_ = *std::move(fresh);
  size_ = 0;
  return true;
}

// All of them or nothing: half a line would spoil the next one.
bool LogWriter::append(const std::string& lines) {
  if (write_all(fd_.get(), as_byte_span(lines))) {
    size_ += lines.size();
    return true;
  }
  // Making a file shorter needs no room.
  static_cast<void>(::ftruncate(fd_.get(), static_cast<off_t>(size_)) == 0);
  return false;
}

void LogWriter::put(const std::string& lines) {
  if (!fd_.valid() && !reopen()) return;
  if (size_ > 0 && size_ + lines.size() > max_file_ && !rotate()) {
    give_way(/*all=*/false);
    if (!rotate()) give_way(/*all=*/true);
  }
  if (append(lines)) return;
  // The latest is worth more than the oldest.
  give_way(/*all=*/false);
  static_cast<void>(append(lines));
}

void LogWriter::give_way(bool all) {
  ::unlink((folder_ + "/log.1").c_str());
  if (!all || !fd_.valid() || ::ftruncate(fd_.get(), 0) != 0) return;
  size_ = 0;
}

bool LogWriter::reopen() {
  auto fd = open_file(folder_ + "/log", O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (!fd) return false;
  size_ = file_size(fd->get()).value_or(0);
  fd_ = *std::move(fd);
  return true;
}

Status LogReader::read_file(int fd, const std::function<void(const LogLine&)>& take) {
  std::array<char, 64u << 10> buffer;
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read " + folder_ + "/log", errno);
    if (n == 0) return {};
    rest_.append(buffer.data(), static_cast<std::size_t>(n));
    std::size_t at = 0;
    for (auto end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', at)) {
      if (const auto line = parse_log_line(std::string_view(rest_).substr(at, end - at))) {
        take(*line);
      }
      at = end + 1;
    }
    rest_.erase(0, at);
    if (rest_.size() > kMaxLine) rest_.clear();
  }
}

Status LogReader::read(const std::function<void(const LogLine&)>& take) {
  const std::string path = folder_ + "/log";
  if (!std::exchange(started_, true)) {
    if (auto older = open_file(path + ".1", O_RDONLY)) {
      SM_TRY_STATUS(read_file(older->get(), take));
    }
  }
  for (;;) {
    // A log that gave way to a full disk begins again in the same file.
    if (fd_.valid() && file_size(fd_.get()).value_or(0) < offset_of(fd_.get())) {
      ::lseek(fd_.get(), 0, SEEK_SET);
      rest_.clear();
    }
    if (fd_.valid()) SM_TRY_STATUS(read_file(fd_.get(), take));
    // Looked at before the last read of the old file, so that nothing is missed between the two.
    if (fd_.valid() && is_same_file(fd_.get(), path)) return {};
    if (fd_.valid()) SM_TRY_STATUS(read_file(fd_.get(), take));
    auto next = open_file(path, O_RDONLY);
    if (!next) return {};  // no log yet, or the VM is being removed
    fd_ = *std::move(next);
    rest_.clear();
  }
}

}  // namespace sm
