// Challenges, tokens, and who may see a password.
#include "oci/registry/authorizer.h"

#include <openssl/evp.h>

#include <algorithm>

#include "oci/json.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr std::size_t kMaxToken = 64U << 10U;
constexpr std::uint64_t kDefaultLifetime = 60;
constexpr std::uint64_t kLongestLifetime = 3600;

std::string encode_base64(std::string_view text) {
  std::string out((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

std::string basic(const Credential& credential) {
  return "Basic " + encode_base64(credential.user + ":" + credential.password);
}

// The challenges of all headers; one that cannot be read is passed over when another can.
Result<std::vector<Challenge>> challenges_of(const HttpResponse& refusal) {
  std::vector<Challenge> out;
  std::optional<Error> error;
  for (const auto& [name, value] : refusal.headers) {
    if (name != "www-authenticate") continue;
    auto parsed = parse_challenges(value);
    if (parsed) {
      out.insert(out.end(), parsed->begin(), parsed->end());
    } else {
      error = std::move(parsed).error();
    }
  }
  if (out.empty() && error) return fail(*std::move(error));
  return out;
}

const Challenge* find_scheme(const std::vector<Challenge>& all, std::string_view scheme) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Challenge& c) { return c.scheme == scheme; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

std::string AccessScope::key() const {
  std::string out = registry;
  for (const auto& scope : scopes) out += " " + scope;
  return out;
}

Result<Token> parse_token(std::string_view text) {
  constexpr std::string_view kWhat = "the token server's answer";
  const auto json = SM_TRY(parse_json_object(text, kWhat));
  Token out;
  out.value = SM_TRY(json_text(json, "token", kWhat));
  if (out.value.empty()) out.value = SM_TRY(json_text(json, "access_token", kWhat));
  const bool clean =
      std::all_of(out.value.begin(), out.value.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  if (out.value.empty() || out.value.size() > kMaxToken || !clean) {
    return fail(Code::kCorrupt, std::string(kWhat) + " holds no usable token");
  }
  const auto seconds = SM_TRY(json_unsigned(json, "expires_in", kWhat, kDefaultLifetime));
  out.lifetime = std::chrono::seconds(std::min(seconds, kLongestLifetime));
  return out;
}

std::string Authorizer::header(const AccessScope& scope) const {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(scope.key());
  return found == entries_.end() || now() >= found->second.expires ? "" : found->second.value;
}

Result<std::string> Authorizer::bearer(const AccessScope& scope, const Challenge& challenge,
                                       const std::optional<Credential>& credential,
                                       const HttpResponse& refusal, const std::stop_token& stop,
                                       TimePoint& expires) {
  const auto realm = challenge.param("realm");
  if (url_origin(realm).empty()) {
    return fail(Code::kCorrupt,
                "the registry's token server \"" + printable(realm) + "\" is no URL of HTTP");
  }
  HttpRequest request;
  // Never weaker than the connection that the demand came over.
  request.trust = trust_of_(url_host(realm));
  const bool same_host = url_host(realm) == url_host(refusal.url);
  request.trust.plain_http =
      refusal.url.starts_with("http://") && (same_host || request.trust.plain_http);
  const auto service = challenge.param("service");
  std::string query;
  const auto add = [&query](const std::string& key, const std::string& value) {
    query += (query.empty() ? "" : "&") + key + "=" + url_escape(value);
  };
  if (!service.empty()) add("service", service);
  if (credential && !credential->identity_token.empty()) {
    add("grant_type", "refresh_token");
    add("client_id", "supermachine");
    add("refresh_token", credential->identity_token);
    std::string list;
    for (const auto& wanted : scope.scopes) list += (list.empty() ? "" : " ") + wanted;
    add("scope", list);
    request.method = "POST";
    request.url = realm;
    request.body = query;
    request.headers = {"Content-Type: application/x-www-form-urlencoded"};
  } else {
    for (const auto& wanted : scope.scopes) add("scope", wanted);
    request.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") + query;
    if (credential) request.authorization = basic(*credential);
  }
  const auto response = SM_TRY_WITH(http_.perform(request, stop), "token server");
  if (!response.ok()) {
    const bool refused = response.status == 401 || response.status == 403;
    return fail(
        refused ? Code::kPermission : Code::kGone,
        "the token server " + url_host(realm) + " answers " + std::to_string(response.status),
        refused ? "log in again with `docker login` or `podman login`" : "try again");
  }
  auto token = SM_TRY(parse_token(response.body));
  // A little early, so that none expires on its way.
  expires = now() + token.lifetime * 9 / 10;
  return "Bearer " + token.value;
}

Result<bool> Authorizer::answer(const AccessScope& scope, const HttpResponse& refusal,
                                const std::string& offered, const std::stop_token& stop) {
  const auto challenges = SM_TRY(challenges_of(refusal));
  const Challenge* token = find_scheme(challenges, "bearer");
  const Challenge* password = find_scheme(challenges, "basic");
  if (token == nullptr && password == nullptr) {
    const auto what = challenges.empty() ? "without saying how"
                                         : "with \"" + printable(challenges[0].scheme) + "\"";
    return fail(Code::kUnsupported, "the registry demands authentication " + what,
                "only Bearer and Basic are supported");
  }
  const auto credential = SM_TRY(credentials_.find(scope.registry, scope.repository));
  Entry entry{.value = {}, .expires = TimePoint::max()};
  if (token != nullptr) {
    entry.value = SM_TRY(bearer(scope, *token, credential, refusal, stop, entry.expires));
  } else if (credential && credential->identity_token.empty()) {
    entry.value = basic(*credential);
  }
  if (entry.value.empty() || entry.value == offered) return false;
  std::lock_guard lock(mutex_);
  entries_[scope.key()] = std::move(entry);
  return true;
}

}  // namespace sm
