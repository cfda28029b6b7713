// Files and folders of this host out of a tar stream and into one, for `cp`. Calls block.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"

namespace sm {

struct Unpacked {
  std::uint64_t files = 0;
  std::uint64_t skipped = 0;  // devices, FIFOs and the like
};

// Unpacks a hostile archive of one file or tree into `folder`, where its first component gets the
// name `name`; with an empty name the archive's entries come into `folder` themselves. Nothing
// outside of folder/name is written: names with "..", absolute ones, and ways
// through symbolic links are refused (kCorrupt). Links themselves are made as they are. Existing
// files are replaced, never written through; owners, setuid and setgid are not taken over.
Result<Unpacked> unpack_tree(ByteStream& tar, const std::string& folder, const std::string& name);

// Writes the file or tree at `path` to a descriptor, its first component named `name`; with an
// empty name what is in the folder `path`, without itself. Symbolic links are not followed.
Status pack_tree(const std::string& path, const std::string& name, int out);

}  // namespace sm
