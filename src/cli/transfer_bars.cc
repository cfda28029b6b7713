#include "cli/transfer_bars.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "cli/sizes.h"

namespace sm {

namespace {

constexpr std::uint64_t kRedrawNs = 100'000'000;
constexpr std::size_t kBar = 20;
constexpr std::size_t kMaxLines = 16;  // more layers than this are summed up only

std::string bar(std::uint64_t done, std::uint64_t total) {
  const double part = total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
  std::string out(std::min(kBar, static_cast<std::size_t>(part * static_cast<double>(kBar))), '#');
  out.resize(kBar, '.');
  return out;
}

std::size_t screen_lines() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row - 2U : 10U;
}

std::string rate(std::uint64_t bytes, std::uint64_t ns) {
  if (ns == 0) return "";
  const double per_second = static_cast<double>(bytes) * 1e9 / static_cast<double>(ns);
  return human_size(static_cast<std::uint64_t>(per_second)) + "/s";
}

}  // namespace

TransferBars::TransferBars(std::string verb, bool quiet)
    : verb_(std::move(verb)), enabled_(!quiet && ::isatty(STDERR_FILENO) == 1) {}

TransferBars::~TransferBars() { clear(); }

TransferObserver TransferBars::observer() {
  if (!enabled_) return {};
  return [this](const TransferProgress& progress) { update(progress); };
}

void TransferBars::clear() {
  std::lock_guard lock(mutex_);
  if (drawn_ == 0) return;
  fmt::print(stderr, "\x1b[{}F\x1b[J", drawn_);
  std::fflush(stderr);
  drawn_ = 0;
}

void TransferBars::update(const TransferProgress& progress) {
  std::lock_guard lock(mutex_);
  lines_.resize(std::max(lines_.size(), progress.blobs));
  const auto t = monotonic_ns();
  Line& line = lines_[progress.blob];
  if (line.began_ns == 0 && progress.state == TransferProgress::State::kRunning) {
    line.began_ns = t;
    line.began_at = progress.done;
  }
  if (progress.done >= progress.total && line.ended_ns == 0) line.ended_ns = t;
  line.progress = progress;
  if (t - last_draw_ns_ < kRedrawNs) return;
  last_draw_ns_ = t;
  draw(t);
}

std::string TransferBars::text(const Line& line, std::uint64_t now_ns) const {
  const auto& p = line.progress;
  switch (p.state) {
    case TransferProgress::State::kWaiting:
      return fmt::format("{}  waiting", p.id);
    case TransferProgress::State::kExists:
      return fmt::format("{}  already there", p.id);
    case TransferProgress::State::kMounted:
      return fmt::format("{}  taken over", p.id);
    case TransferProgress::State::kDone:
      return fmt::format("{}  done, {}", p.id, human_size(p.total));
    case TransferProgress::State::kRunning:
      break;
  }
  const auto end = line.ended_ns != 0 ? line.ended_ns : now_ns;
  return fmt::format("{}  [{}] {}/{}  {}", p.id, bar(p.done, p.total), human_size(p.done),
                     human_size(p.total),
                     rate(p.done - std::min(p.done, line.began_at), end - line.began_ns));
}

void TransferBars::draw(std::uint64_t now_ns) {
  std::string out = drawn_ > 0 ? fmt::format("\x1b[{}F\x1b[J", drawn_) : std::string();
  std::uint64_t done = 0, total = 0;
  std::size_t finished = 0;
  for (const Line& line : lines_) {
    done += line.progress.done;
    total += line.progress.total;
    finished += line.ended_ns != 0 ? 1U : 0U;
  }
  const auto shown = std::min({lines_.size(), kMaxLines, screen_lines()});
  for (std::size_t i = 0; i < shown; ++i) out += text(lines_[i], now_ns) + "\n";
  out += fmt::format("{}  {}/{}, {}/{} layers\n", verb_, human_size(done), human_size(total),
                     finished, lines_.size());
  fmt::print(stderr, "{}", out);
  std::fflush(stderr);
  drawn_ = shown + 1;
}

}  // namespace sm
