#include "runtime/image_layers.h"

#include <fcntl.h>

#include <optional>
#include <stop_token>
#include <thread>

#include "base/event_loop.h"
#include "base/file.h"
#include "oci/image_source.h"
#include "oci/layer_cache.h"
#include "oci/locked_file.h"

namespace sm {

Result<LoadedImage> prepare_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageObservers& observers, const std::stop_token& stop) {
  const auto store = SM_TRY(ImageStore::open(folders.store));
  auto lease = SM_TRY(store.lease(stop));
  const auto image = SM_TRY(resolve_image(request, folders, store, observers.transfer, stop));
  CacheOptions options;
  options.root = folders.layers;
  const LayerCache cache = SM_TRY(LayerCache::open(std::move(options)));
  ProgressCallback callback;
  if (observers.layers) {
    callback = [&observers](const PrepareProgress& p) {
      observers.layers(p.layer, p.layer_count, p.bytes_done, p.bytes_total);
    };
  }
  PreparedImage ready = SM_TRY(cache.prepare(image, callback, stop));
  LoadedImage out;
  for (const std::string& path : ready.layers) {
    UniqueFd fd = SM_TRY(open_file(path, O_RDONLY | O_NOFOLLOW));
    // Only a removal holds the other kind, and it ends soon; the lease keeps it away.
    if (!try_lock(fd.get(), LockKind::kShared)) {
      return fail(Code::kIo, path + " is locked by another program", "try again");
    }
    out.in_use.push_back(std::move(fd));
  }
  out.config = image.config();
  out.digest = image.id().text();
  out.layers = std::move(ready.layers);
  if (request.keep_lease) out.lease = std::move(lease);
  return out;
}

Result<LoadedImage> load_image(const ImageRequest& request, const ImageFolders& folders,
                               const SessionSignals& signals, const ImageObservers& observers) {
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
    const std::jthread worker([&] {
      loaded = prepare_image(request, folders, observers, stop.get_token());
      loop->stop();
    });
    loop->run();
  }
  if (interrupted_by != 0) {
    LoadedImage out;
    out.interrupted_by = interrupted_by;
    return out;
  }
  return *std::move(loaded);
}

}  // namespace sm
