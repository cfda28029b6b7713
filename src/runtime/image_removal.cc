#include "runtime/image_removal.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "oci/layer_cache.h"
#include "oci/store/prune.h"
#include "oci/text.h"

namespace sm {

namespace {

std::string name_or_digest(const StoreEntry& entry) {
  return entry.name.empty() ? entry.target.digest.text() : entry.name;
}

Result<LayerCache> open_cache(const ImageFolders& folders) {
  CacheOptions options;
  options.root = folders.layers;
  return LayerCache::open(std::move(options));
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

// The id of the image behind an entry; empty when parts of it are missing.
std::string id_of(const ImageStore& store, const StoreEntry& entry) {
  const auto image = store.open_image(entry, std::nullopt);
  return image ? image->id().text() : std::string();
}

bool has_image(const ImageStore& store, const std::vector<StoreEntry>& entries,
               const std::string& id) {
  return std::any_of(entries.begin(), entries.end(),
                     [&](const StoreEntry& entry) { return id_of(store, entry) == id; });
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// One removal of a name, or of an id with all its names.
struct Removal {
  const ImageStore& store;
  const std::vector<StoreEntry>& found;  // what is to go
  bool force = false;
  bool exclusive = false;  // nobody works with the store
  const ImageUse& use;

  // Takes the entries out, and puts back what has to stay.
  Status apply(std::vector<StoreEntry>& entries) const {
    std::erase_if(entries, [&](const StoreEntry& entry) {
      return std::any_of(found.begin(), found.end(), [&](const StoreEntry& gone) {
        return gone.name == entry.name && gone.target.digest == entry.target.digest;
      });
    });
    for (const auto& gone : found) {
      const auto id = id_of(store, gone);
      if (id.empty() || has_image(store, entries, id)) continue;
      if (SM_TRY(must_stay(gone, id))) entries.push_back({{}, gone.target});
    }
    return {};
  }

  Result<bool> must_stay(const StoreEntry& gone, const std::string& id) const {
    const bool named =
        std::any_of(found.begin(), found.end(), [](const auto& e) { return !e.name.empty(); });
    const auto user = use.images.find(id);
    if (user != use.images.end() && (!force || !named)) {
      const auto remove = "`supermachine rm " + user->second + "`";
      return fail(
          Code::kInvalidArgument,
          "the image " + printable(name_or_digest(gone)) + " is used by the VM " + user->second,
          named ? "remove the VM first with " + remove + ", or the image's name with -f"
                : "remove the VM first with " + remove);
    }
    if (user == use.images.end() && !exclusive && !named) {
      return fail(Code::kIo, "other programs are working with the image store",
                  "try again when they are done, or use `supermachine image prune`, which waits");
    }
    return user != use.images.end() || !exclusive;
  }
};

}  // namespace

Result<std::vector<LayerUsage>> layer_usage(const ImageFolders& folders) {
  const auto store = SM_TRY(ImageStore::open(folders.store));
  const auto cache = SM_TRY(open_cache(folders));
  const auto needed = SM_TRY(needed_layers(store, cache));
  std::vector<LayerUsage> out;
  for (const auto& file : cache.files()) {
    out.push_back({file.key, file.size, needed.contains(file.key)});
  }
  return out;
}

Result<PruneReport> prune_images(const ImageFolders& folders, bool all,
                                 const FindImageUse& find_use, const std::stop_token& stop) {
  const auto store = SM_TRY(ImageStore::open(folders.store));
  const auto exclusive = SM_TRY(store.exclusive(stop));
  const auto use = SM_TRY(find_use());
  PruneReport out;
  SM_TRY_STATUS(store.update([&](std::vector<StoreEntry>& entries) -> Status {
    std::erase_if(entries, [&](const StoreEntry& entry) {
      if (!all && !entry.name.empty()) return false;
      if (use.images.contains(id_of(store, entry))) return false;
      out.names.push_back(name_or_digest(entry));
      return true;
    });
    return {};
  }));
  for (const auto& blob : SM_TRY(prune_blobs(store, exclusive))) {
    out.blobs.push_back(blob.digest.text());
    out.bytes += blob.size;
  }
  const auto cache = SM_TRY(open_cache(folders));
  const auto keep = SM_TRY(needed_layers(store, cache));
  for (const auto& file : cache.files()) {
    if (keep.contains(file.key) || use.layers.contains(file_name(file.path))) continue;
    if (!cache.remove(file)) continue;
    out.layers.push_back(file.key);
    out.bytes += file.size;
  }
  return out;
}

Result<RemoveReport> remove_image(const ImageStore& store, const std::string& name, bool force,
                                  const FindImageUse& find_use) {
  const auto found = SM_TRY(store.find(name));
  if (found.size() > 1 && !force) {
    return fail(Code::kInvalidArgument, "image " + printable(name) + " has several names",
                "name one of them, or use -f to remove all");
  }
  const auto exclusive = store.try_exclusive();
  const auto use = SM_TRY(find_use());
  const Removal removal{store, found, force, exclusive.has_value(), use};
  SM_TRY_STATUS(store.update([&](auto& entries) { return removal.apply(entries); }));
  RemoveReport out;
  for (const auto& entry : found) out.untagged.push_back(name_or_digest(entry));
  if (!exclusive) return out;
  for (const auto& blob : SM_TRY(prune_blobs(store, *exclusive))) {
    out.deleted.push_back(blob.digest.text());
  }
  return out;
}

}  // namespace sm
