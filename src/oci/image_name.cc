// Parsing of image names.
#include "oci/image_name.h"

#include <algorithm>

#include "oci/text.h"

namespace sm {
namespace {

// Limits of the distribution specification and of DNS.
constexpr std::size_t kMaxRepository = 255;
constexpr std::size_t kMaxTag = 128;
constexpr std::size_t kMaxHost = 253;
constexpr std::size_t kMaxName = 1024;
constexpr std::string_view kLibrary = "library/";

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Lower-case letters and digits, with ".", "_", "__" or any number of "-" between them.
bool is_component(std::string_view text) {
  const auto is_word = [](char c) { return is_lower(c) || is_digit(c); };
  if (text.empty() || !is_word(text.front()) || !is_word(text.back())) return false;
  for (std::size_t i = 0; i < text.size();) {
    if (is_word(text[i])) {
      ++i;
      continue;
    }
    const auto end =
        std::find_if(text.begin() + static_cast<std::ptrdiff_t>(i), text.end(), is_word);
    const auto separator = text.substr(i, static_cast<std::size_t>(end - text.begin()) - i);
    const bool dashes = separator.find_first_not_of('-') == std::string_view::npos;
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
    i += separator.size();
  }
  return true;
}

bool is_repository(std::string_view text) {
  if (text.size() > kMaxRepository) return false;
  while (true) {
    const auto slash = text.find('/');
    if (!is_component(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

bool is_tag(std::string_view text) {
  const auto is_word = [](char c) { return is_lower(c) || is_upper(c) || is_digit(c) || c == '_'; };
  return !text.empty() && text.size() <= kMaxTag && is_word(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 && std::all_of(text.begin(), text.end(), is_digit);
}

bool is_domain(std::string_view text) {
  if (text.empty() || text.size() > kMaxHost) return false;
  const auto is_word = [](char c) { return is_lower(c) || is_upper(c) || is_digit(c); };
  while (true) {
    const auto label = text.substr(0, text.find('.'));
    const bool fits =
        !label.empty() && is_word(label.front()) && is_word(label.back()) &&
        std::all_of(label.begin(), label.end(), [&](char c) { return is_word(c) || c == '-'; });
    if (!fits) return false;
    if (label.size() == text.size()) return true;
    text.remove_prefix(label.size() + 1);
  }
}

bool is_ipv6(std::string_view text) {
  return text.size() >= 2 && text.size() <= 45 &&
         text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

// Whether the first part of a name is a host: what Docker goes by, less its rule that capitals make
// one. Hosts are kept in lower case, and a full name must not mean something else when it is read
// again.
bool looks_like_host(std::string_view text) {
  return text == "localhost" || text.find_first_of(".:[") != std::string_view::npos;
}

tl::unexpected<Error> bad_name(std::string_view text, const std::string& reason) {
  return fail(Code::kInvalidArgument,
              "\"" + printable(text) + "\" is not an image's name: " + reason,
              "write [HOST[:PORT]/]NAME[:TAG][@DIGEST], or oci:DIR[:TAG], oci-archive:FILE[:TAG], "
              "docker-archive:FILE[:NAME]");
}

}  // namespace

bool is_registry_host(std::string_view text) {
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos || !is_ipv6(text.substr(1, end - 1))) return false;
    const auto rest = text.substr(end + 1);
    return rest.empty() || (rest.front() == ':' && is_port(rest.substr(1)));
  }
  const auto colon = text.find(':');
  if (colon != std::string_view::npos && !is_port(text.substr(colon + 1))) return false;
  return is_domain(text.substr(0, colon));
}

std::string ImageName::repository_text() const { return registry + "/" + repository; }

std::string ImageName::text() const {
  return repository_text() + (digest ? "@" + digest->text() : ":" + tag);
}

std::string ImageName::reference() const { return digest ? digest->text() : tag; }

Result<ImageName> parse_image_name(std::string_view text) {
  const auto whole = text;
  if (text.empty()) return bad_name(whole, "it is empty");
  if (text.size() > kMaxName) return bad_name(text.substr(0, 40), "it is too long");
  ImageName name;
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    auto digest = Digest::parse(text.substr(at + 1));
    if (!digest) return bad_name(whole, digest.error().cause());
    name.digest = *std::move(digest);
    text = text.substr(0, at);
  }
  const auto first_slash = text.find('/');
  const auto first = text.substr(0, first_slash);
  if (first_slash != std::string_view::npos && looks_like_host(first)) {
    if (!is_registry_host(first)) {
      return bad_name(whole, "\"" + printable(first) + "\" is not a host");
    }
    name.registry = std::string(first);
    std::transform(name.registry.begin(), name.registry.end(), name.registry.begin(),
                   [](char c) { return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c; });
    text.remove_prefix(first_slash + 1);
  }
  if (name.registry.empty() || name.registry == "index.docker.io") name.registry = kDefaultRegistry;
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    name.tag = std::string(text.substr(colon + 1));
    if (!is_tag(name.tag)) return bad_name(whole, "\"" + printable(name.tag) + "\" is not a tag");
    text = text.substr(0, colon);
  }
  if (std::any_of(text.begin(), text.end(), is_upper)) {
    return bad_name(whole, "names of images are written in lower case");
  }
  if (!is_repository(text)) return bad_name(whole, "\"" + printable(text) + "\" is not a path");
  const bool is_short =
      name.registry == kDefaultRegistry && text.find('/') == std::string_view::npos;
  name.repository = (is_short ? std::string(kLibrary) : std::string()) + std::string(text);
  // The limit is the whole name's.
  if (!is_repository(name.repository)) return bad_name(whole.substr(0, 40), "it is too long");
  if (name.digest) name.tag.clear();
  if (!name.digest && name.tag.empty()) name.tag = "latest";
  return name;
}

std::string familiar_repository(std::string_view repository_text) {
  const std::string prefix = std::string(kDefaultRegistry) + "/";
  if (repository_text.starts_with(prefix)) {
    repository_text.remove_prefix(prefix.size());
    if (repository_text.starts_with(kLibrary)) repository_text.remove_prefix(kLibrary.size());
  }
  return std::string(repository_text);
}

}  // namespace sm
