// Progress of pulls and pushes on standard error: a line for each layer with amount and rate, and a
// total; only on a terminal, and erased when done.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "oci/registry/pull.h"

namespace sm {

class TransferBars {
 public:
  // `verb`: what is done, "pulling". `quiet`: nothing is shown.
  explicit TransferBars(std::string verb, bool quiet = false);
  ~TransferBars();
  TransferBars(const TransferBars&) = delete;
  TransferBars& operator=(const TransferBars&) = delete;
  TransferBars(TransferBars&&) = delete;
  TransferBars& operator=(TransferBars&&) = delete;

  // May be called from several threads.
  TransferObserver observer();
  // Erases the lines.
  void clear();

 private:
  struct Line {
    TransferProgress progress{};
    std::uint64_t began_ns = 0;
    std::uint64_t began_at = 0;  // bytes that were there already
    std::uint64_t ended_ns = 0;
  };
  void update(const TransferProgress& progress);
  void draw(std::uint64_t now_ns);
  std::string text(const Line& line, std::uint64_t now_ns) const;

  std::string verb_;
  bool enabled_;
  std::mutex mutex_;
  std::vector<Line> lines_;
  std::uint64_t last_draw_ns_ = 0;
  std::size_t drawn_ = 0;  // lines on the screen
};

}  // namespace sm
