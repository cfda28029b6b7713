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

// The members of a tar file, read in place: nothing is unpacked under a name of the archive's
// choice. A tar file packed with gzip or zstd is unpacked as a whole into a nameless file first.
struct ArchiveLimits {
  std::size_t max_members = 100'000;
  std::uint64_t max_unpacked_bytes = 64ULL << 30U;  // of a packed tar file
};
Result<std::unique_ptr<BlobStore>> archive_store(const std::string& file,
                                                 const ArchiveLimits& limits = {});

}  // namespace sm
