// Uploads: what the registry has is not sent again.
#include "oci/registry/push.h"

#include <algorithm>
#include <atomic>
#include <charconv>

#include "base/file.h"
#include "oci/registry/registry_error.h"
#include "oci/registry/transfer.h"
#include "oci/store/blob_writer.h"

namespace sm {
namespace {

AccessScope push_scope(const ImageName& name, const std::string& mount_from) {
  AccessScope out{name.registry, name.repository, {"repository:" + name.repository + ":pull,push"}};
  if (!mount_from.empty()) out.scopes.push_back("repository:" + mount_from + ":pull");
  return out;
}

// At most so many bytes of another stream.
class PartStream final : public ByteStream {
 public:
  PartStream(ByteStream& inner, std::uint64_t size) : inner_(inner), left_(size) {}
  Result<std::size_t> read(std::span<std::byte> out) override {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, out.size()));
    if (count == 0) return std::size_t{0};
    const auto got = SM_TRY(inner_.read(out.first(count)));
    left_ -= got;
    return got;
  }

 private:
  ByteStream& inner_;
  std::uint64_t left_;
};

std::string with_query(const std::string& url, const std::string& query) {
  return url + (url.find('?') == std::string::npos ? "?" : "&") + query;
}

// For each blob a repository of the same registry that is known to have it: those of other names in
// the store.
std::map<Digest, std::string> mount_sources(const ImageStore& store, const ImageName& name) {
  std::map<Digest, std::string> out;
  const auto entries = store.entries();
  if (!entries) return out;
  for (const auto& entry : *entries) {
    const auto other = parse_image_name(entry.name);
    if (!other || other->registry != name.registry || other->repository == name.repository)
      continue;
    const auto image = store.open_image(entry, std::nullopt);
    if (!image) continue;
    for (const auto& layer : image->layers()) {
      if (layer.digest) out.emplace(*layer.digest, other->repository);
    }
  }
  return out;
}

}  // namespace

// One blob on its way up.
struct RegistryClient::Upload {
  const Endpoint& endpoint;
  const ImageName& name;
  const Descriptor& blob;
  const AccessScope& scope;
  const OpenBlob& open;
  const ByteCounter& progress;
  const std::stop_token& stop;
};

Result<bool> RegistryClient::has_blob(const ImageName& name, const Digest& digest,
                                      const std::stop_token& stop) {
  const auto endpoint = endpoints(name.registry).back();
  HttpRequest request;
  request.method = "HEAD";
  request.url = url(endpoint, name.repository, "blobs/" + digest.text());
  const auto response = SM_TRY(send_again(endpoint, request, push_scope(name, ""), stop));
  if (response.ok()) return true;
  if (response.status == 404) return false;
  return fail(status_error(response, name.registry));
}

// Where to send the bytes; nowhere when the blob was taken over.
Result<std::string> RegistryClient::start_upload(const Upload& upload, const std::string& query,
                                                 bool& mounted) {
  HttpRequest request;
  request.method = "POST";
  request.url = url(upload.endpoint, upload.name.repository, "blobs/uploads/" + query);
  request.headers = {"Content-Length: 0"};
  const auto response = SM_TRY(send_again(upload.endpoint, request, upload.scope, upload.stop));
  mounted = response.status == 201;
  if (mounted) return std::string();
  if (response.status != 202) return fail(status_error(response, upload.name.registry));
  return resolve_url(response.url, std::string(response.header("location")));
}

Status RegistryClient::send_whole(const Upload& upload, const std::string& location) {
  const auto stream = SM_TRY(upload.open());
  HttpRequest request;
  request.method = "PUT";
  request.url = with_query(location, "digest=" + url_escape(upload.blob.digest.text()));
  request.headers = {"Content-Type: application/octet-stream"};
  request.upload = stream.get();
  request.upload_size = upload.blob.size;
  request.on_sent = upload.progress;
  const auto response =
      SM_TRY(send(upload.endpoint, std::move(request), upload.scope, upload.stop));
  if (response.status == 201) return {};
  // After a 401 there is a new token now.
  if (response.status == 401 || is_transient(response.status)) {
    return fail(Code::kGone, status_error(response, upload.name.registry).cause(), "try again");
  }
  return fail(status_error(response, upload.name.registry));
}

