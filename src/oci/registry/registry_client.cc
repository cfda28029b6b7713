// Requests to registries: endpoints, authentication, retries; downloads.
#include "oci/registry/registry_client.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/bytes.h"
#include "oci/json.h"
#include "oci/registry/registry_error.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr const char* kAccept =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";

// A download that brought this much before it broke may break again as often.
constexpr std::uint64_t kProgressBytes = 256U << 10U;
// A token that expired, then one that was refused: after that it is the registry's last word.
constexpr int kMaxRefusals = 2;

bool is_this_machine(const std::string& registry) {
  const auto host = url_host("http://" + registry);
  const auto name =
      host.starts_with('[') ? host.substr(0, host.find(']') + 1) : host.substr(0, host.find(':'));
  return name == "localhost" || name == "[::1]" || name.starts_with("127.");
}

AccessScope pull_scope(const std::string& registry, const std::string& repository) {
  return {registry, repository, {"repository:" + repository + ":pull"}};
}

std::string stated_type(const HttpResponse& response, std::string_view text) {
  std::string type(response.header("content-type"));
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.pop_back();
  if (!type.empty() && type != "application/json" && type != "text/plain" &&
      type != "application/octet-stream") {
    return type;
  }
  const auto json = parse_json_object(text, "the manifest");
  const auto own = json ? json_text(*json, "mediaType", "the manifest") : Result<std::string>("");
  return own ? *own : "";
}

// The digest that the registry states, when it is one of ours.
std::optional<Digest> stated_digest(const HttpResponse& response) {
  auto digest = Digest::parse(response.header("docker-content-digest"));
  return digest ? std::optional(*std::move(digest)) : std::nullopt;
}

// The first byte of "bytes FIRST-LAST/SIZE".
std::optional<std::uint64_t> range_start(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  std::uint64_t start = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), start);
  if (end.ec != std::errc() || end.ptr == text.data() + text.size() || *end.ptr != '-')
    return std::nullopt;
  return start;
}

}  // namespace

// Puts the body of an answer where the writer stands.
class RegistryClient::PullSink final : public BodySink {
 public:
  PullSink(BlobWriter& writer, const ByteCounter& progress)
      : writer_(writer), progress_(progress) {}

  Status begin(const HttpResponse& response) override {
    if (response.status == 206) {
      if (range_start(response.header("content-range")) == writer_.offset()) return {};
      return fail(Code::kCorrupt, "the registry sends another part of the blob than was asked for");
    }
    // The whole, although perhaps a part was asked for.
    if (writer_.offset() > 0) SM_TRY_STATUS(writer_.restart());
    const std::string length(response.header("content-length"));
    std::uint64_t size = 0;
    const auto* end = length.data() + length.size();
    const auto& expected = writer_.expected();
    const bool stated = !length.empty() && std::from_chars(length.data(), end, size).ptr == end;
    if (!stated || size == expected.size) return {};
    return fail(Code::kCorrupt, "blob " + expected.digest.text() + " has " + std::to_string(size) +
                                    " bytes; the manifest states " + std::to_string(expected.size));
  }

  Status write(std::span<const std::byte> bytes) override {
    SM_TRY_STATUS(writer_.append(bytes));
    if (progress_) progress_(writer_.offset());
    return {};
  }

 private:
  BlobWriter& writer_;
  const ByteCounter& progress_;
};

RegistryClient::RegistryClient(RegistryOptions options)
    : options_(std::move(options)),
      http_(options_.limits),
      authorizer_(http_, CredentialStore(options_.auth_files),
                  [this](const std::string& host) { return trust_of(host); }) {}

HttpTrust RegistryClient::trust_of(const std::string& registry) const {
  const auto& settings = options_.config.of(registry);
  return {.ca_file = settings.ca_file,
          .verify = !settings.skip_tls_verify,
          .plain_http = settings.plain_http};
}

std::vector<RegistryClient::Endpoint> RegistryClient::endpoints(const std::string& registry) const {
  const auto& settings = options_.config.of(registry);
  std::vector<Endpoint> out;
  for (const auto& mirror : settings.mirrors) {
    Endpoint endpoint{.base = mirror,
                      .registry = url_host(mirror),
                      .trust = trust_of(url_host(mirror)),
                      .is_mirror = true};
    // Its URL says it already.
    endpoint.trust.plain_http = mirror.starts_with("http://");
    out.push_back(std::move(endpoint));
  }
  Endpoint own{.base = {}, .registry = registry, .trust = trust_of(registry)};
  {
    std::lock_guard lock(mutex_);
    if (plain_.contains(registry)) own.trust.plain_http = true;
  }
  own.may_fall_back = !own.trust.plain_http && is_this_machine(registry);
  const auto host = registry == kDefaultRegistry ? std::string(kDefaultRegistryApi) : registry;
  own.base = (own.trust.plain_http ? "http://" : "https://") + host;
  out.push_back(std::move(own));
  return out;
}

std::string RegistryClient::url(const Endpoint& endpoint, const std::string& repository,
                                std::string_view rest) const {
  return endpoint.base + "/v2/" + repository + "/" + std::string(rest);
}

