// The store's index and its names.
#include "oci/store/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/json.h"
#include "oci/locked_file.h"
#include "oci/store/blob_writer.h"
#include "oci/text.h"

namespace sm {
namespace {

constexpr const char* kNameAnnotation = "org.opencontainers.image.ref.name";
constexpr std::size_t kMinIdDigits = 4;

bool is_hex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

tl::unexpected<Error> not_here(std::string_view text) {
  return fail(Code::kNotFound, "there is no image \"" + printable(text) + "\" in the store",
              "see `supermachine images`, or fetch it with `supermachine pull`");
}

// The text as the beginning of an id; nothing when it cannot be one.
std::optional<std::string> id_prefix(std::string_view text) {
  constexpr std::string_view kAlgorithm = "sha256:";
  if (text.starts_with(kAlgorithm)) text.remove_prefix(kAlgorithm.size());
  if (text.size() < kMinIdDigits || text.size() > 64 || !is_hex(text)) return std::nullopt;
  return std::string(text);
}

Json to_json(const StoreEntry& entry) {
  Json out = {{"mediaType", entry.target.media_type},
              {"digest", entry.target.digest.text()},
              {"size", entry.target.size}};
  if (!entry.name.empty()) out["annotations"] = {{kNameAnnotation, entry.name}};
  return out;
}

// The platforms of an index, its own first.
std::vector<Platform> platforms_of(const Index& index) {
  std::vector<Platform> out;
  for (const auto& entry : index.manifests) {
    if (entry.platform && !entry.is_artifact) out.push_back(*entry.platform);
  }
  return out;
}

}  // namespace

ImageStore::ImageStore(std::string root) : root_(std::move(root)), blobs_(folder_store(root_)) {}

Result<ImageStore> ImageStore::open(std::string root) {
  for (const char* folder : {"/blobs/sha256", "/blobs/sha512", "/ingest"}) {
    SM_TRY_STATUS(make_dirs(root + folder, 0700));
  }
  const auto marker = root + "/oci-layout";
  struct stat info {};
  if (::stat(marker.c_str(), &info) != 0) {
    SM_TRY_STATUS(write_file_atomic(marker, R"({"imageLayoutVersion":"1.0.0"})", 0600));
  }
  return ImageStore(std::move(root));
}

Result<UniqueFd> ImageStore::lease(const std::stop_token& stop) const {
  return lock_file(root_ + "/store.lock", LockKind::kShared, stop);
}

Result<UniqueFd> ImageStore::exclusive(const std::stop_token& stop) const {
  return lock_file(root_ + "/store.lock", LockKind::kExclusive, stop);
}

std::optional<UniqueFd> ImageStore::try_exclusive() const {
  auto fd = open_file(root_ + "/store.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (!fd || !try_lock(fd->get(), LockKind::kExclusive)) return std::nullopt;
  return *std::move(fd);
}

Result<std::vector<StoreEntry>> ImageStore::read_index() const {
  const auto path = root_ + "/index.json";
  auto text = read_file(path, kMaxManifestBytes);
  std::vector<StoreEntry> out;
  if (!text && text.error().code() == Code::kNotFound) return out;
  if (!text) return fail(std::move(text).error());
  const auto index = SM_TRY_WITH(parse_index(*text), path);
  for (const auto& entry : index.manifests) out.push_back({entry.name, entry});
  return out;
}

Status ImageStore::write_index(const std::vector<StoreEntry>& entries) const {
  Json list = Json::array();
  for (const auto& entry : entries) list.push_back(to_json(entry));
  const Json index = {{"schemaVersion", 2},
                      {"mediaType", "application/vnd.oci.image.index.v1+json"},
                      {"manifests", std::move(list)}};
  return write_file_atomic(root_ + "/index.json", dump_json(index, 1), 0600);
}

Result<std::vector<StoreEntry>> ImageStore::entries() const { return read_index(); }

Status ImageStore::update(const Change& change) const {
  const auto lock = SM_TRY(lock_file(root_ + "/index.lock", LockKind::kExclusive));
  auto all = SM_TRY(read_index());
  SM_TRY_STATUS(change(all));
  if (all.size() > kMaxIndexEntries) {
    return fail(
        Code::kLimit,
        "the store has no room for more than " + std::to_string(kMaxIndexEntries) + " names",
        "remove some with `supermachine rmi`");
  }
  return write_index(all);
}

// Whether the old target is a whole image, and not the same one in another packing.
bool ImageStore::is_other_image(const Descriptor& old, const Descriptor& target) const {
  if (old.digest == target.digest) return false;
  const auto before = open_image({{}, old}, std::nullopt);
  const auto now = open_image({{}, target}, std::nullopt);
  return before && (!now || now->id() != before->id());
}

Status ImageStore::set(const std::string& name, const Descriptor& target) const {
  return update([&](std::vector<StoreEntry>& all) -> Status {
    const auto same = [&](const StoreEntry& entry) {
      return name.empty() ? entry.target.digest == target.digest : entry.name == name;
    };
    const auto found = std::find_if(all.begin(), all.end(), same);
    if (found == all.end()) {
      all.push_back({name, target});
    } else if (!name.empty()) {
      const Descriptor old = std::exchange(found->target, target);
      const bool has_entry = std::any_of(all.begin(), all.end(), [&](const StoreEntry& entry) {
        return entry.target.digest == old.digest;
      });
      if (!has_entry && is_other_image(old, target)) all.push_back({{}, old});
    }
    // What had no name has one now.
    if (name.empty()) return {};
    std::erase_if(all, [&](const StoreEntry& entry) {
      return entry.name.empty() && entry.target.digest == target.digest;
    });
    return {};
  });
}

Result<Descriptor> ImageStore::put_document(std::string_view text, std::string media_type) const {
  const auto bytes = as_byte_span(text);
  Descriptor out{
      .media_type = std::move(media_type), .digest = Hasher::of(bytes), .size = text.size()};
  auto writer = SM_TRY(BlobWriter::open(root_, {out.digest, out.size}));
  if (!writer) return out;
  SM_TRY_STATUS(writer->restart());
  SM_TRY_STATUS(writer->append(bytes));
  SM_TRY(writer->commit());
  return out;
}

Result<std::vector<StoreEntry>> ImageStore::find(std::string_view text) const {
  const auto all = SM_TRY(read_index());
  std::vector<StoreEntry> out;
  const auto name = parse_image_name(text);
  if (name) {
    for (const auto& entry : all) {
      const bool same_repository = entry.name.starts_with(name->repository_text()) &&
                                   entry.name.find_first_of(":@", name->repository_text().size()) ==
                                       name->repository_text().size();
      const bool same_digest =
          name->digest && same_repository && entry.target.digest == *name->digest;
      if (entry.name == name->text() || same_digest) return std::vector<StoreEntry>{entry};
    }
  }
  const auto prefix = id_prefix(text);
  if (!prefix && !name) return fail(name.error());
  if (!prefix) return not_here(text);
  std::optional<Digest> id;
  for (const auto& entry : all) {
    const auto image = open_image(entry, std::nullopt);
    if (!image || !image->id().hex().starts_with(*prefix)) continue;
    if (id && *id != image->id()) {
      return fail(Code::kInvalidArgument, "several images have ids that begin with " + *prefix,
                  "write more digits");
    }
    id = image->id();
    out.push_back(entry);
  }
  if (out.empty()) return not_here(text);
  return out;
}

// All blobs must be here: an image of which parts are missing is no image.
Status ImageStore::check_layers(const ImageSource& image) const {
  for (const auto& layer : image.layers()) {
    struct stat info {};
    const auto path = root_ + "/" + layer.blob;
    if (::stat(path.c_str(), &info) != 0) return fail_errno(layer.name(), errno);
  }
  return {};
}

Result<ImageSource> ImageStore::open_image(const StoreEntry& entry,
                                           const std::optional<Platform>& wanted) const {
  const auto attempt = [&](const Platform& platform) -> Result<ImageSource> {
    auto image = SM_TRY(ImageSource::open(blobs_, entry.target, platform));
    SM_TRY_STATUS(check_layers(image));
    return image;
  };
  auto first = attempt(wanted.value_or(Platform{}));
  if (first || wanted) return first;
  auto text = read_file(blob_path(root_, entry.target.digest), kMaxManifestBytes);
  if (!text) return first;
  if (const auto index = parse_index(*text)) {
    for (const auto& platform : platforms_of(*index)) {
      auto other = attempt(platform);
      if (other) return other;
    }
    return first;
  }
  // One image for another platform: its configuration tells which.
  const auto manifest = parse_manifest(*text);
  if (!manifest) return first;
  const auto config_text = read_file(blob_path(root_, manifest->config.digest), kMaxConfigBytes);
  if (!config_text) return first;
  const auto config = parse_image_config(*config_text);
  return config ? attempt(config->platform) : std::move(first);
}

Result<StoredImage> ImageStore::get(std::string_view text,
                                    const std::optional<Platform>& wanted) const {
  auto found = SM_TRY(find(text));
  auto source = SM_TRY_WITH(open_image(found.front(), wanted), printable(text));
  return StoredImage{std::move(found.front()), std::move(source)};
}

}  // namespace sm
