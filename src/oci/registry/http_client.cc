// One libcurl transfer per request. Redirects are followed here, not by libcurl, since credentials
// must stay with the host they were meant for.
#include "oci/registry/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "oci/text.h"

namespace sm {
namespace {

struct FreeEasy {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using EasyPtr = std::unique_ptr<CURL, FreeEasy>;
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using ListPtr = std::unique_ptr<curl_slist, FreeList>;
struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using UrlPtr = std::unique_ptr<CURLU, FreeUrl>;

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

UrlPtr parse_url(std::string_view text) {
  UrlPtr url(curl_url());
  if (curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), 0) != CURLUE_OK) return {};
  const auto scheme = url_part(url.get(), CURLUPART_SCHEME);
  return scheme == "http" || scheme == "https" ? std::move(url) : UrlPtr();
}

// Without the query, which may hold a token.
std::string shown_url(std::string_view url) {
  return printable(url.substr(0, url.find_first_of("?#")));
}

long milliseconds(Duration d) {
  return static_cast<long>(std::chrono::ceil<std::chrono::milliseconds>(d).count());
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// libcurl itself reads the other proxy variables; this one it leaves to programs that are not CGI
// scripts.
const char* upper_case_http_proxy(std::string_view url) {
  if (!url.starts_with("http://") || std::getenv("http_proxy") != nullptr) return nullptr;
  return std::getenv("HTTP_PROXY");
}

Error transfer_error(CURLcode code, const std::string& where, const char* detail) {
  const std::string text = detail[0] != '\0' ? printable(detail) : curl_easy_strerror(code);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return Error(Code::kNotFound, where + ": " + text,
                   "check the name of the registry and the network");
    case CURLE_COULDNT_RESOLVE_PROXY:
      return Error(Code::kNotFound, where + ": " + text,
                   "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY");
    case CURLE_COULDNT_CONNECT:
      return Error(Code::kIo, where + ": " + text,
                   "check that the registry runs there, and the network");
    case CURLE_SSL_CONNECT_ERROR:
      return Error(Code::kUnsupported, where + ": no TLS connection: " + text,
                   "if it speaks plain HTTP, say so in the configuration: plain_http");
    case CURLE_PEER_FAILED_VERIFICATION:
      return Error(Code::kPermission, where + ": its certificate is not trusted: " + text,
                   "name its certificate authority in the configuration: ca_file");
    case CURLE_SSL_CACERT_BADFILE:
      return Error(Code::kInvalidArgument, where + ": " + text,
                   "check ca_file in the configuration");
    case CURLE_OPERATION_TIMEDOUT:
      return Error(Code::kTimeout, where + ": " + text, "try again");
    default:
      return Error(Code::kGone, where + ": " + text, "try again");
  }
}

}  // namespace

// Idle handles with their open connections.
struct HttpClient::HandlePool {
  std::mutex mutex;
  std::vector<EasyPtr> idle;

  EasyPtr take() {
    std::lock_guard lock(mutex);
    if (idle.empty()) return EasyPtr(curl_easy_init());
    EasyPtr handle = std::move(idle.back());
    idle.pop_back();
    return handle;
  }
  void give(EasyPtr handle) {
    curl_easy_reset(handle.get());
    std::lock_guard lock(mutex);
    idle.push_back(std::move(handle));
  }
};

// What the callbacks of one transfer share.
struct HttpClient::Exchange {
  const HttpRequest& request;
  const HttpLimits& limits;
  const std::stop_token& stop;
  CURL* handle;
  TimePoint answer_deadline;
  HttpResponse response{};
  std::size_t header_bytes = 0;
  bool headers_done = false;
  bool body_begun = false;
  bool cut = false;  // the rest of an error page was not wanted
  std::uint64_t sent = 0;
  std::optional<Error> error{};

  bool sinks() const { return request.sink != nullptr && response.ok(); }

