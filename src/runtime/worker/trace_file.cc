#include "runtime/worker/trace_file.h"

#include <fcntl.h>

#include <cstdio>

#include "base/bytes.h"
#include "base/file.h"

namespace sm {

namespace {

constexpr std::size_t kBuffer = 64 * 1024;

}  // namespace

Result<std::unique_ptr<TraceFile>> TraceFile::create(std::string path, std::size_t bytes) {
  std::unique_ptr<TraceFile> trace(new TraceFile(std::move(path), bytes));
  SM_TRY_STATUS(trace->open());
  return trace;
}

TraceFile::~TraceFile() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

Status TraceFile::open() {
  file_ = SM_TRY_WITH(open_file(path_, O_WRONLY | O_CREAT | O_TRUNC, 0600), "--trace");
  written_ = 0;
  return {};
}

void TraceFile::line(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (!file_.valid()) return;
  buffer_.append(text).push_back('\n');
  if (buffer_.size() >= kBuffer || written_ + buffer_.size() >= bytes_) flush_locked();
}

void TraceFile::flush_locked() {
  if (!file_.valid() || buffer_.empty()) return;
  const bool ok = write_all(file_.get(), as_byte_span(buffer_)).has_value();
  written_ += buffer_.size();
  buffer_.clear();
  if (!ok) {
    file_.reset();
    return;
  }
  if (written_ < bytes_) return;
  const bool moved = std::rename(path_.c_str(), (path_ + ".1").c_str()) == 0;
  if (!moved || !open()) file_.reset();
}

}  // namespace sm
