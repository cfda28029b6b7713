#include "runtime/worker/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {

namespace {

constexpr std::size_t kBuffer = 64 * 1024;
constexpr std::string_view kOlder = "\n--- older steps follow ---\n";

Result<UniqueFd> open_trace(const std::string& path) {
  return SM_TRY_WITH(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), "--trace");
}

}  // namespace

Result<std::unique_ptr<TraceFile>> TraceFile::create(const std::string& path, std::size_t bytes) {
  UniqueFd first = SM_TRY(open_trace(path));
  UniqueFd second = SM_TRY(open_trace(path + ".1"));
  return std::unique_ptr<TraceFile>(new TraceFile(std::move(first), std::move(second), bytes));
}

TraceFile::~TraceFile() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

void TraceFile::line(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!file_.valid()) return;
  buffer_.append(text).push_back('\n');
  if (buffer_.size() >= kBuffer || written_ + buffer_.size() >= bytes_) flush_locked();
}

void TraceFile::flush_locked() {
  if (!file_.valid() || buffer_.empty()) return;
  bool ok = write_all(file_.get(), as_byte_span(buffer_)).has_value();
  written_ += buffer_.size();
  buffer_.clear();
  if (ok && written_before_) {
    ok = ::pwrite(file_.get(), kOlder.data(), kOlder.size(), static_cast<off_t>(written_)) > 0;
  }
  if (ok && written_ >= bytes_) {
    std::swap(file_, other_);
    ok = ::lseek(file_.get(), 0, SEEK_SET) == 0;
    written_ = 0;
    written_before_ = ++turns_ > 1;
  }
  if (!ok) file_.reset();
}

}  // namespace sm
