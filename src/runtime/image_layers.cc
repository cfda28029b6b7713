#include "runtime/image_layers.h"

#include <optional>
#include <stop_token>
#include <thread>

#include "base/event_loop.h"
#include "oci/image_source.h"
#include "oci/layer_cache.h"

namespace sm {

Result<LoadedImage> load_image(const std::string& reference, const std::string& cache_dir,
                               const SessionSignals& signals, const LayerObserver& progress) {
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

  auto loop = SM_TRY(EventLoop::create());
  std::stop_source stop;
  LoadedImage out;
  std::optional<Result<PreparedImage>> prepared;
  SM_TRY(loop->add(signals.fd(), EPOLLIN, [&](std::uint32_t) {
    const int number = signals.next();
    if (number != SIGINT && number != SIGTERM && number != SIGHUP) return;
    out.interrupted_by = number;
    stop.request_stop();
  }));
  {
    const std::jthread converter([&] {
      prepared = cache.prepare(image, callback, stop.get_token());
      loop->stop();
    });
    loop->run();
  }
  if (out.interrupted_by != 0) return out;
  PreparedImage ready = SM_TRY(std::move(*prepared));
  out.config = image.config();
  out.layers = std::move(ready.layers);
  return out;
}

}  // namespace sm