Status RegistryClient::send_chunks(const Upload& upload, std::string location) {
  const auto stream = SM_TRY(upload.open());
  const auto chunk = options_.config.push_chunk_bytes;
  for (std::uint64_t at = 0; at < upload.blob.size;) {
    const auto size = std::min(chunk, upload.blob.size - at);
    PartStream part(*stream, size);
    HttpRequest request;
    request.method = "PATCH";
    request.url = location;
    request.headers = {
        "Content-Type: application/octet-stream",
        "Content-Range: " + std::to_string(at) + "-" + std::to_string(at + size - 1)};
    request.upload = &part;
    request.upload_size = size;
    request.on_sent = [&](std::uint64_t sent) {
      if (upload.progress) upload.progress(at + sent);
    };
    const auto response =
        SM_TRY(send(upload.endpoint, std::move(request), upload.scope, upload.stop));
    if (response.status == 401 || is_transient(response.status)) {
      return fail(Code::kGone, status_error(response, upload.name.registry).cause(), "try again");
    }
    if (response.status != 202) return fail(status_error(response, upload.name.registry));
    location = SM_TRY(resolve_url(location, std::string(response.header("location"))));
    at += size;
  }
  HttpRequest request;
  request.method = "PUT";
  request.url = with_query(location, "digest=" + url_escape(upload.blob.digest.text()));
  request.headers = {"Content-Type: application/octet-stream"};
  const auto response =
      SM_TRY(send(upload.endpoint, std::move(request), upload.scope, upload.stop));
  if (response.status == 201) return {};
  return fail(status_error(response, upload.name.registry));
}

Result<bool> RegistryClient::push_blob(const ImageName& name, const Descriptor& blob,
                                       const std::string& mount_from, const OpenBlob& open,
                                       const ByteCounter& progress, const std::stop_token& stop) {
  const auto endpoint = endpoints(name.registry).back();
  const auto scope = push_scope(name, mount_from);
  const Upload upload{.endpoint = endpoint,
                      .name = name,
                      .blob = blob,
                      .scope = scope,
                      .open = open,
                      .progress = progress,
                      .stop = stop};
  std::string query;
  if (!mount_from.empty())
    query = "?mount=" + url_escape(blob.digest.text()) + "&from=" + url_escape(mount_from);
  Backoff backoff(options_.retry, stop);
  const bool in_chunks =
      options_.config.push_chunk_bytes != 0 && blob.size > options_.config.push_chunk_bytes;
  while (true) {
    bool mounted = false;
    const auto location = SM_TRY(start_upload(upload, query, mounted));
    if (mounted) return true;
    auto sent = in_chunks ? send_chunks(upload, location) : send_whole(upload, location);
    if (sent) return false;
    if (!is_transient(sent.error())) return fail(std::move(sent).error());
    SM_TRY_STATUS(backoff.wait(std::move(sent).error()));
  }
}

Status RegistryClient::push_manifest(const ImageName& name, const std::string& text,
                                     const std::string& media_type, const std::stop_token& stop) {
  const auto endpoint = endpoints(name.registry).back();
  HttpRequest request;
  request.method = "PUT";
  request.url = url(endpoint, name.repository, "manifests/" + name.reference());
  request.headers = {"Content-Type: " + media_type};
  request.body = text;
  const auto response = SM_TRY(send_again(endpoint, request, push_scope(name, ""), stop));
  if (response.ok()) return {};
  return fail(status_error(response, name.registry));
}

Result<PushResult> push_image(const ImageStore& store, RegistryClient& client,
                              const ImageSource& image, const ImageName& name,
                              const TransferObserver& observer, const std::stop_token& stop) {
  const auto lease = SM_TRY(store.lease(stop));
  if (!image.manifest()) return fail(Code::kUnsupported, "the image has no manifest");
  PushResult out{.manifest = *image.manifest()};
  const auto text =
      SM_TRY(read_file(blob_path(store.root(), out.manifest.digest), kMaxManifestBytes));
  const auto manifest = SM_TRY(parse_manifest(text));
  std::vector<Descriptor> blobs;
  for (const auto& layer : manifest.layers) blobs.push_back(layer.blob);
  blobs.push_back(manifest.config);
  const auto sources = mount_sources(store, name);
  std::atomic<std::size_t> sent = 0;
  const auto work = [&](const Descriptor& blob, const ByteCounter& progress,
                        const std::stop_token& inner) -> Result<TransferProgress::State> {
    if (SM_TRY(client.has_blob(name, blob.digest, inner))) return TransferProgress::State::kExists;
    const auto source = sources.find(blob.digest);
    const auto open = [&]() -> Result<ByteStreamPtr> {
      auto found = SM_TRY(store.blobs()->open("blobs/" + std::string(blob.digest.algorithm_name()) +
                                              "/" + blob.digest.hex()));
      return verified_stream(std::move(found.stream), blob.digest, blob.size,
                             "blob " + blob.digest.text());
    };
    const bool mounted = SM_TRY(client.push_blob(
        name, blob, source == sources.end() ? "" : source->second, open, progress, inner));
    if (mounted) return TransferProgress::State::kMounted;
    ++sent;
    return TransferProgress::State::kDone;
  };
  auto moved =
      transfer_all(std::move(blobs), client.config().parallel_downloads, work, observer, stop);
  if (moved) {
    const auto type = out.manifest.media_type.empty() ? "application/vnd.oci.image.manifest.v1+json"
                                                      : out.manifest.media_type;
    moved = client.push_manifest(name, text, type, stop);
  }
  if (!moved) return fail(std::move(moved).error().with(name.text()));
  out.sent = sent.load();
  return out;
}

}  // namespace sm
