// Authorizer: what to put into the Authorization header for a registry: answers to its challenges,
// tokens kept by scope. Any thread; fetching a token blocks. Spec: Docker's token authentication.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "oci/registry/challenge.h"
#include "oci/registry/credentials.h"
#include "oci/registry/http_client.h"

namespace sm {

// What is asked for: "repository:NAME:pull" and the like. The registry's own wish is not followed:
// it could ask for what belongs to others.
struct AccessScope {
  std::string registry;    // whose credentials are used, "host[:port]" as in images' names
  std::string repository;  // for namespaced credentials
  std::vector<std::string> scopes;

  std::string key() const;
};

// A token server's answer. Hostile text welcome.
struct Token {
  std::string value;
  Duration lifetime{};
};
Result<Token> parse_token(std::string_view text);

class Authorizer {
 public:
  using TrustOf = std::function<HttpTrust(const std::string& host)>;
  Authorizer(HttpClient& http, CredentialStore credentials, TrustOf trust_of)
      : http_(http), credentials_(std::move(credentials)), trust_of_(std::move(trust_of)) {}

  // The header's value for the next request; empty: none is known.
  std::string header(const AccessScope& scope) const;

  // Acts on a 401. True: header() gives something new, try again. False: there is nothing more to
  // offer. `offered` is what the refused request carried.
  Result<bool> answer(const AccessScope& scope, const HttpResponse& refusal,
                      const std::string& offered, const std::stop_token& stop);

 private:
  struct Entry {
    std::string value;
    TimePoint expires;
  };
  Result<std::string> bearer(const AccessScope& scope, const Challenge& challenge,
                             const std::optional<Credential>& credential,
                             const HttpResponse& refusal, const std::stop_token& stop,
                             TimePoint& expires);
  HttpClient& http_;
  CredentialStore credentials_;
  TrustOf trust_of_;
  mutable std::mutex mutex_;  // guards entries_; not held while a token is fetched
  std::map<std::string, Entry> entries_;
};

}  // namespace sm
