#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "base/clock.h"

namespace sm {

namespace {
constexpr std::uint64_t kRedrawNs = 100'000'000;
constexpr int kWidth = 24;
}  // namespace

LayerProgressBar::LayerProgressBar()
    : enabled_(::isatty(STDERR_FILENO) == 1), start_ns_(monotonic_ns()) {}

LayerProgressBar::~LayerProgressBar() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

LayerObserver LayerProgressBar::observer() {
  if (!enabled_) return {};
  return [this](std::size_t layer, std::size_t layers, std::uint64_t done, std::uint64_t total) {
    update(layer, layers, done, total);
  };
}

void LayerProgressBar::update(std::size_t layer, std::size_t layers, std::uint64_t done,
                              std::uint64_t total) {
  std::lock_guard lock(mutex_);
  layers_.resize(std::max(layers, layer + 1));
  layers_[layer] = {done, total};
  const std::uint64_t t = monotonic_ns();
  if (t - last_draw_ns_ < kRedrawNs) return;
  last_draw_ns_ = t;
  draw();
}

void LayerProgressBar::draw() {
  std::uint64_t done = 0, total = 0;
  std::size_t finished = 0;
  for (const Layer& l : layers_) {
    done += l.done;
    total += l.total;
    finished += l.total > 0 && l.done >= l.total ? 1 : 0;
  }
  if (total == 0) return;
  const double seconds = static_cast<double>(monotonic_ns() - start_ns_) / 1e9;
  const double mib = static_cast<double>(done) / 1048576.0;
  const auto filled = static_cast<std::size_t>(
      static_cast<double>(kWidth) * static_cast<double>(done) / static_cast<double>(total));
  std::string bar(std::min<std::size_t>(filled, kWidth), '#');
  bar.resize(kWidth, '.');
  fmt::print(stderr, "\r\x1b[Kpreparing layers [{}] {:.1f}/{:.1f} MiB, {:.1f} MiB/s, {}/{} layers",
             bar, mib, static_cast<double>(total) / 1048576.0, seconds > 0 ? mib / seconds : 0.0,
             finished, layers_.size());
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace sm
