// RegistryClient: manifests and blobs of one user's registries, with authentication, mirrors and
// retries. Any thread; calls block. Spec: OCI distribution 1.1, Docker Registry HTTP API V2.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"
#include "oci/image_name.h"
#include "oci/manifest.h"
#include "oci/registry/authorizer.h"
#include "oci/registry/http_client.h"
#include "oci/registry/registry_config.h"
#include "oci/registry/retry.h"
#include "oci/store/blob_writer.h"

namespace sm {

struct RegistryOptions {
  RegistryConfig config;
  std::vector<std::string> auth_files;  // see CredentialStore
  HttpLimits limits;
  RetryPolicy retry;
};

// A manifest or an index as the registry keeps it.
struct RemoteDocument {
  std::string text;
  Descriptor descriptor;  // media type, digest and size of the text
};

// Bytes of a blob that have come or gone so far.
using ByteCounter = std::function<void(std::uint64_t done)>;

class RegistryClient {
 public:
  explicit RegistryClient(RegistryOptions options);
  RegistryClient(const RegistryClient&) = delete;
  RegistryClient& operator=(const RegistryClient&) = delete;

  const RegistryConfig& config() const { return options_.config; }

  // What the name stands for. With a digest the text is verified against it.
  Result<RemoteDocument> manifest(const ImageName& name, const std::stop_token& stop = {});

  // Downloads a blob to the end of `writer`, from where it stands on, and commits it.
  Status pull_blob(const ImageName& name, BlobWriter& writer, const ByteCounter& progress,
                   const std::stop_token& stop);

  // Whether the repository has the blob already.
  Result<bool> has_blob(const ImageName& name, const Digest& digest, const std::stop_token& stop);

  // Uploads a blob, unless the registry can take it over from its repository `mount_from` (empty:
  // none is known). `open` gives the bytes, again for each attempt. True: it was taken over.
  using OpenBlob = std::function<Result<ByteStreamPtr>()>;
  Result<bool> push_blob(const ImageName& name, const Descriptor& blob,
                         const std::string& mount_from, const OpenBlob& open,
                         const ByteCounter& progress, const std::stop_token& stop);

  // Stores a manifest under the name's tag or digest.
  Status push_manifest(const ImageName& name, const std::string& text,
                       const std::string& media_type, const std::stop_token& stop);

 private:
  // A place that answers for a registry.
  struct Endpoint {
    std::string base;      // "https://host[:port][/path]"
    std::string registry;  // whose settings and credentials apply
    HttpTrust trust;
    bool is_mirror = false;
    bool may_fall_back = false;  // to plain HTTP: this machine
  };
  struct Upload;
  class PullSink;

  HttpTrust trust_of(const std::string& registry) const;
  std::vector<Endpoint> endpoints(const std::string& registry) const;
  std::string url(const Endpoint& endpoint, const std::string& repository,
                  std::string_view rest) const;

  // One request with authentication; any status is a result.
  Result<HttpResponse> send(const Endpoint& endpoint, HttpRequest request, const AccessScope& scope,
                            const std::stop_token& stop);
  // The same, again while it may pass. Not for requests with sinks or uploads.
  Result<HttpResponse> send_again(const Endpoint& endpoint, const HttpRequest& request,
                                  const AccessScope& scope, const std::stop_token& stop);
  Result<RemoteDocument> manifest_from(const Endpoint& endpoint, const ImageName& name,
                                       const std::stop_token& stop);
  Status pull_from(const Endpoint& endpoint, const ImageName& name, BlobWriter& writer,
                   const ByteCounter& progress, const std::stop_token& stop);
  Result<std::string> start_upload(const Upload& upload, const std::string& query, bool& mounted);
  Status send_whole(const Upload& upload, const std::string& location);
  Status send_chunks(const Upload& upload, std::string location);

  RegistryOptions options_;
  HttpClient http_;
  Authorizer authorizer_;
  mutable std::mutex mutex_;
  std::map<std::string, bool>
      plain_;  // registries of this machine that turned out to speak plain HTTP
};

}  // namespace sm
