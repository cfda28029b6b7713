#include "vmm/snapshot/manifest.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/json.h"
#include "vmm/snapshot/state_codec.h"

namespace sm {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kPageBytes = 4096;
constexpr const char* kWhat = "snapshot manifest";
constexpr const char* kRemedy = "bake again";
constexpr const char* kOtherVersion = "bake again, or use the version that wrote the snapshot";

Error corrupt(const std::string& cause) {
  return {Code::kCorrupt, std::string(kWhat) + ": " + cause, kRemedy};
}
Error beyond(const std::string& what, std::uint64_t value, std::uint64_t limit) {
  return {Code::kLimit, std::string(kWhat) + ": " + what + " is " + std::to_string(value) +
                            ", the limit is " + std::to_string(limit)};
}

// Takes the members of one JSON object by name; the first error stays, and finish() refuses
// members that nobody took. `object` must be an object and outlive this.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Nothing when it is missing, or after an error.
  const Json* find(const std::string& key) {
    const auto at = object_.find(key);
    if (error_ || at == object_.end()) return nullptr;
    taken_.push_back(key);
    return &*at;
  }
  const Json* need(const std::string& key) {
    const Json* member = find(key);
    if (member == nullptr) refuse(key, "is missing");
    return member;
  }
  void text(const std::string& key, std::string& out) {
    if (const Json* member = need(key)) take_text(*member, key, kMaxManifestText, out);
  }
  void take_text(const Json& json, const std::string& key, std::size_t limit, std::string& out) {
    const auto* value = json.get_ptr<const std::string*>();
    if (value == nullptr) return refuse(key, "is not a text");
    if (value->find('\0') != std::string::npos) return refuse(key, "has a zero byte");
    if (value->size() > limit) return set(beyond("length of " + name(key), value->size(), limit));
    out = *value;
  }
  template <std::unsigned_integral T>
  void number(const std::string& key, T& out, T limit = std::numeric_limits<T>::max()) {
    const Json* member = need(key);
    if (member == nullptr) return;
    if (!member->is_number_unsigned()) return refuse(key, "is not a whole number from 0 on");
    const auto value = member->get<std::uint64_t>();
    if (value > limit) return set(beyond(name(key), value, limit));
    out = static_cast<T>(value);
  }
  void boolean(const std::string& key, bool& out) { take_boolean(need(key), key, out); }
  // `out` stays as it is when it is missing.
  void optional_boolean(const std::string& key, bool& out) { take_boolean(find(key), key, out); }
  void take_boolean(const Json* member, const std::string& key, bool& out) {
    if (member == nullptr) return;
    if (!member->is_boolean()) return refuse(key, "is neither true nor false");
    out = member->get<bool>();
  }
  // A member that has to be an object, or a list.
  const Json* nested(const Json* member, const std::string& key, Json::value_t type) {
    if (member == nullptr || member->type() == type) return member;
    refuse(key, type == Json::value_t::array ? "is not a list" : "is not an object");
    return nullptr;
  }

  void refuse(const std::string& key, const std::string& why) {
    set(corrupt(name(key) + " " + why));
  }
  void set(Error error) {
    if (!error_) error_ = std::move(error);
  }
  Status status() const { return error_ ? fail(*error_) : Status(); }
  Status finish() const {
    SM_TRY_STATUS(status());
    for (const auto& [key, value] : object_.items()) {
      if (std::find(taken_.begin(), taken_.end(), key) != taken_.end()) continue;
      return fail(
          Code::kUnsupported,
          std::string(kWhat) + ": " + where_ + " has the unknown key \"" + key.substr(0, 64) + "\"",
          kOtherVersion);
    }
    return {};
  }

 private:
  std::string name(const std::string& key) const { return "\"" + key + "\" of " + where_; }

  const Json& object_;
  std::string where_;
  std::vector<std::string> taken_;
  std::optional<Error> error_;
};

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void memory_digest(Members& members, std::string& out) {
  constexpr std::size_t kDigits = 32;
  members.text("memory_digest", out);
  if (!is_hex(out, kDigits)) members.refuse("memory_digest", "is not 32 hexadecimal digits");
}

Result<SnapshotDevice> decode_device(const Json& json, std::size_t slot) {
  const std::string where = "device " + std::to_string(slot);
  if (!json.is_object()) return fail(corrupt(where + " is not an object"));
  Members members(json, where);
  SnapshotDevice device;
  members.text("type", device.type);
  members.text("serial", device.serial);
  members.number("bytes", device.bytes);
  members.boolean("read_only", device.read_only);
  SM_TRY_STATUS(members.finish());
  return device;
}

Status decode_devices(Members& members, std::vector<SnapshotDevice>& out) {
  const Json* list = members.nested(members.need("devices"), "devices", Json::value_t::array);
  if (list == nullptr) return {};
  if (list->size() > kMaxStateDevices) {
    return fail(beyond("the number of devices", list->size(), kMaxStateDevices));
  }
  for (const Json& item : *list) out.push_back(SM_TRY(decode_device(item, out.size())));
  return {};
}

Status decode_base(Members& members, std::optional<SnapshotBase>& out) {
  const Json* json = members.nested(members.find("base"), "base", Json::value_t::object);
  if (json == nullptr) return {};
  Members inner(*json, "base");
  SnapshotBase base;
  inner.text("path", base.path);
  memory_digest(inner, base.memory_digest);
  if (!base.path.starts_with('/')) inner.refuse("path", "is not an absolute path");
  SM_TRY_STATUS(inner.finish());
  out = std::move(base);
  return {};
}

