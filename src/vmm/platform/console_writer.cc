#include "vmm/platform/console_writer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <utility>

#include "base/bytes.h"

namespace sm {

namespace {

constexpr std::size_t kChunk = 16u << 10;

}  // namespace

// Thread: the loop's. Tasks that are still posted when the writer is gone find it expired.
struct ConsoleWriter::State {
  EventLoop* loop;
  ConsoleLog* log;
  UniqueFd file;
  std::uint64_t limit;
  std::uint64_t position = 0;  // in the log
  std::uint64_t written = 0;
  std::vector<std::byte> pending;  // taken from the log, not yet written
  WatchId watch = WatchId::kNone;
  bool ended = false;
  std::atomic<bool> posted{false};  // a pump is on its way; one takes everything there is

  // Returns false when the file takes no more now or ever.
  bool write_pending() {
    std::size_t done = 0;
    while (done < pending.size()) {
      const ssize_t n = ::write(file.get(), pending.data() + done, pending.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != EAGAIN) ended = true;  // a full disk or a reader that left
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    pending.erase(pending.begin(), pending.begin() + static_cast<std::ptrdiff_t>(done));
    return pending.empty() && !ended;
  }

  void say(const std::string& text) {
    const auto bytes = as_byte_span(text);
    pending.insert(pending.end(), bytes.begin(), bytes.end());
  }

  // Takes the next chunk; false when there is none.
  bool refill() {
    const auto chunk = log->read(position, kChunk);
    if (chunk.bytes.empty()) return false;
    if (chunk.position != position) {
      say(fmt::format("\n[{} bytes of console output lost]\n", chunk.position - position));
    }
    const auto room =
        static_cast<std::size_t>(std::min<std::uint64_t>(chunk.bytes.size(), limit - written));
    pending.insert(pending.end(), chunk.bytes.begin(),
                   chunk.bytes.begin() + static_cast<std::ptrdiff_t>(room));
    position = chunk.position + chunk.bytes.size();
    written += room;
    if (room < chunk.bytes.size()) {
      say(fmt::format("\n[console output ends here: limit of {} bytes]\n", limit));
      limit_reached = true;
    }
    return true;
  }

  void pump(const std::shared_ptr<State>& self) {
    posted = false;  // before the log is read: later output posts again
    while (!ended) {
      if (!write_pending()) return wait_until_writable(self);
      ended = limit_reached;
      if (ended || !refill()) return stop_waiting();
    }
  }

  void wait_until_writable(const std::shared_ptr<State>& self) {
    if (ended) return stop_waiting();
    if (watch != WatchId::kNone) return;
    auto added = loop->add(file.get(), EPOLLOUT, [weak = std::weak_ptr(self)](std::uint32_t) {
      if (const auto state = weak.lock()) state->pump(state);
    });
    if (added) {
      watch = *added;
    } else {
      ended = true;
    }
  }

  void stop_waiting() {
    if (watch != WatchId::kNone) loop->remove(std::exchange(watch, WatchId::kNone));
  }

  bool limit_reached = false;
};

ConsoleWriter::ConsoleWriter(EventLoop& loop, ConsoleLog& log, UniqueFd file, std::uint64_t limit)
    : state_(std::make_shared<State>()) {
  state_->loop = &loop;
  state_->log = &log;
  state_->file = std::move(file);
  state_->limit = limit;
  // The guest prints byte by byte: only the first byte after a pump wakes the loop.
  log.set_listener([&loop, weak = std::weak_ptr(state_)] {
    const auto state = weak.lock();
    if (!state || state->posted.exchange(true)) return;
    loop.post([weak] {
      if (const auto alive = weak.lock()) alive->pump(alive);
    });
  });
  flush();
}

ConsoleWriter::~ConsoleWriter() {
  state_->log->set_listener({});
  flush();
  state_->stop_waiting();
}

void ConsoleWriter::flush() { state_->pump(state_); }

}  // namespace sm
