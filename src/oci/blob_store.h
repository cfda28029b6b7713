// BlobStore: the named files of an image on disk, whatever holds them. Reading several at once from
// several threads is fine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"

namespace sm {

struct Blob {
  std::uint64_t size = 0;
  ByteStreamPtr stream;
};

class BlobStore {
 public:
  virtual ~BlobStore() = default;
  // Code::kNotFound when there is no such file.
  virtual Result<Blob> open(const std::string& name) const = 0;
};

// The files below a folder. Only regular files are opened.
std::unique_ptr<BlobStore> folder_store(std::string path);

}  // namespace sm
