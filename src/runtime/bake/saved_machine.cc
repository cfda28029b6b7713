#include "runtime/bake/saved_machine.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "oci/locked_file.h"
#include "oci/text.h"
#include "vmm/snapshot/snapshot_dir.h"

namespace sm {

namespace {

using Json = nlohmann::json;

constexpr const char* kConfigKey = "image-config";
constexpr std::size_t kMaxDisks = 32;  // disks of a worker
constexpr std::size_t kMaxText = 4096;

tl::unexpected<Error> malformed(const std::string& key) {
  return fail(Code::kCorrupt, "the snapshot's image configuration is damaged at " + key,
              "make the snapshot again");
}

bool is_text(const std::string& text) {
  return text.size() <= kMaxAnnotationBytes && text.find('\0') == std::string::npos;
}

Status take(const Json& object, const char* key, std::string& out) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string()) return malformed(key);
  out = it->get<std::string>();
  if (out.size() > kMaxText || !is_text(out)) return malformed(key);
  return {};
}

Status take(const Json& object, const char* key, std::vector<std::string>& out) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_array() || it->size() > kMaxConfigItems) return malformed(key);
  for (const Json& item : *it) {
    if (!item.is_string()) return malformed(key);
    out.push_back(item.get<std::string>());
    if (!is_text(out.back())) return malformed(key);
  }
  return {};
}

bool same_texts(const SavedImage& a, const SavedImage& b) {
  return a.reference == b.reference && a.digest == b.digest && a.layers == b.layers &&
         a.config.user == b.config.user && a.config.env == b.config.env &&
         a.config.entrypoint == b.config.entrypoint && a.config.cmd == b.config.cmd &&
         a.config.working_dir == b.config.working_dir &&
         a.config.stop_signal == b.config.stop_signal;
}

// What is opened below the layer cache is a file there and nothing else.
bool is_file_name(const std::string& name) {
  return !name.empty() && name.size() < 256 && name[0] != '.' &&
         name.find('/') == std::string::npos;
}

Result<UniqueFd> open_layer(const std::string& path, const SavedImage& image) {
  auto file = open_file(path, O_RDONLY | O_NOFOLLOW);
  if (!file) {
    return fail(file.error().code(),
                "a layer of the snapshot's image is not in the cache: " + file.error().cause(),
                "fetch the image again with `supermachine pull " + printable(image.reference) +
                    "`, or if that is of no help, bake it again");
  }
  if (!try_lock(file->get(), LockKind::kShared)) {
    return fail(Code::kIo, path + " is locked by another program", "try again");
  }
  return std::move(*file);
}

// One that older programs do not write: false.
Status take_flag(const Json& json, const char* key, bool& out) {
  const auto found = json.find(key);
  if (found == json.end()) return {};
  if (!found->is_boolean()) return malformed(key);
  out = found->get<bool>();
  return {};
}

}  // namespace

Result<std::map<std::string, std::string>> saved_annotations(const SavedImage& image) {
  Json json = {{"reference", image.reference},
               {"digest", image.digest},
               {"user", image.config.user},
               {"env", image.config.env},
               {"entrypoint", image.config.entrypoint},
               {"cmd", image.config.cmd},
               {"workdir", image.config.working_dir},
               {"stop-signal", image.config.stop_signal},
               {"layers", image.layers},
               {"workload", image.workload}};
  if (image.input) json["input"] = true;
  if (image.terminal) json["terminal"] = true;
  std::string text = dump_json(json);
  if (text.size() > kMaxAnnotationBytes) {
    return fail(Code::kLimit, "the environment and command of the image have more than 64 KiB",
                "pass large values by a file in the guest");
  }
  // What could not be restored, or would be another text then, is not to be saved.
  const auto again = parse_saved_image(text);
  if (!again) {
    return fail(Code::kInvalidArgument,
                "the image's settings cannot be saved: " + again.error().cause(),
                "use shorter paths and names, without zero bytes");
  }
  if (!same_texts(*again, image)) {
    return fail(Code::kInvalidArgument,
                "an environment variable or command of the image is not UTF-8",
                "pass such values by a file in the guest");
  }
  return std::map<std::string, std::string>{{"image", image.reference.substr(0, kMaxText)},
                                            {kConfigKey, std::move(text)}};
}

