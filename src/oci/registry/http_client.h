// HttpClient: HTTP requests to registries over libcurl, with every answer taken for hostile: limits
// on headers, documents, redirects and time. Any thread; connections are shared and kept open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "oci/byte_stream.h"

namespace sm {

struct HttpLimits {
  std::size_t header_bytes = 64U << 10U;  // of all headers of one answer
  std::size_t error_bytes = 64U << 10U;   // of the body of an answer that is no success
  int redirects = 5;
  Duration connect = std::chrono::seconds(20);
  Duration answer = std::chrono::seconds(60);     // from the request to the end of the headers
  Duration document = std::chrono::seconds(120);  // a whole request that has no sink
  // A transfer slower than this for as long as that is given up (and resumed).
  Duration stall = std::chrono::seconds(30);
  std::uint64_t stall_bytes_per_second = 1024;
};

// How far a server is trusted.
struct HttpTrust {
  std::string ca_file;      // beside the system's; empty: none
  bool verify = true;       // its certificate
  bool plain_http = false;  // http:// is allowed
};

struct HttpResponse {
  long status = 0;
  std::string url;                                           // that answered, after redirects
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // unless a sink took it

  // The first of that name (lower case); empty when there is none.
  std::string_view header(std::string_view name) const;
  bool ok() const { return status >= 200 && status < 300; }
};

// Takes the body of a successful answer as it comes. An error ends the request with that error.
class BodySink {
 public:
  virtual ~BodySink() = default;
  virtual Status begin(const HttpResponse& response) = 0;
  virtual Status write(std::span<const std::byte> bytes) = 0;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"; go to every host of a chain of redirects
  std::string authorization;         // value of that header; goes to the origin of `url` alone
  std::string body;                  // of POST, PUT and PATCH
  ByteStream* upload = nullptr;      // the body instead; read once, so redirects are refused
  std::uint64_t upload_size = 0;
  HttpTrust trust;
  std::size_t body_limit = 4U << 20U;  // without a sink
  BodySink* sink = nullptr;
  std::function<void(std::uint64_t sent)> on_sent;
};

class HttpClient {
 public:
  explicit HttpClient(HttpLimits limits = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Any status is a result. Errors: kTimeout and kGone may pass when tried again; kNotFound: no
  // such host; kIo: nobody listens there; kUnsupported: the server does not speak TLS; kPermission:
  // its certificate is not trusted; kLimit, kCorrupt: the answer is not acceptable; kGone with the
  // text "cancelled" after a stop request.
  Result<HttpResponse> perform(const HttpRequest& request, const std::stop_token& stop = {});

 private:
  struct Exchange;
  struct HandlePool;
  Result<HttpResponse> perform_one(const HttpRequest& request, const std::string& url,
                                   bool same_origin, const std::stop_token& stop);
  HttpLimits limits_;
  std::unique_ptr<HandlePool> pool_;
};

// "https://host:port" of a URL; empty for anything but http and https with a host.
std::string url_origin(std::string_view url);
// The host of a URL, a port after it when the URL has one; empty when it has none.
std::string url_host(std::string_view url);
// A Location header as an absolute URL.
Result<std::string> resolve_url(const std::string& base, const std::string& location);
// Percent-encodes everything but letters, digits and "-._~".
std::string url_escape(std::string_view text);

}  // namespace sm
