// The compressor of our squashfs images, for libsquashfs. Internal to oci/.
#pragma once

#include <sqfs/compressor.h>
#include <sqfs/super.h>

#include <cstdint>

#include "base/result.h"
#include "oci/squashfs_sys.h"

namespace sm {

// What unpacks quickest in the guest, where every byte that a program reads goes through it; see
// docs/design/0003.
constexpr auto kSquashfsCompressor = SQFS_COMP_LZ4;

// libsquashfs's own one says a block of metadata is packed even when it has grown, which other
// readers (unsquashfs) refuse. This one leaves such a block as it is, and blocks that would not
// shrink to a quarter: see docs/design/0003.
Result<SqfsPtr<sqfs_compressor_t>> make_compressor(std::uint32_t block_size,
                                                   const SquashfsFile& file);

Result<SqfsPtr<sqfs_compressor_t>> make_uncompressor(std::uint32_t block_size,
                                                     const SquashfsFile& file);

}  // namespace sm
