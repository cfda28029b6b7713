// Planning and running the conversion of an image's layers.
#include "oci/layer_cache.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/cache_file.h"
#include "oci/text.h"

namespace sm {
namespace {

// Part of every key: raise it whenever the same layer would give other bytes.
constexpr std::string_view kConverterVersion = "v4";

// Limit: each conversion holds its tree in memory; four at once bound what an image can take.
constexpr unsigned kMaxParallelLayers = 4;
constexpr unsigned kMaxCompressionThreads = 8;

std::string layer_key(const Digest& diff_id, LayerTree::Position position) {
  std::string key(diff_id.algorithm_name());
  key += "-" + diff_id.hex() + "-" + std::string(kConverterVersion);
  return position == LayerTree::Position::kBase ? key + "-base" : key;
}

// Several layers in one; also none at all, the empty image.
std::string merged_key(const std::vector<ImageLayer>& layers, std::size_t count) {
  std::string list;
  for (std::size_t i = 0; i < count; ++i) list += layers[i].diff_id.text() + "\n";
  const auto digest = Hasher::of(as_byte_span(list));
  return "merged-" + digest.hex() + "-" + std::string(kConverterVersion);
}

Error cancelled() { return Error(Code::kGone, "converting the image was cancelled"); }

}  // namespace

// One file of the result.
struct LayerCache::Job {
  std::string key;
  std::size_t first_layer = 0;
  std::size_t layer_count = 0;
  LayerTree::Position position = LayerTree::Position::kBase;
  std::optional<CachedLayer> file{};
  bool converted = false;
  TreeNotes notes{};
  std::optional<Error> error{};
};

// What the threads of one prepare() share.
struct LayerCache::Run {
  const ImageSource& image;
  const ProgressCallback& progress;
  std::stop_source stop{};
  unsigned compression_threads = 1;
  std::atomic<std::size_t> next_job{0};
  std::mutex progress_mutex{};  // held while the callback runs, and nowhere else
};

Result<std::string> LayerCache::default_root() {
  // Reading the environment is safe: nothing in the program writes to it.
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/supermachine/layers";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.cache/supermachine/layers";
  return fail(Code::kInvalidArgument, "there is no folder for the image cache",
              "set XDG_CACHE_HOME or HOME to an absolute path");
}

Result<LayerCache> LayerCache::open(CacheOptions options) {
  SM_TRY_STATUS(make_dirs(options.root, 0700));
  remove_stale_partials(options.root);
  if (options.threads == 0) options.threads = std::max(std::thread::hardware_concurrency(), 1U);
  options.max_layers = std::max<std::size_t>(options.max_layers, 1);
  return LayerCache(std::move(options));
}

std::vector<LayerCache::Job> LayerCache::plan(const ImageSource& image) const {
  const auto& layers = image.layers();
  const auto total = layers.size();
  const auto merged = total > options_.max_layers ? total - options_.max_layers + 1 : 0;
  std::vector<Job> jobs;
  if (total == 0 || merged > 0) {
    jobs.push_back({.key = merged_key(layers, merged), .first_layer = 0, .layer_count = merged});
  }
  for (auto i = merged; i < total; ++i) {
    const auto position = i == 0 ? LayerTree::Position::kBase : LayerTree::Position::kAbove;
    jobs.push_back({.key = layer_key(layers[i].diff_id, position),
                    .first_layer = i,
                    .layer_count = 1,
                    .position = position});
  }
  return jobs;
}

Result<PreparedImage> LayerCache::prepare(const ImageSource& image, ProgressCallback progress,
                                          std::stop_token stop) const {
  auto jobs = plan(image);
  Run run{.image = image, .progress = progress};
  const std::stop_callback forward(stop, [&run] { run.stop.request_stop(); });
  const auto parallel = std::min<std::size_t>(
      {jobs.size(), static_cast<std::size_t>(options_.threads), kMaxParallelLayers});
  run.compression_threads =
      std::clamp(options_.threads / static_cast<unsigned>(parallel), 1U, kMaxCompressionThreads);
  {
    std::vector<std::jthread> workers;
    for (std::size_t i = 1; i < parallel; ++i) {
      workers.emplace_back([this, &jobs, &run] { work(jobs, run); });
    }
    work(jobs, run);
  }
  PreparedImage out;
  for (auto& job : jobs) {
    // The error that came first stopped the others; theirs says only that.
    if (job.error && (job.error->code() != Code::kGone || stop.stop_requested())) {
      return fail(*std::move(job.error));
    }
  }
  for (auto& job : jobs) {
    if (!job.file) return fail(cancelled());
    if (job.file->hides_lower_layers) out.layers.clear();
    out.layers.push_back(job.file->path);
    out.converted += job.converted ? 1U : 0U;
    out.notes.acls += job.notes.acls;
    out.notes.foreign_xattrs += job.notes.foreign_xattrs;
    out.notes.special_entries += job.notes.special_entries;
  }
  return out;
}

std::vector<std::string> LayerCache::keys(const ImageSource& image) const {
  std::vector<std::string> out;
  for (auto& job : plan(image)) out.push_back(std::move(job.key));
  return out;
}

std::vector<CacheFile> LayerCache::files() const { return list_cache_files(options_.root); }

bool LayerCache::remove(const CacheFile& file) const { return remove_cache_file(file.path); }

void LayerCache::work(std::vector<Job>& jobs, Run& run) const {
  while (true) {
    const auto index = run.next_job.fetch_add(1);
    if (index >= jobs.size()) return;
    auto& job = jobs[index];
    auto done = obtain(job, run);
    if (done) continue;
    job.error = std::move(done).error();
    run.stop.request_stop();
  }
}

Status LayerCache::obtain(Job& job, Run& run) const {
  if (run.stop.stop_requested()) return fail(cancelled());
  job.file = find_cached_layer(options_.root, job.key);
  if (job.file) return {};
  auto partial = SM_TRY(PartialFile::lock(options_.root, job.key, run.stop.get_token()));
  // Another process may have finished it while this one waited.
  job.file = find_cached_layer(options_.root, job.key);
  if (job.file) return {};
  ConvertResult result = SM_TRY(convert(job, run, partial.fd()));
  job.file = SM_TRY(partial.commit(result.hides_lower_layers));
  job.notes = result.notes;
  job.converted = true;
  return {};
}

Result<ConvertResult> LayerCache::convert(const Job& job, Run& run, int fd) const {
  std::vector<ByteStreamPtr> streams;
  std::vector<LayerInput> inputs;
  const auto& layers = run.image.layers();
  for (auto i = job.first_layer; i < job.first_layer + job.layer_count; ++i) {
    auto progress = PrepareProgress{
        .layer = i, .layer_count = layers.size(), .bytes_done = 0, .bytes_total = layers[i].size};
    auto counter = [&run, progress](std::uint64_t bytes) mutable -> Status {
      if (run.stop.stop_requested()) return fail(cancelled());
      progress.bytes_done += bytes;
      if (run.progress) {
        std::lock_guard lock(run.progress_mutex);
        run.progress(progress);
      }
      return {};
    };
    streams.push_back(
        SM_TRY(run.image.open_layer(i, options_.max_unpacked_bytes, std::move(counter))));
    inputs.push_back({*streams.back(), layers[i].name()});
  }
  ConvertOptions options;
  options.position = job.position;
  options.tree = options_.tree;
  options.squashfs.threads = run.compression_threads;
  options.squashfs.keep_free = options_.keep_free;
  options.max_file_bytes = options_.max_unpacked_bytes;
  options.stop = run.stop.get_token();
  return convert_layers(inputs, fd, options);
}

}  // namespace sm
