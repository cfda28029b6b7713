// Headers of tar archives: written as ustar with pax records for what does not fit, read also as
// GNU tar writes them. Pure functions over bytes. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sm::guest {

inline constexpr std::size_t kTarBlock = 512;
// Limit: a pax header or a long name of GNU tar, in bytes.
inline constexpr std::uint64_t kMaxTarExtra = 1u << 20;

// Types of entries; others than these are devices and the like.
inline constexpr char kTarFile = '0', kTarHardLink = '1', kTarSymlink = '2', kTarFolder = '5';
// Those whose data says something about the next entry.
inline constexpr char kTarPax = 'x', kTarPaxGlobal = 'g', kTarLongName = 'L', kTarLongLink = 'K';

struct TarHeader {
  std::string name;
  std::string link;
  char type = kTarFile;
  std::uint32_t mode = 0;  // permissions, with setuid and the like
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::uint64_t size = 0;  // bytes of data that follow, filled up to whole blocks
  std::int64_t mtime = 0;  // seconds since 1970
};

// Whole blocks: the header, behind a pax one where that is needed.
std::string encode_tar_header(const TarHeader& header);
// Nothing: a block of zeros, of which two end an archive. kCorrupt; kUnsupported for compressed
// data.
Result<std::optional<TarHeader>> decode_tar_header(std::span<const std::byte, kTarBlock> block);

// What pax headers and long names say about the next entry.
class TarExtra {
 public:
  // The data of an entry of one of the four types. kCorrupt; kUnsupported for sparse files.
  Status add(char type, std::string_view data);
  // Puts the values in the place of the header's own and forgets all but the global ones. Every
  // header needs it: only then is its type known.
  void apply(TarHeader& header);

 private:
  struct Values {
    std::optional<std::string> name, link;
    std::optional<std::uint64_t> uid, gid, size;
    std::optional<std::int64_t> mtime;
  };
  static Status set(Values& values, std::string_view key, std::string_view value);
  static void apply(const Values& values, TarHeader& header);

  Values global_, next_;
};

}  // namespace sm::guest
