// A progress line for the conversion of an image's layers. Only on a terminal; erased when done.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "runtime/run_image.h"

namespace sm {

class LayerProgressBar {
 public:
  LayerProgressBar();
  ~LayerProgressBar();
  LayerProgressBar(const LayerProgressBar&) = delete;
  LayerProgressBar& operator=(const LayerProgressBar&) = delete;
  LayerProgressBar(LayerProgressBar&&) = delete;
  LayerProgressBar& operator=(LayerProgressBar&&) = delete;

  // May be called from several threads. Does nothing when standard error is no terminal.
  LayerObserver observer();

 private:
  void update(std::size_t layer, std::size_t layers, std::uint64_t done, std::uint64_t total);
  void draw();

  struct Layer {
    std::uint64_t done = 0;
    std::uint64_t total = 0;
  };
  bool enabled_;
  std::mutex mutex_;
  std::vector<Layer> layers_;
  std::uint64_t last_draw_ns_ = 0;
  std::uint64_t start_ns_ = 0;
  bool drawn_ = false;
};

}  // namespace sm
