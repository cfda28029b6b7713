// Writes guest memory into a sparse file. What has to be written is found in the kernel's own page
// table: a page that the process has for itself was touched since the memory was mapped, all others
// are zero or still those of the files that the memory was made from (GuestMemory::layers). So no
// engine has to keep a log of writes, and a running guest pays nothing for snapshots. Spec: Linux
// Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

class MemoryWriter {
 public:
  // Opens the page table while the process still may.
  static Result<MemoryWriter> create();

  struct Written {
    std::vector<PageRange> pages;  // that the process has for itself, written or zero
    std::uint64_t bytes = 0;       // written from memory
  };
  // All contents, into an empty file of the memory's size. Nothing writes to the memory meanwhile.
  Result<Written> write_all(const GuestMemory& memory, int file) const;
  // Only what differs from the layers that the memory was made from (without any: from zeros).
  Result<Written> write_changed(const GuestMemory& memory, int file) const;

 private:
  explicit MemoryWriter(UniqueFd pagemap) : pagemap_(std::move(pagemap)) {}
  Result<std::vector<PageRange>> private_pages(const GuestMemory& memory) const;

  UniqueFd pagemap_;
};

}  // namespace sm
