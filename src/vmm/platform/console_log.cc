#include "vmm/platform/console_log.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace sm {

ConsoleLog::ConsoleLog(std::size_t capacity) : ring_(capacity) { SM_CHECK(capacity > 0); }

void ConsoleLog::console_output(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  bool notify = false;
  {
    std::lock_guard lock(mutex_);
    // Only the last ring_.size() bytes can survive.
    const std::size_t skip = bytes.size() > ring_.size() ? bytes.size() - ring_.size() : 0;
    for (std::size_t i = skip; i < bytes.size(); ++i) {
      ring_[(total_ + i) % ring_.size()] = bytes[i];
    }
    total_ += bytes.size();
    notify = std::exchange(armed_, false);
  }
  if (notify && listener_) listener_();
}

std::uint64_t ConsoleLog::total() const {
  std::lock_guard lock(mutex_);
  return total_;
}

std::vector<std::byte> ConsoleLog::copy_locked(std::uint64_t from, std::uint64_t to) const {
  std::vector<std::byte> out;
  out.reserve(to - from);
  for (std::uint64_t at = from; at < to; ++at) out.push_back(ring_[at % ring_.size()]);
  return out;
}

ConsoleLog::Chunk ConsoleLog::read(std::uint64_t from, std::size_t max) const {
  std::lock_guard lock(mutex_);
  const std::uint64_t oldest = total_ > ring_.size() ? total_ - ring_.size() : 0;
  const std::uint64_t start = std::clamp(from, oldest, total_);
  const std::uint64_t end = start + std::min<std::uint64_t>(max, total_ - start);
  if (start == total_) armed_ = true;
  return {.position = start, .bytes = copy_locked(start, end)};
}

std::string ConsoleLog::tail(std::size_t max) const {
  std::vector<std::byte> bytes;
  bool cut = false;
  {
    std::lock_guard lock(mutex_);
    const std::uint64_t kept = std::min<std::uint64_t>({total_, ring_.size(), max});
    bytes = copy_locked(total_ - kept, total_);
    cut = kept < total_;
  }
  std::string text;
  text.reserve(bytes.size());
  for (const std::byte byte : bytes) {
    const char c = std::to_integer<char>(byte);
    if (c == '\r') continue;
    text += (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7F)) ? c : '?';
  }
  const std::size_t line = cut ? text.find('\n') : std::string::npos;
  if (line != std::string::npos && line + 1 < text.size()) text.erase(0, line + 1);
  return text;
}

void ConsoleLog::set_listener(std::function<void()> listener) { listener_ = std::move(listener); }

}  // namespace sm
