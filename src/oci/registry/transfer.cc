// Blobs side by side.
#include "oci/registry/transfer.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

namespace sm {
namespace {

struct Run {
  const std::vector<Descriptor>& blobs;
  const TransferWork& work;
  const TransferObserver& observer;
  std::stop_source stop{};
  std::atomic<std::size_t> next{0};
  std::mutex mutex{};  // guards error, and is held while the observer runs
  std::optional<Error> error{};

  void report(std::size_t index, std::uint64_t done, TransferProgress::State state) {
    if (!observer) return;
    const auto& blob = blobs[index];
    std::lock_guard lock(mutex);
    observer({.blob = index,
              .blobs = blobs.size(),
              .id = blob.digest.short_text(),
              .done = done,
              .total = blob.size,
              .state = state});
  }

  void loop() {
    while (!stop.stop_requested()) {
      const auto index = next.fetch_add(1);
      if (index >= blobs.size()) return;
      const auto& blob = blobs[index];
      auto done = work(
          blob,
          [&](std::uint64_t bytes) { report(index, bytes, TransferProgress::State::kRunning); },
          stop.get_token());
      if (done) {
        report(index, blob.size, *done);
        continue;
      }
      {
        std::lock_guard lock(mutex);
        if (!error) error = std::move(done).error();
      }
      stop.request_stop();
    }
  }
};

}  // namespace

Status transfer_all(std::vector<Descriptor> blobs, unsigned threads, const TransferWork& work,
                    const TransferObserver& observer, const std::stop_token& stop) {
  // The same layer may be in an image several times.
  std::vector<Descriptor> once;
  for (auto& blob : blobs) {
    const auto same = [&](const Descriptor& other) { return other.digest == blob.digest; };
    if (std::none_of(once.begin(), once.end(), same)) once.push_back(std::move(blob));
  }
  Run run{.blobs = once, .work = work, .observer = observer};
  const std::stop_callback forward(stop, [&run] { run.stop.request_stop(); });
  for (std::size_t i = 0; i < once.size(); ++i) run.report(i, 0, TransferProgress::State::kWaiting);
  {
    std::vector<std::jthread> workers;
    for (std::size_t i = 1; i < std::min<std::size_t>(threads, once.size()); ++i) {
      workers.emplace_back([&run] { run.loop(); });
    }
    run.loop();
  }
  if (run.error) return fail(*std::move(run.error));
  if (stop.stop_requested()) return fail(Code::kGone, "cancelled");
  return {};
}

}  // namespace sm
