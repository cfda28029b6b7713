// ImageStore: the images of a user on disk: an OCI layout whose index names them in full, so that
// other tools can read it. Any thread; safe among processes. Documented in
// docs/reference/images.md.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/blob_store.h"
#include "oci/image_name.h"
#include "oci/image_source.h"
#include "oci/manifest.h"

namespace sm {

// A name and the manifest or index that it stands for.
struct StoreEntry {
  std::string name;  // ImageName::text(); empty: the image has none
  Descriptor target;
};

// One image of the store, ready to be read.
struct StoredImage {
  StoreEntry entry;
  ImageSource source;
};

class ImageStore {
 public:
  // Creates the folders (mode 0700) when missing.
  static Result<ImageStore> open(std::string root);

  const std::string& root() const { return root_; }
  std::shared_ptr<const BlobStore> blobs() const { return blobs_; }

  // While a lease is held nothing is removed. Hold one from the first blob that is written until
  // the name is set, and while layers are read.
  Result<UniqueFd> lease(const std::stop_token& stop = {}) const;
  // The right to remove: nobody holds a lease. Code::kGone on a stop request.
  Result<UniqueFd> exclusive(const std::stop_token& stop = {}) const;
  // The same at once; nothing when somebody holds a lease.
  std::optional<UniqueFd> try_exclusive() const;

  // In the order in which they came.
  Result<std::vector<StoreEntry>> entries() const;
  // Lets a name stand for a target from now on; the image that had it stays without a name, until
  // somebody removes it. Without a name, adds the target unless some entry has it.
  Status set(const std::string& name, const Descriptor& target) const;
  // Changes the list as one step; an error leaves it as it was.
  using Change = std::function<Status(std::vector<StoreEntry>& entries)>;
  Status update(const Change& change) const;

  // A small document as a blob.
  Result<Descriptor> put_document(std::string_view text, std::string media_type) const;

  // The entries that a text means: a name, NAME@DIGEST, or the beginning of an image's id (at least
  // 4 digits). Code::kNotFound when there are none; more than one only for an id with several
  // names.
  Result<std::vector<StoreEntry>> find(std::string_view text) const;
  // The image behind an entry. Without a platform: this machine's, else the first that is here.
  // Code::kNotFound when parts of it are not here.
  Result<ImageSource> open_image(const StoreEntry& entry,
                                 const std::optional<Platform>& wanted) const;
  // find() and open_image() of the first.
  Result<StoredImage> get(std::string_view text, const std::optional<Platform>& wanted = {}) const;

 private:
  explicit ImageStore(std::string root);
  Result<std::vector<StoreEntry>> read_index() const;
  Status write_index(const std::vector<StoreEntry>& entries) const;
  Status check_layers(const ImageSource& image) const;
  bool is_other_image(const Descriptor& old, const Descriptor& target) const;

  std::string root_;
  std::shared_ptr<const BlobStore> blobs_;
};

}  // namespace sm
