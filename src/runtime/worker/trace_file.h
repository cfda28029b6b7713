// TraceFile: where a traced VM writes every step of its vCPUs. Two files of a limited size take
// turns, PATH and PATH.1, so that the newest steps are kept. Both are open from the start, since a
// worker in its sandbox opens and truncates nothing; where a file is written again, a line tells
// the new steps from the old ones behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm {

class TraceFile final : public SoftTraceSink {
 public:
  static constexpr std::size_t kDefaultBytes = 256u << 20;  // of each of the two files

  static Result<std::unique_ptr<TraceFile>> create(const std::string& path,
                                                   std::size_t bytes = kDefaultBytes);
  ~TraceFile() override;
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  TraceFile(TraceFile&&) = delete;
  TraceFile& operator=(TraceFile&&) = delete;

  // Any thread. A host that cannot write ends the trace and not the VM.
  void line(std::string_view text) override;

 private:
  TraceFile(UniqueFd first, UniqueFd second, std::size_t bytes)
      : bytes_(bytes), file_(std::move(first)), other_(std::move(second)) {}
  void flush_locked();

  const std::size_t bytes_;
  std::mutex mutex_;  // guards what follows
  UniqueFd file_;     // none: writing failed
  UniqueFd other_;
  bool written_before_ = false;  // the file is written again
  std::uint64_t turns_ = 0;      // how often the files changed
  std::size_t written_ = 0;
  std::string buffer_;
};

}  // namespace sm