  void take_header(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > limits.header_bytes) {
      error = Error(Code::kLimit, "the answer has more than " +
                                      std::to_string(limits.header_bytes) + " bytes of headers");
      return;
    }
    if (line.starts_with("HTTP/")) {  // also after "100 Continue" and a proxy's answer
      response.headers.clear();
      headers_done = false;
      return;
    }
    const auto text = trimmed(line);
    if (text.empty()) {
      curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &response.status);
      headers_done = response.status >= 200;
      return;
    }
    const auto colon = text.find(':');
    if (colon == std::string_view::npos) return;
    response.headers.emplace_back(lower(trimmed(text.substr(0, colon))),
                                  std::string(trimmed(text.substr(colon + 1))));
  }

  Status begin_body() {
    if (body_begun) return {};
    body_begun = true;
    return sinks() ? request.sink->begin(response) : Status();
  }

  Status take_body(std::span<const std::byte> bytes) {
    SM_TRY_STATUS(begin_body());
    if (sinks()) return request.sink->write(bytes);
    const auto limit = response.ok() ? request.body_limit : limits.error_bytes;
    if (bytes.size() > limit - response.body.size()) {
      // An error page that is too long is cut; a document must be whole.
      cut = !response.ok();
      return fail(Code::kLimit, "the answer has more than " + std::to_string(limit) + " bytes");
    }
    response.body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
    auto& self = *static_cast<Exchange*>(user);
    self.take_header({data, size * count});
    return self.error ? 0 : size * count;
  }
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
    auto& self = *static_cast<Exchange*>(user);
    auto taken = self.take_body({reinterpret_cast<const std::byte*>(data), size * count});
    if (taken) return size * count;
    if (!self.cut) self.error = std::move(taken).error();
    return 0;
  }
  static std::size_t on_upload(char* data, std::size_t size, std::size_t count, void* user) {
    auto& self = *static_cast<Exchange*>(user);
    auto got = self.request.upload->read({reinterpret_cast<std::byte*>(data), size * count});
    if (!got) {
      self.error = std::move(got).error();
      return CURL_READFUNC_ABORT;
    }
    self.sent += *got;
    if (self.request.on_sent) self.request.on_sent(self.sent);
    return *got;
  }
  static int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& self = *static_cast<Exchange*>(user);
    if (self.stop.stop_requested()) {
      self.error = Error(Code::kGone, "cancelled");
    } else if (!self.headers_done && self.request.upload == nullptr &&
               now() > self.answer_deadline) {
      self.error = Error(Code::kTimeout, "no answer in time", "try again");
    }
    return self.error ? 1 : 0;
  }
};

namespace {

void set_options(CURL* handle, const HttpRequest& request, const std::string& url, bool same_origin,
                 const HttpLimits& limits) {
  const auto set = [handle](CURLoption option, auto value) {
    SM_CHECK(curl_easy_setopt(handle, option, value) == CURLE_OK);
  };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROTOCOLS_STR, request.trust.plain_http ? "http,https" : "https");
  set(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(limits.connect));
  // Not while a registry thinks about an answer: that has limits of its own. After an upload it may
  // take its time to verify the bytes.
  if (request.sink != nullptr || request.upload != nullptr) {
    const auto stall = request.upload != nullptr ? limits.stall * 10 : limits.stall;
    set(CURLOPT_LOW_SPEED_TIME, std::max(1L, milliseconds(stall) / 1000));
    set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(limits.stall_bytes_per_second));
  }
  if (request.sink == nullptr && request.upload == nullptr) {
    set(CURLOPT_TIMEOUT_MS, milliseconds(limits.document));
  }
  // Other hosts were not what the user meant by it.
  const bool verify = request.trust.verify || !same_origin;
  set(CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
  set(CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
  if (!request.trust.ca_file.empty()) set(CURLOPT_CAINFO, request.trust.ca_file.c_str());
  if (const char* proxy = upper_case_http_proxy(url)) set(CURLOPT_PROXY, proxy);
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  set(CURLOPT_USERAGENT, "supermachine/" SM_VERSION);
  set(CURLOPT_NOPROGRESS, 0L);
  if (request.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (request.upload != nullptr) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.upload_size));
  } else if (request.method != "GET") {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.data());
  }
  if (request.method != "HEAD") set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

ListPtr header_list(const HttpRequest& request, bool same_origin) {
  curl_slist* list = nullptr;
  const auto add = [&list](const std::string& line) {
    list = curl_slist_append(list, line.c_str());
    SM_CHECK(list != nullptr);
  };
  for (const auto& line : request.headers) add(line);
  if (same_origin && !request.authorization.empty()) add("Authorization: " + request.authorization);
  add("Expect:");
  return ListPtr(list);
}

}  // namespace

std::string_view HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::string url_origin(std::string_view text) {
  const auto url = parse_url(text);
  if (!url) return {};
  const auto host = lower(url_part(url.get(), CURLUPART_HOST));
  const auto port = url_part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  return host.empty() ? "" : url_part(url.get(), CURLUPART_SCHEME) + "://" + host + ":" + port;
}

