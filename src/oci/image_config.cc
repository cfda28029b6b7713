// Parsing of the image configuration document.
#include "oci/image_config.h"

#include "oci/json.h"

namespace sm {
namespace {

constexpr std::string_view kWhat = "the image configuration";

Status check_count(std::size_t count, const char* key) {
  if (count <= kMaxConfigItems) return {};
  return fail(Code::kLimit, "field \"" + std::string(key) + "\" of the image configuration has " +
                                std::to_string(count) + " items; the limit is " +
                                std::to_string(kMaxConfigItems));
}

Result<std::vector<std::string>> texts(const Json& object, const char* key) {
  auto out = SM_TRY(json_texts(object, key, kWhat));
  SM_TRY_STATUS(check_count(out.size(), key));
  return out;
}

Result<const Json*> object_field(const Json& object, const char* key) {
  const Json* field = json_field(object, key);
  if (field == nullptr) return nullptr;
  if (!field->is_object()) {
    return fail(Code::kCorrupt, "field \"" + std::string(key) +
                                    "\" of the image configuration is not a JSON object");
  }
  SM_TRY_STATUS(check_count(field->size(), key));
  return field;
}

// The keys of an object whose values mean nothing (sets, as Go writes them).
Result<std::vector<std::string>> key_set(const Json& object, const char* key) {
  std::vector<std::string> out;
  const Json* field = SM_TRY(object_field(object, key));
  if (field == nullptr) return out;
  for (const auto& item : field->items()) {
    if (item.key().find('\0') != std::string::npos) {
      return fail(Code::kCorrupt, "field \"" + std::string(key) +
                                      "\" of the image configuration has a key with a NUL");
    }
    out.push_back(item.key());
  }
  return out;
}

Status read_labels(const Json& object, ImageConfig& out) {
  const Json* field = SM_TRY(object_field(object, "Labels"));
  if (field == nullptr) return {};
  for (const auto& item : field->items()) {
    const auto* value = item.value().get_ptr<const std::string*>();
    if (value == nullptr) {
      return fail(Code::kCorrupt, "a label of the image configuration is not a text");
    }
    out.labels.emplace(item.key(), *value);
  }
  return {};
}

Status read_healthcheck(const Json& object, ImageConfig& out) {
  const Json* field = SM_TRY(object_field(object, "Healthcheck"));
  if (field == nullptr) return {};
  Healthcheck check;
  check.test = SM_TRY(texts(*field, "Test"));
  check.interval_ns = SM_TRY(json_unsigned(*field, "Interval", kWhat, 0));
  check.timeout_ns = SM_TRY(json_unsigned(*field, "Timeout", kWhat, 0));
  check.start_period_ns = SM_TRY(json_unsigned(*field, "StartPeriod", kWhat, 0));
  check.retries = SM_TRY(json_unsigned(*field, "Retries", kWhat, 0));
  out.healthcheck = std::move(check);
  return {};
}

Status read_execution(const Json& json, ImageConfig& out) {
  const Json* config = SM_TRY(object_field(json, "config"));
  if (config == nullptr) return {};
  out.user = SM_TRY(json_text(*config, "User", kWhat));
  out.env = SM_TRY(texts(*config, "Env"));
  out.entrypoint = SM_TRY(texts(*config, "Entrypoint"));
  out.cmd = SM_TRY(texts(*config, "Cmd"));
  out.working_dir = SM_TRY(json_text(*config, "WorkingDir", kWhat));
  out.stop_signal = SM_TRY(json_text(*config, "StopSignal", kWhat));
  out.hostname = SM_TRY(json_text(*config, "Hostname", kWhat));
  out.exposed_ports = SM_TRY(key_set(*config, "ExposedPorts"));
  out.volumes = SM_TRY(key_set(*config, "Volumes"));
  SM_TRY_STATUS(read_labels(*config, out));
  return read_healthcheck(*config, out);
}

Status read_diff_ids(const Json& json, ImageConfig& out) {
  const Json* rootfs = SM_TRY(object_field(json, "rootfs"));
  if (rootfs == nullptr) return fail(Code::kCorrupt, "the image configuration has no rootfs");
  const auto type = SM_TRY(json_text(*rootfs, "type", kWhat));
  if (type != "layers") {
    return fail(Code::kUnsupported, "the rootfs of the image configuration is not made of layers");
  }
  for (const auto& text : SM_TRY(texts(*rootfs, "diff_ids"))) {
    out.diff_ids.push_back(SM_TRY_WITH(Digest::parse(text), "the image configuration"));
  }
  return {};
}

}  // namespace

Result<ImageConfig> parse_image_config(std::string_view text) {
  const auto json = SM_TRY(parse_json_object(text, kWhat));
  ImageConfig out;
  out.created = SM_TRY(json_text(json, "created", kWhat));
  out.platform.os = SM_TRY(json_text(json, "os", kWhat));
  out.platform.architecture = SM_TRY(json_text(json, "architecture", kWhat));
  out.platform.variant = SM_TRY(json_text(json, "variant", kWhat));
  SM_TRY_STATUS(read_execution(json, out));
  SM_TRY_STATUS(read_diff_ids(json, out));
  return out;
}

}  // namespace sm