Result<SavedImage> parse_saved_image(std::string_view text) {
  if (text.size() > kMaxAnnotationBytes) return malformed("its size");
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return malformed("its beginning");
  SavedImage out;
  SM_TRY_STATUS(take(json, "reference", out.reference));
  SM_TRY_STATUS(take(json, "digest", out.digest));
  SM_TRY_STATUS(take(json, "user", out.config.user));
  SM_TRY_STATUS(take(json, "env", out.config.env));
  SM_TRY_STATUS(take(json, "entrypoint", out.config.entrypoint));
  SM_TRY_STATUS(take(json, "cmd", out.config.cmd));
  SM_TRY_STATUS(take(json, "workdir", out.config.working_dir));
  SM_TRY_STATUS(take(json, "stop-signal", out.config.stop_signal));
  SM_TRY_STATUS(take(json, "layers", out.layers));
  const auto workload = json.find("workload");
  if (workload == json.end() || !workload->is_boolean()) return malformed("workload");
  out.workload = workload->get<bool>();
  SM_TRY_STATUS(take_flag(json, "input", out.input));
  SM_TRY_STATUS(take_flag(json, "terminal", out.terminal));
  const auto is_variable = [](const std::string& v) {
    return v.find('=') != std::string::npos && v[0] != '=';
  };
  if (!std::all_of(out.config.env.begin(), out.config.env.end(), is_variable)) {
    return malformed("env");
  }
  const std::string& folder = out.config.working_dir;
  if (!folder.empty() && folder[0] != '/') return malformed("workdir");
  if (out.layers.empty() || out.layers.size() > kMaxDisks ||
      !std::all_of(out.layers.begin(), out.layers.end(), is_file_name)) {
    return malformed("layers");
  }
  return out;
}

Result<SavedImage> saved_image_of(const SnapshotManifest& manifest) {
  const auto config = manifest.annotations.find(kConfigKey);
  if (config != manifest.annotations.end()) return parse_saved_image(config->second);
  return fail(Code::kInvalidArgument, "the snapshot does not say of which image it is",
              "use a snapshot that `supermachine bake` or the library has made");
}

Result<SavedMachine> open_saved_machine(const std::string& path, const std::string& layers_dir) {
  SavedMachine out;
  out.facts.path = SM_TRY(absolute_path(path));
  Snapshot snapshot = SM_TRY(Snapshot::open(out.facts.path));
  const SnapshotManifest& manifest = snapshot.manifest();
  out.image = SM_TRY_WITH(saved_image_of(manifest), printable(path));
  out.facts.memory_digest = manifest.memory_digest;
  out.facts.kernel_digest = manifest.kernel_digest;
  out.facts.initramfs_digest = manifest.initramfs_digest;
  out.facts.engine = manifest.engine;
  out.facts.memory_bytes = manifest.memory_bytes;
  out.facts.vcpus = manifest.vcpus;
  out.facts.generation = snapshot.state().generation;
  out.facts.disk = manifest.disk;
  if (manifest.disk) {
    out.facts.disk_file = std::make_shared<const UniqueFd>(snapshot.take_disk());
  }
  for (const std::string& name : out.image.layers) {
    out.layers.push_back(layers_dir + "/" + name);
    out.in_use.push_back(SM_TRY(open_layer(out.layers.back(), out.image)));
  }
  return out;
}

Result<SnapshotBase> base_of_diff(const std::string& path) {
  SnapshotBase out;
  out.path = SM_TRY(absolute_path(path));
  out.memory_digest = SM_TRY(read_snapshot_manifest(out.path)).memory_digest;
  return out;
}

Result<std::string> absolute_path(const std::string& path) {
  std::error_code error;
  const auto out = std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error);
  if (path.empty() || error || path.find('\0') != std::string::npos) {
    return fail(Code::kInvalidArgument, "'" + printable(path) + "' is no path of a folder",
                "name a folder for the snapshot");
  }
  std::string text = out.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

}  // namespace sm
