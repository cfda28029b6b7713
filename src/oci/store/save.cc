// Writing archives.
#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "base/bytes.h"
#include "base/file.h"
#include "oci/json.h"
#include "oci/store/archive.h"
#include "oci/text.h"

namespace sm {
namespace {

std::string blob_name(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm_name()) + "/" + digest.hex();
}

// A tar file with nothing in it that changes from run to run.
class TarWriter {
 public:
  static Result<std::unique_ptr<TarWriter>> create(int fd) {
    auto out = std::unique_ptr<TarWriter>(new TarWriter(fd));
    auto* tar = out->tar_.get();
    const bool open = tar != nullptr &&
                      archive_write_set_format_pax_restricted(tar) == ARCHIVE_OK &&
                      archive_write_add_filter_none(tar) == ARCHIVE_OK &&
                      archive_write_set_bytes_in_last_block(tar, 1) == ARCHIVE_OK &&
                      archive_write_open(tar, out.get(), nullptr, &on_write, nullptr) == ARCHIVE_OK;
    if (!open) return fail(Code::kIo, "libarchive does not open the archive");
    return out;
  }

  Status add(const std::string& name, std::uint64_t size, ByteStream& bytes) {
    const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(),
                                                                              &archive_entry_free);
    archive_entry_set_pathname(entry.get(), name.c_str());
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), 0644);
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(size));
    archive_entry_set_mtime(entry.get(), 0, 0);
    if (archive_write_header(tar_.get(), entry.get()) != ARCHIVE_OK) return failure();
    std::vector<std::byte> buffer(1U << 20U);
    while (true) {
      const auto got = SM_TRY(bytes.read(buffer));
      if (got == 0) return {};
      if (archive_write_data(tar_.get(), buffer.data(), got) != static_cast<la_ssize_t>(got))
        return failure();
    }
  }

  Status add(const std::string& name, std::string_view text) {
    class Text final : public ByteStream {
     public:
      explicit Text(std::string_view left) : left_(left) {}
      Result<std::size_t> read(std::span<std::byte> out) override {
        const auto count = std::min(out.size(), left_.size());
        std::copy_n(as_byte_span(left_).begin(), count, out.begin());
        left_.remove_prefix(count);
        return count;
      }

     private:
      std::string_view left_;
    };
    Text stream(text);
    return add(name, text.size(), stream);
  }

  Status finish() {
    if (archive_write_close(tar_.get()) != ARCHIVE_OK) return failure();
    return {};
  }

 private:
  struct Free {
    void operator()(archive* tar) const { archive_write_free(tar); }
  };
  explicit TarWriter(int fd) : fd_(fd), tar_(archive_write_new()) {}
  Status failure() {
    if (error_) return fail(*error_);
    const char* text = archive_error_string(tar_.get());
    return fail(Code::kIo,
                std::string("write the archive: ") + (text == nullptr ? "failed" : text));
  }
  static la_ssize_t on_write(archive* tar, void* user, const void* data, std::size_t size) {
    auto& self = *static_cast<TarWriter*>(user);
    auto written = write_all(self.fd_, {static_cast<const std::byte*>(data), size});
    if (written) return static_cast<la_ssize_t>(size);
    self.error_ = std::move(written).error().with("the archive");
    archive_set_error(tar, EIO, "write failed");
    return -1;
  }

  int fd_;
  std::optional<Error> error_;
  std::unique_ptr<archive, Free> tar_;  // last: closing it may write
};

// Each blob once, verified on its way.
Status add_blob(TarWriter& tar, const ImageStore& store, const Digest& digest,
                std::set<Digest>& written) {
  if (!written.insert(digest).second) return {};
  auto blob = SM_TRY(store.blobs()->open(blob_name(digest)));
  const auto stream =
      verified_stream(std::move(blob.stream), digest, blob.size, "blob " + digest.text());
  return tar.add(blob_name(digest), blob.size, *stream);
}

struct Contents {
  Json index = Json::array();
  std::map<Digest, Json> docker{};  // by configuration, as Docker groups names
};

void describe(const StoredImage& image, Contents& out) {
  const auto& manifest = *image.source.manifest();
  const auto type = manifest.media_type.empty() ? "application/vnd.oci.image.manifest.v1+json"
                                                : manifest.media_type;
  Json entry = {{"mediaType", type}, {"digest", manifest.digest.text()}, {"size", manifest.size}};
  const auto& platform = image.source.config().platform;
  if (!platform.os.empty()) {
    entry["platform"] = {{"os", platform.os}, {"architecture", platform.architecture}};
    if (!platform.variant.empty()) entry["platform"]["variant"] = platform.variant;
  }
  if (!image.entry.name.empty()) {
    entry["annotations"] = {{"org.opencontainers.image.ref.name", image.entry.name},
                            {"io.containerd.image.name", image.entry.name}};
  }
  out.index.push_back(std::move(entry));
  auto& docker = out.docker[image.source.id()];
  if (docker.is_null()) {
    docker = {{"Config", blob_name(image.source.id())},
              {"RepoTags", Json::array()},
              {"Layers", Json::array()}};
    for (const auto& layer : image.source.layers()) docker["Layers"].push_back(layer.blob);
  }
  if (!image.entry.name.empty() && image.entry.name.find('@') == std::string::npos) {
    docker["RepoTags"].push_back(image.entry.name);
  }
}

}  // namespace

Status save_images(const ImageStore& store, const std::vector<StoredImage>& images,
                   ArchiveKind kind, int fd) {
  const auto lease = SM_TRY(store.lease());
  const auto tar = SM_TRY(TarWriter::create(fd));
  Contents contents;
  std::set<Digest> written;
  SM_TRY_STATUS(tar->add("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  for (const auto& image : images) {
    if (!image.source.manifest())
      return fail(Code::kInternal, "an image of the store without a manifest");
    SM_TRY_STATUS(add_blob(*tar, store, image.source.manifest()->digest, written));
    SM_TRY_STATUS(add_blob(*tar, store, image.source.id(), written));
    for (const auto& layer : image.source.layers())
      SM_TRY_STATUS(add_blob(*tar, store, *layer.digest, written));
    describe(image, contents);
  }
  const Json index = {{"schemaVersion", 2},
                      {"mediaType", "application/vnd.oci.image.index.v1+json"},
                      {"manifests", contents.index}};
  SM_TRY_STATUS(tar->add("index.json", dump_json(index)));
  if (kind == ArchiveKind::kDocker) {
    Json list = Json::array();
    for (auto& [id, entry] : contents.docker) list.push_back(std::move(entry));
    SM_TRY_STATUS(tar->add("manifest.json", dump_json(list)));
  }
  return tar->finish();
}

}  // namespace sm
