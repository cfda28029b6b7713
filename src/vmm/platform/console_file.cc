#include "vmm/platform/console_file.h"

#include "base/file.h"

namespace sm {

void ConsoleFile::copy() {
  constexpr std::size_t kPiece = 16u << 10;
  const std::lock_guard lock(mutex_);
  for (;;) {
    const ConsoleLog::Chunk chunk = log_.read(next_, kPiece);
    if (chunk.bytes.empty()) return;
    next_ = chunk.position + chunk.bytes.size();
    if (!file_.valid()) continue;
    if (written_ + chunk.bytes.size() > kMaxBytes || !write_all(file_.get(), chunk.bytes)) {
      file_.reset();
      continue;
    }
    written_ += chunk.bytes.size();
  }
}

}  // namespace sm
