// LayerCache: squashfs images of layers on disk, named by content, shared by all images, programs
// and VMs of a user. prepare() may be called from several threads and processes at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_source.h"
#include "oci/layer_converter.h"

namespace sm {

struct CacheOptions {
  std::string root;                                 // the folder of the cache; created when missing
  std::size_t max_layers = 16;                      // more are merged from the base up
  unsigned threads = 0;                             // 0: as many as there are processors
  std::uint64_t max_unpacked_bytes = 64ULL << 30U;  // of one layer's tar stream, and of its files
  TreeLimits tree;
  std::uint64_t keep_free = 64U << 20U;  // bytes of disk that must stay free
};

struct PrepareProgress {
  std::size_t layer = 0;  // index into ImageSource::layers()
  std::size_t layer_count = 0;
  std::uint64_t bytes_done = 0;  // of the layer's blob
  std::uint64_t bytes_total = 0;
};
// Called by the converting threads, one call at a time; must not call back into the cache.
using ProgressCallback = std::function<void(const PrepareProgress&)>;

// One file of the cache.
struct CacheFile {
  std::string key;  // what it is made of
  std::string path;
  std::uint64_t size = 0;
};

struct PreparedImage {
  std::vector<std::string> layers;  // squashfs files, base first, never empty
  std::size_t converted = 0;        // how many of them were not in the cache
  TreeNotes notes;                  // what was left out while converting
};

class LayerCache {
 public:
  // ${XDG_CACHE_HOME:-$HOME/.cache}/supermachine/layers
  static Result<std::string> default_root();
  // Creates the folder and removes what crashed programs left in it.
  static Result<LayerCache> open(CacheOptions options);

  // The image's layers as squashfs files, converting what is missing. A stop request ends it with
  // Code::kGone. After an error nothing half-written is left.
  Result<PreparedImage> prepare(const ImageSource& image, ProgressCallback progress = {},
                                std::stop_token stop = {}) const;

  // The keys of the files that prepare() would give.
  std::vector<std::string> keys(const ImageSource& image) const;
  // The finished files.
  std::vector<CacheFile> files() const;
  // Removes a file unless some program holds a lock on it, as those do that run a VM from it.
  bool remove(const CacheFile& file) const;

 private:
  struct Job;
  struct Run;
  explicit LayerCache(CacheOptions options) : options_(std::move(options)) {}
  std::vector<Job> plan(const ImageSource& image) const;
  Status obtain(Job& job, Run& run) const;
  Result<ConvertResult> convert(const Job& job, Run& run, int fd) const;
  void work(std::vector<Job>& jobs, Run& run) const;

  CacheOptions options_;
};

}  // namespace sm
