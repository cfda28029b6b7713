// Pulling: documents first, then layers side by side, the name last.
#include "oci/registry/pull.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "oci/registry/transfer.h"
#include "oci/text.h"

namespace sm {
namespace {

// Limit: as for local layouts.
constexpr int kMaxIndexDepth = 4;
// Limit: of one layer's blob; what it may unpack to is limited the same way.
constexpr std::uint64_t kMaxLayerBytes = 64ULL << 30U;

ImageName with_digest(const ImageName& name, const Digest& digest) {
  ImageName out = name;
  out.tag.clear();
  out.digest = digest;
  return out;
}

// A manifest that an index names: from the store when it is there.
Result<std::string> child_document(const ImageStore& store, RegistryClient& client,
                                   const ImageName& name, const Descriptor& child,
                                   const std::stop_token& stop) {
  if (child.size > kMaxManifestBytes) {
    return fail(Code::kLimit, "manifest " + child.digest.text() + " has " +
                                  std::to_string(child.size) + " bytes; the limit is " +
                                  std::to_string(kMaxManifestBytes));
  }
  auto document = SM_TRY(client.manifest(with_digest(name, child.digest), stop));
  if (document.descriptor.size != child.size) {
    return fail(Code::kCorrupt, "manifest " + child.digest.text() + " has " +
                                    std::to_string(document.descriptor.size) +
                                    " bytes; its index states " + std::to_string(child.size));
  }
  auto writer = SM_TRY(BlobWriter::open(store.root(), {child.digest, child.size}, stop));
  if (writer) {
    SM_TRY_STATUS(writer->restart());
    SM_TRY_STATUS(writer->append(as_byte_span(document.text)));
    SM_TRY(writer->commit());
  }
  return std::move(document.text);
}

// Layers whose bytes the registry is not supposed to have.
Status refuse_foreign(const Manifest& manifest) {
  for (const auto& layer : manifest.layers) {
    const auto& type = layer.blob.media_type;
    const bool foreign = type.find("foreign") != std::string::npos ||
                         type.find("nondistributable") != std::string::npos;
    if (foreign) {
      return fail(Code::kUnsupported,
                  "layer " + layer.blob.digest.text() + " has the media type \"" + printable(type) +
                      "\": it is kept elsewhere",
                  "use an image without foreign layers");
    }
    if (layer.blob.size > kMaxLayerBytes) {
      return fail(Code::kLimit, "layer " + layer.blob.digest.text() + " has " +
                                    std::to_string(layer.blob.size) + " bytes; the limit is " +
                                    std::to_string(kMaxLayerBytes));
    }
  }
  if (manifest.config.size > kMaxConfigBytes) {
    return fail(Code::kLimit, "the image configuration has " +
                                  std::to_string(manifest.config.size) + " bytes; the limit is " +
                                  std::to_string(kMaxConfigBytes));
  }
  return {};
}

// The manifest for the platform, and all documents on the way to it put into the store.
Result<Manifest> resolve(const ImageStore& store, RegistryClient& client, const ImageName& name,
                         const RemoteDocument& top, const Platform& platform,
                         const std::stop_token& stop) {
  auto type = top.descriptor.media_type;
  auto text = top.text;
  for (int depth = 0; depth <= kMaxIndexDepth; ++depth) {
    if (SM_TRY(document_kind(type, text)) == DocumentKind::kManifest) return parse_manifest(text);
    const auto index = SM_TRY(parse_index(text));
    const auto child = SM_TRY(choose_platform(index, platform));
    text = SM_TRY(child_document(store, client, name, child, stop));
    type = child.media_type;
  }
  return fail(Code::kLimit,
              "the image index nests deeper than " + std::to_string(kMaxIndexDepth) + " levels");
}

Status fetch(const ImageStore& store, RegistryClient& client, const ImageName& name,
             const Descriptor& blob, const ByteCounter& progress, bool& existed,
             const std::stop_token& stop) {
  auto writer = SM_TRY(BlobWriter::open(store.root(), {blob.digest, blob.size}, stop));
  existed = !writer;
  if (existed) return {};
  if (progress) progress(writer->offset());
  return client.pull_blob(name, *writer, progress, stop);
}

Result<std::size_t> fetch_layers(const ImageStore& store, RegistryClient& client,
                                 const ImageName& name, const Manifest& manifest,
                                 const PullOptions& options, const std::stop_token& stop) {
  std::vector<Descriptor> blobs;
  for (const auto& layer : manifest.layers) blobs.push_back(layer.blob);
  std::atomic<std::size_t> fetched = 0;
  const auto work = [&](const Descriptor& blob, const ByteCounter& progress,
                        const std::stop_token& inner) -> Result<TransferProgress::State> {
    bool existed = false;
    SM_TRY_STATUS(fetch(store, client, name, blob, progress, existed, inner));
    if (!existed) ++fetched;
    return existed ? TransferProgress::State::kExists : TransferProgress::State::kDone;
  };
  SM_TRY_STATUS(transfer_all(std::move(blobs), client.config().parallel_downloads, work,
                             options.observer, stop));
  return fetched.load();
}

}  // namespace

Result<Platform> parse_platform_text(const std::string& text) {
  const auto first = text.find('/');
  const auto second = first == std::string::npos ? first : text.find('/', first + 1);
  Platform out{.os = text.substr(0, first), .architecture = {}, .variant = {}};
  if (first != std::string::npos)
    out.architecture =
        text.substr(first + 1, second == std::string::npos ? second : second - first - 1);
  if (second != std::string::npos) out.variant = text.substr(second + 1);
  const auto is_word = [](const std::string& word) {
    return word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
  };
  const bool fits = !out.os.empty() && !out.architecture.empty() && is_word(out.os) &&
                    is_word(out.architecture) && is_word(out.variant) &&
                    (second == std::string::npos || !out.variant.empty());
  if (fits) return out;
  return fail(Code::kInvalidArgument, "\"" + printable(text) + "\" is not a platform",
              "write OS/ARCHITECTURE[/VARIANT], such as linux/amd64");
}

Result<PullResult> pull_image(const ImageStore& store, RegistryClient& client,
                              const ImageName& name, const PullOptions& options,
                              const std::stop_token& stop) {
  auto pull = [&]() -> Result<PullResult> {
    const auto lease = SM_TRY(store.lease(stop));
    const auto top = SM_TRY(client.manifest(name, stop));
    const auto manifest = SM_TRY(resolve(store, client, name, top, options.platform, stop));
    SM_TRY_STATUS(refuse_foreign(manifest));
    bool existed = false;
    SM_TRY_STATUS(fetch(store, client, name, manifest.config, {}, existed, stop));
    PullResult out{.target = top.descriptor};
    out.fetched = SM_TRY(fetch_layers(store, client, name, manifest, options, stop));
    auto writer =
        SM_TRY(BlobWriter::open(store.root(), {out.target.digest, out.target.size}, stop));
    if (writer) {
      SM_TRY_STATUS(writer->restart());
      SM_TRY_STATUS(writer->append(as_byte_span(top.text)));
      SM_TRY(writer->commit());
    }
    const StoreEntry entry{name.text(), out.target};
    // Configuration, platform, number of layers: as every image is checked that is run.
    SM_TRY(store.open_image(entry, options.platform));
    const auto known = SM_TRY(store.entries());
    out.changed = std::none_of(known.begin(), known.end(), [&](const StoreEntry& e) {
      return e.name == entry.name && e.target.digest == entry.target.digest;
    });
    SM_TRY_STATUS(store.set(entry.name, entry.target));
    return out;
  };
  auto result = pull();
  if (!result) return fail(std::move(result).error().with(name.text()));
  return result;
}

}  // namespace sm
