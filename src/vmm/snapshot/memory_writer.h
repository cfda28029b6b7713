// Writes guest memory into a sparse file. What has to be written is found in the kernel's own page
// table: a page that the process has for itself was touched since the memory was mapped, all others
// are zero or still those of the files that the memory was made from (GuestMemory::layers). So no
// engine has to keep a log of writes, and a running guest pays nothing for snapshots. Spec: Linux
// Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

class MemoryWriter {
 public:
  // Opens the page table while the process still may.
  static Result<MemoryWriter> create();

  // The pages that the process has for itself, written or zero: those that may differ from the
  // layers that the memory was made from (without any: from zeros). Nothing writes to the memory
  // meanwhile.
  Result<std::vector<PageRange>> changed_pages(const GuestMemory& memory) const;

 private:
  explicit MemoryWriter(UniqueFd pagemap) : pagemap_(std::move(pagemap)) {}

  UniqueFd pagemap_;
};

// What the memory was made from, into an empty file of the memory's size.
Status write_layers(const GuestMemory& memory, int file);

// `pages` of the memory into a file of its size; the number of bytes written, which are fewer:
// zeros become holes. Nothing writes to the memory meanwhile.
Result<std::uint64_t> write_pages(const GuestMemory& memory, std::span<const PageRange> pages,
                                  int file);

// The same by a child process, which has the memory as it is now while this one goes on: the cost
// of starting it is a copy of the page table.
class MemoryWriterProcess {
 public:
  static Result<MemoryWriterProcess> start(const GuestMemory& memory,
                                           std::span<const PageRange> pages, int file);
  // Waits for the end: what write_pages() returned.
  Result<std::uint64_t> finish();

  MemoryWriterProcess(MemoryWriterProcess&& other) noexcept;
  MemoryWriterProcess& operator=(MemoryWriterProcess&&) = delete;
  MemoryWriterProcess(const MemoryWriterProcess&) = delete;
  MemoryWriterProcess& operator=(const MemoryWriterProcess&) = delete;
  // Kills a child that still runs.
  ~MemoryWriterProcess();

 private:
  MemoryWriterProcess(pid_t pid, UniqueFd result) : pid_(pid), result_(std::move(result)) {}

  pid_t pid_ = -1;
  UniqueFd result_;  // a pipe: the number of bytes, or the error
};

}  // namespace sm
