// Mark and sweep over the store's blobs.
#include "oci/store/prune.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "base/file.h"
#include "oci/folder.h"
#include "oci/store/blob_writer.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr int kMaxDepth = 8;

// Marks a document and all it names. What is missing or unreadable names nothing.
void mark(const ImageStore& store, const Descriptor& document, int depth, std::set<Digest>& used) {
  if (depth > kMaxDepth || !used.insert(document.digest).second) return;
  const auto text = read_file(blob_path(store.root(), document.digest), kMaxManifestBytes);
  if (!text) return;
  const auto kind = document_kind(document.media_type, *text);
  if (!kind) return;
  if (*kind == DocumentKind::kIndex) {
    const auto index = parse_index(*text);
    if (!index) return;
    for (const auto& child : index->manifests) mark(store, child, depth + 1, used);
    return;
  }
  const auto manifest = parse_manifest(*text);
  if (!manifest) return;
  used.insert(manifest->config.digest);
  for (const auto& layer : manifest->layers) used.insert(layer.blob.digest);
}

}  // namespace

Result<std::vector<StoredBlob>> list_blobs(const ImageStore& store) {
  std::set<Digest> used;
  for (const auto& entry : SM_TRY(store.entries())) mark(store, entry.target, 0, used);
  std::vector<StoredBlob> out;
  for (const std::string algorithm : {"sha256", "sha512"}) {
    const auto folder = store.root() + "/blobs/" + algorithm;
    for (const auto& name : folder_names(folder)) {
      auto digest = Digest::parse(algorithm + ":" + name);
      struct stat info {};
      if (!digest || ::lstat((folder + "/" + name).c_str(), &info) != 0) continue;
      const bool is_used = used.contains(*digest);
      out.push_back({*std::move(digest), static_cast<std::uint64_t>(info.st_size), is_used});
    }
  }
  return out;
}

Result<std::vector<StoredBlob>> prune_blobs(const ImageStore& store, const UniqueFd& exclusive) {
  static_cast<void>(exclusive);  // it only has to be held
  remove_stale_ingests(store.root());
  std::vector<StoredBlob> out;
  for (auto& blob : SM_TRY(list_blobs(store))) {
    if (blob.used) continue;
    const auto path = blob_path(store.root(), blob.digest);
    if (::unlink(path.c_str()) != 0) return fail_errno("remove " + printable(path), errno);
    out.push_back(std::move(blob));
  }
  return out;
}

}  // namespace sm
