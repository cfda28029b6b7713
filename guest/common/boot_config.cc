#include "common/boot_config.h"

#include <arpa/inet.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace sm::guest {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxEnv = 64u << 10;
constexpr std::size_t kMaxServers = 16;
constexpr std::size_t kMaxHosts = 1024;
constexpr std::size_t kMaxSerial = 20;  // virtio-blk: VIRTIO_BLK_ID_BYTES
constexpr std::size_t kMaxHostname = 64;

tl::unexpected<Error> bad(std::string_view key, std::string_view rule) {
  return fail(Code::kInvalidArgument,
              "boot configuration: \"" + std::string(key) + "\" " + std::string(rule));
}

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_name(std::string_view text, std::string_view also, std::size_t limit) {
  if (text.empty() || text.size() > limit) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_alphanumeric(c) || also.find(c) != std::string_view::npos;
  });
}

bool is_address(const std::string& text) {
  in6_addr scratch{};
  return text.find('\0') == std::string::npos &&
         (::inet_pton(AF_INET, text.c_str(), &scratch) == 1 ||
          ::inet_pton(AF_INET6, text.c_str(), &scratch) == 1);
}

Result<std::string> take_text(const Json& value, std::string_view key) {
  if (!value.is_string()) return bad(key, "must be a string");
  return value.get_ref<const std::string&>();
}

Result<std::uint64_t> take_size(const Json& value, std::string_view key) {
  if (!value.is_number_unsigned()) return bad(key, "must be a number of bytes");
  return value.get<std::uint64_t>();
}

Result<std::vector<std::string>> take_words(const Json& value, std::string_view key,
                                            std::size_t limit) {
  if (!value.is_array() || value.size() > limit) {
    return bad(key, "must be an array of at most " + std::to_string(limit) + " strings");
  }
  std::vector<std::string> words;
  for (const Json& item : value) words.push_back(SM_TRY(take_text(item, key)));
  return words;
}

Status take_layers(const Json& value, BootConfig& out) {
  out.layers = SM_TRY(take_words(value, "layers", kMaxLayers));
  for (std::size_t i = 0; i < out.layers.size(); ++i) {
    if (!is_name(out.layers[i], "._-", kMaxSerial)) {
      return bad("layers", "must hold disk serials of 1 to 20 letters, digits, '.', '_', '-'");
    }
    const auto end = out.layers.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(out.layers.begin(), end, out.layers[i]) != end) {
      return bad("layers", "names the disk " + out.layers[i] + " twice");
    }
  }
  return {};
}

Status take_hostname(const Json& value, BootConfig& out) {
  out.hostname = SM_TRY(take_text(value, "hostname"));
  if (!is_name(out.hostname, ".-_", kMaxHostname)) {
    return bad("hostname", "must be 1 to 64 letters, digits, '.', '-', '_'");
  }
  return {};
}

Status take_env(const Json& value, BootConfig& out) {
  out.env = SM_TRY(take_words(value, "env", kMaxEnv));
  for (const std::string& entry : out.env) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos || equals == 0 || entry.find('\0') != std::string::npos) {
      return bad("env", "must hold \"NAME=VALUE\" without NUL");
    }
  }
  return {};
}

Status take_dns(const Json& value, BootConfig& out) {
  out.dns = SM_TRY(take_words(value, "dns", kMaxServers));
  if (!std::all_of(out.dns.begin(), out.dns.end(), is_address)) {
    return bad("dns", "must hold IPv4 or IPv6 addresses");
  }
  return {};
}

Status take_hosts(const Json& value, BootConfig& out) {
  if (!value.is_array() || value.size() > kMaxHosts) {
    return bad("hosts", "must be an array of [address, name] pairs");
  }
  for (const Json& item : value) {
    auto pair = SM_TRY(take_words(item, "hosts", 2));
    if (pair.size() != 2 || !is_address(pair[0]) || !is_name(pair[1], ".-_", 253)) {
      return bad("hosts", "must be an array of [address, name] pairs");
    }
    out.hosts.push_back({std::move(pair[0]), std::move(pair[1])});
  }
  return {};
}

Status take_key(const std::string& key, const Json& value, BootConfig& out) {
  if (key == "layers") return take_layers(value, out);
  if (key == "hostname") return take_hostname(value, out);
  if (key == "env") return take_env(value, out);
  if (key == "dns") return take_dns(value, out);
  if (key == "hosts") return take_hosts(value, out);
  if (key == "shm_bytes") {
    out.shm_bytes = SM_TRY(take_size(value, key));
    return {};
  }
  if (key == "upper_bytes") {
    out.upper_bytes = SM_TRY(take_size(value, key));
    return {};
  }
  return bad(key, "is not a known key");
}

}  // namespace

Result<BootConfig> parse_boot_config(std::string_view text) {
  const Json document =
      SM_TRY(parse_json(text, "boot configuration", {.bytes = kMaxBootConfig, .depth = 4}));
  if (!document.is_object()) {
    return fail(Code::kInvalidArgument, "boot configuration: not a JSON object");
  }
  const auto version = document.find("version");
  if (version == document.end() || !version->is_number_unsigned()) {
    return bad("version", "is missing or not a number");
  }
  if (version->get<std::uint64_t>() != 1) {
    return fail(Code::kUnsupported, "boot configuration: version " +
                                        std::to_string(version->get<std::uint64_t>()) +
                                        ", this init knows version 1");
  }
  BootConfig config;
  for (const auto& [key, value] : document.items()) {
    if (key != "version") SM_TRY_STATUS(take_key(key, value, config));
  }
  return config;
}

}  // namespace sm::guest
