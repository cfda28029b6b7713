// ConsoleFile: copies the console log into a file, up to a size limit. Any thread.
#pragma once

#include <cstdint>
#include <mutex>

#include "base/unique_fd.h"
#include "vmm/platform/console_log.h"

namespace sm {

class ConsoleFile {
 public:
  // Limit: what a guest may write to the host's disk through its console. The newest output is
  // always in the ConsoleLog.
  static constexpr std::uint64_t kMaxBytes = 16u << 20;

  // `log` outlives the file.
  ConsoleFile(const ConsoleLog& log, UniqueFd file) : log_(log), file_(std::move(file)) {}

  // Writes what is new. A failing disk ends the copying, never the guest.
  void copy();

 private:
  const ConsoleLog& log_;
  std::mutex mutex_;
  UniqueFd file_;
  std::uint64_t next_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace sm
