#include "runtime/pool/start_gate.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <thread>
#include <utility>

#include "base/file.h"

namespace sm {

std::optional<std::uint64_t> available_memory() {
  const auto fd = open_file("/proc/meminfo", O_RDONLY);
  if (!fd) return std::nullopt;
  std::array<char, 4096> buffer;
  const ssize_t n = ::read(fd->get(), buffer.data(), buffer.size());
  if (n <= 0) return std::nullopt;
  const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
  constexpr std::string_view kKey = "MemAvailable:";
  const std::size_t at = text.find(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t digits = text.find_first_not_of(' ', at + kKey.size());
  if (digits == std::string_view::npos) return std::nullopt;
  std::uint64_t kib = 0;
  const auto end = std::from_chars(text.data() + digits, text.data() + text.size(), kib);
  if (end.ec != std::errc()) return std::nullopt;
  return kib << 10;
}

std::size_t default_start_permits() {
  return std::max<std::size_t>(16, 4 * std::size_t{std::thread::hardware_concurrency()});
}

StartGate::StartGate(EventLoop& loop, const StartLimits& limits, MemoryProbe memory)
    : loop_(loop), core_(limits), memory_(std::move(memory)) {}

StartGate::~StartGate() { loop_.cancel_timer(timer_); }

TicketId StartGate::request(std::uint64_t memory_bytes, Answer answer) {
  const TicketId ticket = core_.request(memory_bytes, now());
  answers_.emplace(ticket, std::move(answer));
  decide_soon();
  return ticket;
}

void StartGate::finish(TicketId ticket) {
  core_.finish(ticket);
  answers_.erase(ticket);
  if (core_.waiting()) decide_soon();
}

// As a timer, so that nothing is called back from within a call.
void StartGate::decide_soon() {
  loop_.cancel_timer(timer_);
  timer_ = loop_.add_timer(now(), [this] { decide(); });
}

void StartGate::decide() {
  timer_ = TimerId::kNone;
  for (auto& decision : core_.decide(now(), memory_())) {
    const auto it = answers_.find(decision.ticket);
    if (it == answers_.end()) continue;
    const Answer answer = std::move(it->second);
    answers_.erase(it);
    answer(std::move(decision.refusal));
  }
  if (const auto next = core_.next_decision(); next && timer_ == TimerId::kNone) {
    timer_ = loop_.add_timer(*next, [this] { decide(); });
  }
}

}  // namespace sm