std::string url_host(std::string_view text) {
  const auto url = parse_url(text);
  if (!url) return {};
  const auto port = url_part(url.get(), CURLUPART_PORT);
  return lower(url_part(url.get(), CURLUPART_HOST)) + (port.empty() ? "" : ":" + port);
}

Result<std::string> resolve_url(const std::string& base, const std::string& location) {
  const auto url = parse_url(base);
  const bool resolved = url && !location.empty() && location.size() <= 16384 &&
                        curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) == CURLUE_OK;
  auto text = resolved ? url_part(url.get(), CURLUPART_URL) : std::string();
  if (text.empty() || url_origin(text).empty()) {
    return fail(Code::kCorrupt,
                "the answer leads to \"" + printable(location) + "\", which is no URL of HTTP");
  }
  return text;
}

std::string url_escape(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4U], kHex[byte & 15U]};
    }
  }
  return out;
}

HttpClient::HttpClient(HttpLimits limits) : limits_(limits), pool_(std::make_unique<HandlePool>()) {
  // libcurl's own setup; once per process, as it demands.
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  SM_CHECK(ready);
}

HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::perform_one(const HttpRequest& request, const std::string& url,
                                             bool same_origin, const std::stop_token& stop) {
  const auto where = shown_url(url);
  if (url.starts_with("http://") && !request.trust.plain_http) {
    return fail(Code::kPermission, where + " is not encrypted",
                "allow plain HTTP for this registry in the configuration: plain_http");
  }
  EasyPtr handle = pool_->take();
  if (!handle) return fail(Code::kIo, "libcurl has no memory");
  char detail[CURL_ERROR_SIZE] = {};
  Exchange exchange{.request = request,
                    .limits = limits_,
                    .stop = stop,
                    .handle = handle.get(),
                    .answer_deadline = now() + limits_.answer};
  exchange.response.url = url;
  set_options(handle.get(), request, url, same_origin, limits_);
  const ListPtr headers = header_list(request, same_origin);
  curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle.get(), CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(handle.get(), CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  curl_easy_setopt(handle.get(), CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(handle.get(), CURLOPT_XFERINFOFUNCTION, &Exchange::on_progress);
  curl_easy_setopt(handle.get(), CURLOPT_XFERINFODATA, &exchange);
  if (request.upload != nullptr) {
    curl_easy_setopt(handle.get(), CURLOPT_READFUNCTION, &Exchange::on_upload);
    curl_easy_setopt(handle.get(), CURLOPT_READDATA, &exchange);
  }
  const CURLcode code = curl_easy_perform(handle.get());
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &exchange.response.status);
  pool_->give(std::move(handle));
  if (exchange.error) return fail(std::move(*exchange.error).with(where));
  if (code != CURLE_OK && !exchange.cut) return fail(transfer_error(code, where, detail));
  // An empty body calls nobody.
  if (request.method != "HEAD") SM_TRY_STATUS(exchange.begin_body());
  return std::move(exchange.response);
}

Result<HttpResponse> HttpClient::perform(const HttpRequest& request, const std::stop_token& stop) {
  const auto origin = url_origin(request.url);
  if (origin.empty()) {
    return fail(Code::kInvalidArgument, "\"" + shown_url(request.url) + "\" is no URL of HTTP");
  }
  std::string url = request.url;
  for (int redirects = 0;; ++redirects) {
    auto response = SM_TRY(perform_one(request, url, url_origin(url) == origin, stop));
    if (!is_redirect(response.status)) return response;
    if (request.method != "GET" && request.method != "HEAD") {
      return fail(Code::kUnsupported,
                  shown_url(url) + " answers a " + request.method + " with a redirect");
    }
    if (redirects == limits_.redirects) {
      return fail(Code::kLimit, shown_url(request.url) + " redirects more than " +
                                    std::to_string(limits_.redirects) + " times");
    }
    auto next =
        SM_TRY_WITH(resolve_url(url, std::string(response.header("location"))), shown_url(url));
    if (url.starts_with("https://") && next.starts_with("http://")) {
      return fail(Code::kPermission,
                  shown_url(url) + " redirects to an unencrypted place, " + shown_url(next));
    }
    url = std::move(next);
  }
}

}  // namespace sm