Result<HttpResponse> RegistryClient::send(const Endpoint& endpoint, HttpRequest request,
                                          const AccessScope& scope, const std::stop_token& stop) {
  request.trust = endpoint.trust;
  // A place that the registry sends us to is not the registry.
  const bool is_own = url_origin(request.url) == url_origin(endpoint.base);
  for (int refusals = 0;; ++refusals) {
    if (is_own) request.authorization = authorizer_.header(scope);
    auto response = http_.perform(request, stop);
    if (!response && endpoint.may_fall_back && response.error().code() == Code::kUnsupported &&
        request.url.starts_with("https://")) {
      request.url.replace(0, 5, "http");
      Endpoint plain = endpoint;
      plain.base.replace(0, 5, "http");
      plain.trust.plain_http = true;
      plain.may_fall_back = false;
      auto again = SM_TRY(send(plain, request, scope, stop));
      std::lock_guard lock(mutex_);
      plain_[endpoint.registry] = true;
      return again;
    }
    if (!response || response->status != 401 || !is_own || refusals == kMaxRefusals)
      return response;
    if (!SM_TRY_WITH(authorizer_.answer(scope, *response, request.authorization, stop),
                     endpoint.registry)) {
      return response;
    }
    if (request.upload != nullptr) return response;  // its bytes are gone; the caller tries again
  }
}

Result<HttpResponse> RegistryClient::send_again(const Endpoint& endpoint,
                                                const HttpRequest& request,
                                                const AccessScope& scope,
                                                const std::stop_token& stop) {
  Backoff backoff(options_.retry, stop);
  while (true) {
    auto response = send(endpoint, request, scope, stop);
    if (response && !is_transient(response->status)) return response;
    if (!response && !is_transient(response.error())) return response;
    auto cause = response ? status_error(*response, endpoint.registry) : response.error();
    const auto asked = response ? retry_after(*response) : std::nullopt;
    SM_TRY_STATUS(backoff.wait(std::move(cause), asked));
  }
}

Result<RemoteDocument> RegistryClient::manifest_from(const Endpoint& endpoint,
                                                     const ImageName& name,
                                                     const std::stop_token& stop) {
  HttpRequest request;
  request.url = url(endpoint, name.repository, "manifests/" + name.reference());
  request.headers = {kAccept};
  request.body_limit = kMaxManifestBytes;
  auto response =
      SM_TRY(send_again(endpoint, request, pull_scope(endpoint.registry, name.repository), stop));
  if (!response.ok()) return fail(status_error(response, endpoint.registry));
  const auto bytes = as_byte_span(response.body);
  const auto stated = name.digest ? name.digest : stated_digest(response);
  auto digest = Hasher::of(bytes, stated ? stated->algorithm() : HashAlgorithm::kSha256);
  if (stated && digest != *stated) {
    return fail(
        Code::kCorrupt,
        "the manifest of " + name.text() + " does not match its digest: it has " + digest.text(),
        "do not trust this registry or what lies between");
  }
  RemoteDocument out{.text = {},
                     .descriptor = {.media_type = stated_type(response, response.body),
                                    .digest = std::move(digest),
                                    .size = response.body.size()}};
  out.text = std::move(response.body);
  return out;
}

Result<RemoteDocument> RegistryClient::manifest(const ImageName& name,
                                                const std::stop_token& stop) {
  const auto all = endpoints(name.registry);
  for (const auto& endpoint : all) {
    auto document = manifest_from(endpoint, name, stop);
    if (document || !endpoint.is_mirror || stop.stop_requested()) return document;
  }
  return fail(Code::kInternal, "a registry without an endpoint");
}

Status RegistryClient::pull_from(const Endpoint& endpoint, const ImageName& name,
                                 BlobWriter& writer, const ByteCounter& progress,
                                 const std::stop_token& stop) {
  const auto& expected = writer.expected();
  const auto scope = pull_scope(endpoint.registry, name.repository);
  Backoff backoff(options_.retry, stop);
  bool asked_once = false;
  while (writer.offset() < expected.size || !asked_once) {
    const auto before = writer.offset();
    PullSink sink(writer, progress);
    HttpRequest request;
    request.url = url(endpoint, name.repository, "blobs/" + expected.digest.text());
    if (before > 0) request.headers.push_back("Range: bytes=" + std::to_string(before) + "-");
    request.sink = &sink;
    if (before == expected.size && before > 0) break;  // all of it was there
    auto response = send(endpoint, std::move(request), scope, stop);
    if (response && response->ok() && writer.offset() == expected.size) break;
    asked_once = true;
    std::optional<Error> cause;
    std::optional<Duration> asked;
    if (!response) {
      if (!is_transient(response.error())) return fail(std::move(response).error());
      cause = std::move(response).error();
    } else if (response->ok()) {
      cause = Error(Code::kGone, "blob " + expected.digest.text() + " ends early", "try again");
    } else if (response->status == 416 && before > 0) {
      SM_TRY_STATUS(writer.restart());
      cause = Error(Code::kGone, "the registry does not continue a download", "try again");
    } else {
      if (!is_transient(response->status)) return fail(status_error(*response, endpoint.registry));
      cause = status_error(*response, endpoint.registry);
      asked = retry_after(*response);
    }
    if (writer.offset() > before + kProgressBytes) backoff.made_progress();
    SM_TRY_STATUS(backoff.wait(*std::move(cause), asked));
  }
  return {};
}

Status RegistryClient::pull_blob(const ImageName& name, BlobWriter& writer,
                                 const ByteCounter& progress, const std::stop_token& stop) {
  const auto all = endpoints(name.registry);
  for (std::size_t i = 0; i < all.size();) {
    const bool is_last = i + 1 == all.size();
    auto pulled = pull_from(all[i], name, writer, progress, stop);
    if (!pulled) {
      if (is_last || stop.stop_requested()) return pulled;
      ++i;
      continue;
    }
    const bool was_resumed = writer.is_resumed();
    auto done = writer.commit();
    if (done) return {};
    if (done.error().code() != Code::kCorrupt) return fail(std::move(done).error());
    // What an earlier process left may be at fault: once more from the start.
    if (was_resumed) continue;
    if (is_last) return fail(std::move(done).error());
    ++i;
  }
  return {};
}

}  // namespace sm
