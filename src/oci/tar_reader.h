// TarReader: the entries of a tar stream as values, over libarchive's tar format. It understands
// ustar, GNU and PAX headers, sparse files and extended attributes, and judges nothing: names come
// out as they stand in the archive. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "oci/byte_stream.h"

namespace sm {

enum class TarKind : std::uint8_t {
  kFile,
  kDirectory,
  kSymlink,
  kHardLink,
  kCharDevice,
  kBlockDevice,
  kFifo,
  kOther,
};

// All of it is the archive's word.
struct TarEntry {
  std::string path;
  TarKind kind = TarKind::kOther;
  std::string link_target;  // of symlinks and hard links
  std::uint32_t mode = 0;   // permission bits with setuid, setgid and sticky
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t mtime = 0;  // seconds
  std::uint64_t size = 0;  // of files, holes included
  std::uint64_t device_major = 0;
  std::uint64_t device_minor = 0;
  std::map<std::string, std::string> xattrs;
  bool has_acl = false;  // POSIX ACLs written as SCHILY.acl.*
};

// A stretch of a file's data; bytes between stretches are zero. Valid until the next call.
struct TarData {
  std::uint64_t offset = 0;
  std::span<const std::byte> bytes;
};

class TarReader {
 public:
  // Reads from `stream`, which must outlive the reader.
  static Result<std::unique_ptr<TarReader>> create(ByteStream& stream);
  // The same, passing over data that nobody asks for.
  static Result<std::unique_ptr<TarReader>> create_skipping(FileStream& stream);
  ~TarReader();
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;

  // Goes to the next entry, skipping unread data; false at the end of the archive.
  Result<bool> next(TarEntry& out);
  // The next stretch of the current entry's data; false after the last.
  Result<bool> next_data(TarData& out);
  // Where the headers of the current entry begin in the stream.
  std::uint64_t header_offset() const;

 private:
  struct State;
  explicit TarReader(std::unique_ptr<State> state);
  static Result<std::unique_ptr<TarReader>> start(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace sm
