// ConsoleWriter: copies the console to a file as it is printed. The guest never waits for it: what
// the file cannot take in time is lost from the ring first, and the file says how much.
#pragma once

#include <cstdint>
#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/platform/console_log.h"

namespace sm {

class ConsoleWriter {
 public:
  // Limit: a guest that prints for days must not fill the host's disk. The newest output is always
  // in the ConsoleLog.
  static constexpr std::uint64_t kDefaultLimit = 16u << 20;

  // Writes everything `log` has and gets to `file` (best non-blocking, unless a regular file) until
  // `limit` bytes were written. Becomes the log's listener. Loop and log outlive the writer.
  // Created and destroyed on the loop's thread or while the loop does not run, and before the guest
  // runs or after it has stopped. The process ignores SIGPIPE.
  ConsoleWriter(EventLoop& loop, ConsoleLog& log, UniqueFd file,
                std::uint64_t limit = kDefaultLimit);
  ~ConsoleWriter();
  ConsoleWriter(const ConsoleWriter&) = delete;
  ConsoleWriter& operator=(const ConsoleWriter&) = delete;
  ConsoleWriter(ConsoleWriter&&) = delete;
  ConsoleWriter& operator=(ConsoleWriter&&) = delete;

  // Writes what the file takes at once. The destructor does it too.
  void flush();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sm
