// The files of a layer cache: finding finished ones, and the locked partial file in which a new one
// grows. Safe among processes; see docs/design/0003.
#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/layer_cache.h"

namespace sm {

struct CachedLayer {
  std::string path;
  bool hides_lower_layers = false;
};

// The finished file of a key, when there is a sound one. An unsound one is removed.
std::optional<CachedLayer> find_cached_layer(const std::string& root, const std::string& key);

// The partial file of a key, held under an exclusive lock. It vanishes with the object unless it
// was committed, and with the next open of the cache when the program dies.
class PartialFile {
 public:
  // Waits for other holders; Code::kGone on a stop request.
  static Result<PartialFile> lock(const std::string& root, const std::string& key,
                                  const std::stop_token& stop);
  PartialFile(PartialFile&&) noexcept = default;
  PartialFile& operator=(PartialFile&&) = delete;
  ~PartialFile();

  int fd() const { return fd_.get(); }
  // Makes the content durable and gives the file its final name.
  Result<CachedLayer> commit(bool hides_lower_layers);

 private:
  PartialFile(UniqueFd fd, std::string root, std::string key)
      : fd_(std::move(fd)), root_(std::move(root)), key_(std::move(key)) {}
  UniqueFd fd_;
  std::string root_;
  std::string key_;
};

// All finished files.
std::vector<CacheFile> list_cache_files(const std::string& root);
// False when somebody has it locked, or it cannot be removed.
bool remove_cache_file(const std::string& path);

// Removes partial files that nobody holds.
void remove_stale_partials(const std::string& root);

}  // namespace sm
