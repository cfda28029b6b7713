#include "runtime/worker/guest_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/json.h"
#include "proto/names.h"

namespace sm {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxText = 2u << 20;
constexpr std::array<std::string_view, 5> kRequestKeys = {"hostname", "shm_bytes", "upper_bytes",
                                                          "dns", "hosts"};

using Variables = std::vector<std::pair<std::string, std::string>>;

void set_variable(Variables& env, const std::string& key, const std::string& value) {
  const auto it = std::find_if(env.begin(), env.end(), [&](auto& e) { return e.first == key; });
  if (it == env.end()) {
    env.emplace_back(key, value);
  } else {
    it->second = value;
  }
}

Status add_file_variables(const std::string& text, Variables& env) {
  const json document =
      SM_TRY(parse_json(text, "--env-file", JsonLimits{.bytes = kMaxText, .depth = 3}));
  if (!document.is_object()) return fail(Code::kInvalidArgument, "--env-file: not a JSON object");
  for (const auto& [section, variables] : document.items()) {
    if ((section != "env" && section != "secrets") || !variables.is_object()) {
      return fail(Code::kInvalidArgument, "--env-file: unexpected entry \"" + section + "\"",
                  "write {\"env\":{...},\"secrets\":{...}}");
    }
    for (const auto& [key, value] : variables.items()) {
      const bool bad_key =
          key.empty() || key.find('=') != std::string::npos || key.find('\0') != std::string::npos;
      if (bad_key || !value.is_string() ||
          value.get_ref<const std::string&>().find('\0') != std::string::npos) {
        return fail(Code::kInvalidArgument, "--env-file: \"" + key + "\" is not a variable",
                    "names hold no '=', values are strings without NUL");
      }
      set_variable(env, key, value.get<std::string>());
    }
  }
  return {};
}

Result<json> parse_request(const std::string& text) {
  if (text.empty()) return json::object();
  json request =
      SM_TRY(parse_json(text, "--guest-config", JsonLimits{.bytes = kMaxText, .depth = 4}));
  if (!request.is_object())
    return fail(Code::kInvalidArgument, "--guest-config: not a JSON object");
  for (const auto& [key, value] : request.items()) {
    if (std::find(kRequestKeys.begin(), kRequestKeys.end(), key) == kRequestKeys.end()) {
      return fail(Code::kInvalidArgument, "--guest-config: unknown key \"" + key + "\"");
    }
  }
  return request;
}

}  // namespace

std::string layer_serial(std::size_t index) { return "ro" + std::to_string(index); }

Result<std::string> make_guest_config(const WorkerOptions& options, const std::string& requested,
                                      const std::string& env_file) {
  json config = SM_TRY(parse_request(requested));
  Variables env;
  if (!env_file.empty()) SM_TRY_STATUS(add_file_variables(env_file, env));
  for (const auto& [key, value] : options.env) set_variable(env, key, value);
  config["version"] = 1;
  config["layers"] = json::array();
  const std::size_t layers =
      options.layer_slots != 0 ? options.layer_slots : options.virtio_blk.size();
  for (std::size_t i = 0; i < layers; ++i) config["layers"].push_back(layer_serial(i));
  if (options.layer_slots != 0) {
    config["late_disks"] = json::array();
    if (!options.root_disk.empty()) config["late_disks"].push_back(kRootDiskSerial);
  }
  config["env"] = json::array();
  for (const auto& [key, value] : env) config["env"].push_back(key + "=" + value);
  // A throw would mean invalid UTF-8 from the command line; that is the user's to know, so check.
  std::string text = dump_json(config);
  const auto parsed = parse_json(text, "the boot configuration");
  if (!parsed || *parsed != config) {
    return fail(Code::kInvalidArgument, "--env: a variable is not valid UTF-8",
                "pass such values with the command's own environment instead");
  }
  return text;
}

}  // namespace sm
