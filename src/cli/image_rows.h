// The store's images as rows of a list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/store/image_store.h"

namespace sm {

struct ImageRow {
  std::string repository;       // familiar form, "<none>" without a name
  std::string full_repository;  // "docker.io/library/nginx"
  std::string tag;              // "<none>" when it is named by digest
  std::string digest;           // of the manifest or index
  std::string id;               // "sha256:..."; empty when the image cannot be read
  std::string created;          // RFC 3339
  std::string platform;
  std::uint64_t size = 0;  // of its blobs
};

// All of them; those of which parts are missing have an empty id.
Result<std::vector<ImageRow>> image_rows(const ImageStore& store);

// Twelve digits of an id.
std::string short_id(const std::string& id);

// The bytes of the image's blobs.
std::uint64_t image_size(const ImageSource& image);

}  // namespace sm
