// memory.ok, disk.ok: a note beside an image that this very file was found whole, so that a restore
// need not read all of it. It remembers what the file system says about the file; whoever alters
// the file cannot help changing that. See docs/reference/snapshot-format.md. Internal to
// vmm/snapshot.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "vmm/snapshot/snapshot_files.h"

namespace sm::memory_stamp {

// How sure it is that the disk has what was read: a power cut may take what nobody synced.
enum class Lasting : std::uint8_t {
  kSynced,    // until the file is altered
  kThisBoot,  // no longer than the host runs
};

// The stamp in `directory` holds for the open image and the table of checksums with this CRC.
bool is_valid(int directory, const snapshot_files::ImageFiles& names, int image_fd,
              std::uint32_t sum_crc);

// Writes it, atomically. Failing is harmless: the image is read again next time.
Status write(int directory, const snapshot_files::ImageFiles& names, int image_fd,
             std::uint32_t sum_crc, Lasting lasting);

}  // namespace sm::memory_stamp
