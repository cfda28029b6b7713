// TraceFile: where a traced VM writes every step of its vCPUs. The newest of them are kept: when
// PATH is full it becomes PATH.1 in place of an earlier one, and another PATH begins.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/cpu/soft/soft_vm.h"

namespace sm {

class TraceFile final : public SoftTraceSink {
 public:
  static constexpr std::size_t kDefaultBytes = 256u << 20;  // of each of the two files

  static Result<std::unique_ptr<TraceFile>> create(std::string path,
                                                   std::size_t bytes = kDefaultBytes);
  ~TraceFile() override;
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;
  TraceFile(TraceFile&&) = delete;
  TraceFile& operator=(TraceFile&&) = delete;

  // Any thread. A host that cannot write ends the trace and not the VM.
  void line(std::string_view text) override;

 private:
  TraceFile(std::string path, std::size_t bytes) : path_(std::move(path)), bytes_(bytes) {}
  Status open();
  void flush_locked();

  const std::string path_;
  const std::size_t bytes_;
  std::mutex mutex_;  // guards what follows
  UniqueFd file_;     // none: writing failed
  std::size_t written_ = 0;
  std::string buffer_;
};

}  // namespace sm
