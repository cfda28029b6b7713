#include "runtime/image_layers.h"

#include <optional>
#include <stop_token>
#include <thread>

#include "base/event_loop.h"
#include "oci/image_source.h"
#include "oci/layer_cache.h"

namespace sm {

Result<LoadedImage> prepare_image(const std::string& reference, const std::string& cache_dir,
                                  const LayerObserver& progress, std::stop_token stop) {
  const ImageSource image = SM_TRY(ImageSource::open(SM_TRY(parse_reference(reference))));
  CacheOptions options;
  options.root = cache_dir + "/layers";
  const LayerCache cache = SM_TRY(LayerCache::open(std::move(options)));
  ProgressCallback callback;
  if (progress) {
    callback = [&progress](const PrepareProgress& p) {
      progress(p.layer, p.layer_count, p.bytes_done, p.bytes_total);
    };
  }
  PreparedImage ready = SM_TRY(cache.prepare(image, callback, std::move(stop)));
  LoadedImage out;
  out.config = image.config();
  out.digest = image.id().text();
  out.layers = std::move(ready.layers);
  return out;
}

Result<LoadedImage> load_image(const std::string& reference, const std::string& cache_dir,
                               const SessionSignals& signals, const LayerObserver& progress) {
  auto loop = SM_TRY(EventLoop::create());
  std::stop_source stop;
  int interrupted_by = 0;
  std::optional<Result<LoadedImage>> loaded;
  SM_TRY(loop->add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    const int number = signals.next();
    if (number != SIGINT && number != SIGTERM && number != SIGHUP) return;
    interrupted_by = number;
    stop.request_stop();
  }));
  {
    const std::jthread converter([&] {
      loaded = prepare_image(reference, cache_dir, progress, stop.get_token());
      loop->stop();
    });
    loop->run();
  }
  if (interrupted_by == 0) return std::move(*loaded);
  LoadedImage out;
  out.interrupted_by = interrupted_by;
  return out;
}

}  // namespace sm