Status decode_disk(Members& members, SnapshotManifest& m) {
  const Json* json = members.nested(members.find("disk"), "disk", Json::value_t::object);
  if (json == nullptr) return {};
  Members inner(*json, "disk");
  SnapshotDisk disk;
  inner.text("serial", disk.serial);
  inner.number("bytes", disk.bytes, kMaxSnapshotDisk);
  if (disk.bytes == 0 || disk.bytes % kPageBytes != 0) {
    inner.refuse("bytes", "is not a number of whole pages");
  }
  const auto is_it = [&](const SnapshotDevice& d) {
    return d.type == "blk" && d.serial == disk.serial && d.bytes == disk.bytes && !d.read_only;
  };
  if (std::none_of(m.devices.begin(), m.devices.end(), is_it)) {
    inner.refuse("serial", "is not that of a device that is such a disk");
  }
  SM_TRY_STATUS(inner.finish());
  m.disk = std::move(disk);
  return {};
}

Status decode_annotations(Members& members, std::map<std::string, std::string>& out) {
  const Json* json =
      members.nested(members.find("annotations"), "annotations", Json::value_t::object);
  if (json == nullptr) return {};
  if (json->size() > kMaxAnnotations) {
    return fail(beyond("the number of annotations", json->size(), kMaxAnnotations));
  }
  Members inner(*json, "annotations");
  for (const auto& [key, value] : json->items()) {
    if (key.size() > kMaxManifestText) {
      return fail(beyond("length of an annotation's key", key.size(), kMaxManifestText));
    }
    inner.need(key);
    inner.take_text(value, key, kMaxAnnotationBytes, out[key]);
  }
  return inner.finish();
}

// The format comes first: everything else means what it says.
Status decode_format(const Json& json, Members& members, std::uint32_t& format) {
  if (!json.is_object()) return fail(corrupt("it is not an object"));
  members.number("format", format);
  SM_TRY_STATUS(members.status());
  if (format == kSnapshotFormat) return {};
  return fail(Code::kUnsupported,
              std::string(kWhat) + ": it has format " + std::to_string(format) +
                  ", this program reads format " + std::to_string(kSnapshotFormat),
              kOtherVersion);
}

}  // namespace

std::string encode_manifest(const SnapshotManifest& m) {
  Json devices = Json::array();
  for (const SnapshotDevice& d : m.devices) {
    devices.push_back(
        {{"type", d.type}, {"serial", d.serial}, {"bytes", d.bytes}, {"read_only", d.read_only}});
  }
  Json json = {{"format", m.format},
               {"program", m.program},
               {"engine", m.engine},
               {"cpu_model", m.cpu_model},
               {"cpu_signature", m.cpu_signature},
               {"kernel_digest", m.kernel_digest},
               {"initramfs_digest", m.initramfs_digest},
               {"memory_bytes", m.memory_bytes},
               {"vcpus", m.vcpus},
               {"devices", std::move(devices)},
               {"created_unix_ns", static_cast<std::uint64_t>(m.created_unix_ns)},
               {"state_bytes", m.state_bytes},
               {"state_crc", m.state_crc},
               {"memory_digest", m.memory_digest},
               {"annotations", m.annotations}};
  if (m.awaits_image) json["awaits_image"] = true;
  if (m.base) json["base"] = {{"path", m.base->path}, {"memory_digest", m.base->memory_digest}};
  if (m.disk) json["disk"] = {{"serial", m.disk->serial}, {"bytes", m.disk->bytes}};
  return dump_json(json, 2) + "\n";
}

Result<SnapshotManifest> decode_manifest(std::string_view text) {
  const Json json =
      SM_TRY(parse_json(text, kWhat, JsonLimits{.bytes = kMaxSnapshotManifestBytes, .depth = 8}));
  SnapshotManifest m;
  Members members(json, "the manifest");
  m.format = 0;
  SM_TRY_STATUS(decode_format(json, members, m.format));
  members.text("program", m.program);
  members.text("engine", m.engine);
  members.text("cpu_model", m.cpu_model);
  members.text("cpu_signature", m.cpu_signature);
  members.text("kernel_digest", m.kernel_digest);
  members.text("initramfs_digest", m.initramfs_digest);
  members.number("memory_bytes", m.memory_bytes, kMaxSnapshotMemory);
  if (m.memory_bytes == 0 || m.memory_bytes % kPageBytes != 0) {
    members.refuse("memory_bytes", "is not a number of whole pages");
  }
  members.number("vcpus", m.vcpus, kMaxStateVcpus);
  std::uint64_t created = 0;
  members.number("created_unix_ns", created,
                 std::uint64_t{std::numeric_limits<std::int64_t>::max()});
  m.created_unix_ns = static_cast<std::int64_t>(created);
  members.number("state_bytes", m.state_bytes, std::uint64_t{kMaxStateBytes});
  members.number("state_crc", m.state_crc);
  memory_digest(members, m.memory_digest);
  SM_TRY_STATUS(decode_devices(members, m.devices));
  members.optional_boolean("awaits_image", m.awaits_image);
  SM_TRY_STATUS(decode_base(members, m.base));
  SM_TRY_STATUS(decode_disk(members, m));
  SM_TRY_STATUS(decode_annotations(members, m.annotations));
  SM_TRY_STATUS(members.finish());
  return m;
}

}  // namespace sm
