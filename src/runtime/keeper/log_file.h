// The log of a VM: what its command wrote, line by line, with times, the streams kept apart. Two
// files, `log` and the older `log.1`, of kMaxLogFile bytes each at most. A line of theirs:
//
//   NANOSECONDS-SINCE-1970 BLANK o|e .|+ BLANK TEXT NEWLINE
//
// with o for standard output, e for the errors; '.' for a whole line, '+' for text that goes on in
// the next one of its stream, because it was long or nothing followed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "proto/agent.h"

namespace sm {

inline constexpr std::uint64_t kMaxLogFile = 8u << 20;
inline constexpr std::size_t kMaxLogText = 16u << 10;  // of one line of the file

struct LogLine {
  std::int64_t at_ns = 0;
  bool error_stream = false;
  bool whole = true;
  std::string_view text;
};

std::string encode_log_line(const LogLine& line);
// One line of the file without its newline; nothing when it is none.
std::optional<LogLine> parse_log_line(std::string_view line);

// Appends. A text without a newline is held back until one comes. Thread: one.
class LogWriter {
 public:
  // `folder` is the VM's; what an earlier start has written stays.
  // A log that cannot be opened is tried again with each line.
  static LogWriter open(const std::string& folder, std::uint64_t max_file = kMaxLogFile);
  LogWriter(LogWriter&&) = default;
  LogWriter& operator=(LogWriter&&) = delete;
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
  ~LogWriter() = default;

  // A full disk: what was kept goes, so that there is room for the record. The older file first; an
  // empty file goes on.
  void give_way(bool all);
  // An empty span ends the stream: what is held back is written. What a full disk does not take is
  // dropped: a VM does not stop for its log.
  void write(agent::Stream stream, std::span<const std::byte> bytes);
  void finish();

 private:
  LogWriter(std::string folder, UniqueFd fd, std::uint64_t size, std::uint64_t max_file)
      : folder_(std::move(folder)), fd_(std::move(fd)), size_(size), max_file_(max_file) {}
  bool reopen();
  bool rotate();
  bool append(const std::string& lines);
  void put(const std::string& lines);

  std::string folder_;
  UniqueFd fd_;
  std::uint64_t size_;
  std::uint64_t max_file_;
  std::string held_[2];
};

// Reads a log from its beginning, and on while it grows. Thread: one.
class LogReader {
 public:
  explicit LogReader(std::string folder) : folder_(std::move(folder)) {}
  // Calls `take` for each line that is there and was not seen yet; over the change to a new file,
  // too. A log that does not exist is empty.
  Status read(const std::function<void(const LogLine&)>& take);

 private:
  Status read_file(int fd, const std::function<void(const LogLine&)>& take);

  std::string folder_;
  UniqueFd fd_;
  bool started_ = false;
  std::string rest_;  // of a line that is not complete yet
};

}  // namespace sm
