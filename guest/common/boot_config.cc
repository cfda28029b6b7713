#include "common/boot_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace sm::guest {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxEnv = 64u << 10;

tl::unexpected<Error> bad(std::string_view key, std::string_view rule) {
  return fail(Code::kInvalidArgument,
              "boot configuration: \"" + std::string(key) + "\" " + std::string(rule));
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

Result<std::vector<std::string>> take_disks(const Json& value, std::string_view key) {
  std::vector<std::string> disks = SM_TRY(take_words(value, key, kMaxLayers));
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (!is_disk_serial(disks[i])) {
      return bad(key, "must hold disk serials of 1 to 20 letters, digits, '.', '_', '-'");
    }
    const auto end = disks.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(disks.begin(), end, disks[i]) != end) {
      return bad(key, "names the disk " + disks[i] + " twice");
    }
  }
  return disks;
}

// Each disk has one purpose.
Status check_disks(const BootConfig& config) {
  if (!config.late_disks) return {};
  const auto& layers = config.layers;
  for (const std::string& disk : *config.late_disks) {
    if (std::find(layers.begin(), layers.end(), disk) == layers.end()) continue;
    return bad("late_disks", "names the disk " + disk + ", which is a layer's");
  }
  return {};
}

Status take_hostname(const Json& value, BootConfig& out) {
  out.hostname = SM_TRY(take_text(value, "hostname"));
  if (!is_hostname(out.hostname)) {
    return bad("hostname", "must be 1 to 64 letters, digits, '.', '-', '_'");
  }
  return {};
}

Status take_env(const Json& value, BootConfig& out) {
  out.env = SM_TRY(take_words(value, "env", kMaxEnv));
  if (!std::all_of(out.env.begin(), out.env.end(), is_environment_entry)) {
    return bad("env", "must hold \"NAME=VALUE\" without NUL");
  }
  return {};
}

Status take_dns(const Json& value, BootConfig& out) {
  out.dns = SM_TRY(take_words(value, "dns", kMaxNameServers));
  if (!std::all_of(out.dns.begin(), out.dns.end(), is_ip_address)) {
    return bad("dns", "must hold IPv4 or IPv6 addresses");
  }
  return {};
}

Status take_hosts(const Json& value, BootConfig& out) {
  if (!value.is_array() || value.size() > kMaxHostEntries) {
    return bad("hosts", "must be an array of [address, name] pairs");
  }
  for (const Json& item : value) {
    auto pair = SM_TRY(take_words(item, "hosts", 2));
    if (pair.size() == 2) out.hosts.push_back({std::move(pair[0]), std::move(pair[1])});
    if (pair.size() != 2 || !is_host_entry(out.hosts.back())) {
      return bad("hosts", "must be an array of [address, name] pairs");
    }
  }
  return {};
}

Status take_key(const std::string& key, const Json& value, BootConfig& out) {
  if (key == "layers") {
    out.layers = SM_TRY(take_disks(value, key));
    return {};
  }
  if (key == "late_disks") {
    out.late_disks = SM_TRY(take_disks(value, key));
    return {};
  }
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
  SM_TRY_STATUS(check_disks(config));
  return config;
}

}  // namespace sm::guest
