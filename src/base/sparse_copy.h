// Copies of files with holes, such as disks. Any thread; blocks.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace sm {

// Makes `to`, a file of `bytes` bytes that is all holes, the same as `from`, a file of that size,
// which nobody changes meanwhile. Where the file system can, both share their blocks; else what is
// not a hole is copied. Uses the offset of `from`. An error leaves `to` half written.
Status copy_sparse(int from, int to, std::uint64_t bytes);

}  // namespace sm
