#include "runtime/images.h"

#include <algorithm>
#include <set>

#include "oci/image_name.h"
#include "oci/reference.h"
#include "oci/store/prune.h"
#include "oci/text.h"
#include "runtime/paths.h"

namespace sm {

namespace {

// Docker's and Podman's places.
std::vector<std::string> find_auth_files() {
  std::vector<std::string> out;
  const std::string home = environment("HOME");
  const auto add = [&out](const std::string& folder, const char* file) {
    if (!folder.empty()) out.push_back(folder + file);
  };
  add(environment("REGISTRY_AUTH_FILE"), "");
  add(environment("XDG_RUNTIME_DIR"), "/containers/auth.json");
  const std::string config = environment("XDG_CONFIG_HOME");
  add(!config.empty() ? config : home.empty() ? "" : home + "/.config", "/containers/auth.json");
  const std::string docker = environment("DOCKER_CONFIG");
  add(!docker.empty() ? docker : home.empty() ? "" : home + "/.docker", "/config.json");
  return out;
}

Result<ImageSource> pull_and_open(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const ImageName& name,
                                  const TransferObserver& observer, const std::stop_token& stop) {
  RegistryClient client(SM_TRY(registry_options(folders)));
  PullOptions options;
  options.platform = request.platform;
  options.observer = observer;
  const auto pulled = SM_TRY(pull_image(store, client, name, options, stop));
  return store.open_image({name.text(), pulled.target}, request.platform);
}

// The squashfs files that the store's images need.
Result<std::set<std::string>> needed_layers(const ImageStore& store, const LayerCache& cache) {
  std::set<std::string> keys;
  for (const auto& entry : SM_TRY(store.entries())) {
    const auto image = store.open_image(entry, std::nullopt);
    if (!image) continue;
    for (auto& key : cache.keys(*image)) keys.insert(std::move(key));
  }
  return keys;
}

}  // namespace

Result<ImageFolders> ImageFolders::find() {
  ImageFolders out;
  out.store = SM_TRY(data_dir()) + "/images";
  out.layers = SM_TRY(cache_dir()) + "/layers";
  out.registries_file = SM_TRY(config_dir()) + "/registries.json";
  out.auth_files = find_auth_files();
  return out;
}

Result<PullPolicy> parse_pull_policy(const std::string& text) {
  if (text == "missing") return PullPolicy::kMissing;
  if (text == "always") return PullPolicy::kAlways;
  if (text == "never") return PullPolicy::kNever;
  return fail(Code::kInvalidArgument, "--pull " + text + ": there is no such policy",
              "use missing, always or never");
}

Result<RegistryOptions> registry_options(const ImageFolders& folders) {
  RegistryOptions out;
  out.config = SM_TRY(load_registry_config(folders.registries_file));
  out.auth_files = folders.auth_files;
  return out;
}

Result<ImageSource> resolve_image(const ImageRequest& request, const ImageFolders& folders,
                                  const ImageStore& store, const TransferObserver& observer,
                                  const std::stop_token& stop) {
  if (is_local_reference(request.name)) {
    return ImageSource::open(SM_TRY(parse_reference(request.name)), request.platform);
  }
  auto name = parse_image_name(request.name);
  if (request.pull == PullPolicy::kAlways) {
    return pull_and_open(request, folders, store, SM_TRY(std::move(name)), observer, stop);
  }
  const auto found = store.find(request.name);
  if (found) {
    auto image = store.open_image(found->front(), request.platform);
    if (image) return image;
    const bool missing =
        image.error().code() == Code::kNotFound || image.error().code() == Code::kUnsupported;
    if (!missing || !name) return fail(std::move(image).error().with(printable(request.name)));
    if (request.pull == PullPolicy::kNever) {
      return fail(
          Code::kNotFound,
          printable(request.name) + " is in the store, but not for " + request.platform.text(),
          "fetch it with `supermachine pull --platform " + request.platform.text() + "`");
    }
  } else if (request.pull == PullPolicy::kNever || found.error().code() != Code::kNotFound ||
             !name) {
    return fail(found.error());
  }
  return pull_and_open(request, folders, store, *name, observer, stop);
}

Result<std::vector<LayerUsage>> layer_usage(const ImageFolders& folders) {
  const auto store = SM_TRY(ImageStore::open(folders.store));
  CacheOptions options;
  options.root = folders.layers;
  const auto cache = SM_TRY(LayerCache::open(std::move(options)));
  const auto needed = SM_TRY(needed_layers(store, cache));
  std::vector<LayerUsage> out;
  for (const auto& file : cache.files()) {
    out.push_back({file.key, file.size, needed.contains(file.key)});
  }
  return out;
}

Result<PruneReport> prune_images(const ImageFolders& folders, bool all,
                                 const std::stop_token& stop) {
  const auto store = SM_TRY(ImageStore::open(folders.store));
  const auto exclusive = SM_TRY(store.exclusive(stop));
  PruneReport out;
  if (all) {
    SM_TRY_STATUS(store.update([&](std::vector<StoreEntry>& entries) -> Status {
      for (const auto& entry : entries) {
        out.names.push_back(entry.name.empty() ? entry.target.digest.text() : entry.name);
      }
      entries.clear();
      return {};
    }));
  }
  for (const auto& blob : SM_TRY(prune_blobs(store, exclusive))) {
    out.blobs.push_back(blob.digest.text());
    out.bytes += blob.size;
  }
  CacheOptions options;
  options.root = folders.layers;
  const auto cache = SM_TRY(LayerCache::open(std::move(options)));
  const auto keep = SM_TRY(needed_layers(store, cache));
  for (const auto& file : cache.files()) {
    if (keep.contains(file.key) || !cache.remove(file)) continue;
    out.layers.push_back(file.key);
    out.bytes += file.size;
  }
  return out;
}

Result<RemoveReport> remove_image(const ImageStore& store, const std::string& name, bool force) {
  const auto found = SM_TRY(store.find(name));
  if (found.size() > 1 && !force) {
    return fail(Code::kInvalidArgument, "image " + printable(name) + " has several names",
                "name one of them, or use -f to remove all");
  }
  RemoveReport out;
  SM_TRY_STATUS(store.update([&](std::vector<StoreEntry>& entries) -> Status {
    std::erase_if(entries, [&](const StoreEntry& entry) {
      return std::any_of(found.begin(), found.end(), [&](const StoreEntry& gone) {
        return gone.name == entry.name && gone.target.digest == entry.target.digest;
      });
    });
    return {};
  }));
  for (const auto& entry : found)
    out.untagged.push_back(entry.name.empty() ? entry.target.digest.text() : entry.name);
  const auto exclusive = store.try_exclusive();
  if (!exclusive) return out;
  for (const auto& blob : SM_TRY(prune_blobs(store, *exclusive)))
    out.deleted.push_back(blob.digest.text());
  return out;
}

}  // namespace sm
