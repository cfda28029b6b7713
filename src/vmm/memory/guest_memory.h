// GuestMemory: the guest's RAM, reached only through bounded copies. Any thread; the guest writes
// it at any time, so: copy in once, check the copy, use the copy.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/memory/guest_addr.h"
#include "vmm/memory/page_range.h"

namespace sm {

// One contiguous piece of RAM. `host` is for engines (mapping into the guest) and nobody else.
struct MemoryRegion {
  GuestPhysAddr start;
  std::uint64_t size;
  std::byte* host;
};

// Told of writes by devices. Writes by the guest's own vCPUs are not reported: the engine does them
// or knows of them. Any thread; must not block.
class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;
  // [at, at + length) is RAM and has been, or is about to be, written.
  virtual void on_device_write(GuestPhysAddr at, std::uint64_t length) = 0;
};

// A file whose bytes are the contents of RAM, at the offset of their page. `pages` (ascending,
// apart) are those that it holds; empty: all.
struct MemoryLayer {
  UniqueFd file;
  std::vector<PageRange> pages;
};

// The host view of pages that are contiguous in it.
struct HostPages {
  std::byte* host;
  PageRange pages;
};

class GuestMemory {
 public:
  // Anonymous zeroed memory of `bytes` (a multiple of 4096, 1 MiB .. 1 TiB), laid out as
  // vmm/memory/addr_map.h says. Pages cost nothing until they are touched.
  static Result<std::unique_ptr<GuestMemory>> create(std::uint64_t bytes);
  // The same with contents: pages of later layers cover those of earlier ones, the first one holds
  // all. Mapped copy-on-write: nothing is read before it is used, the files are never written.
  // Their owner must not shorten them.
  static Result<std::unique_ptr<GuestMemory>> create_from(std::uint64_t bytes,
                                                          std::vector<MemoryLayer> layers);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  GuestMemory(GuestMemory&&) = delete;
  GuestMemory& operator=(GuestMemory&&) = delete;

  std::uint64_t size() const { return size_; }
  std::span<const MemoryRegion> regions() const { return regions_; }
  // One piece per region; none when a page is outside RAM. For capturing memory and nobody else.
  std::vector<HostPages> host_pages(PageRange range) const;
  // What create_from() was given.
  std::span<const MemoryLayer> layers() const { return layers_; }

  // True when all of [at, at+length) is RAM.
  bool contains(GuestPhysAddr at, std::uint64_t length) const;

  // Copies; Code::kGuest when any byte is outside RAM (then nothing was copied).
  Status read(GuestPhysAddr at, std::span<std::byte> out) const;
  Status write(GuestPhysAddr at, std::span<const std::byte> in);

  template <class T>
  requires std::is_trivially_copyable_v<T> Result<T> read_object(GuestPhysAddr at)
  const {
    T value;
    auto status = read(at, std::as_writable_bytes(std::span(&value, 1)));
    if (!status) return fail(std::move(status).error());
    return value;
  }
  template <class T>
  requires std::is_trivially_copyable_v<T> Status write_object(GuestPhysAddr at, const T& value) {
    return write(at, std::as_bytes(std::span(&value, 1)));
  }

  // Ring indices: naturally aligned, one access, acquire / release against the guest's vCPUs.
  Result<std::uint16_t> load_acquire_u16(GuestPhysAddr at) const;
  Status store_release_u16(GuestPhysAddr at, std::uint16_t value);

  // Appends the host view of [at, at+length) for pwritev/sendmsg: the kernel copies, we never look
  // through these pointers. They are valid as long as this object.
  Status append_iovecs(GuestPhysAddr at, std::uint64_t length, std::vector<iovec>& out) const;
  // The same for preadv/recvmsg, which write to the guest.
  Status append_writable_iovecs(GuestPhysAddr at, std::uint64_t length, std::vector<iovec>& out);

  // One observer, for the rest of this object's life. Before any device writes.
  void set_observer(std::shared_ptr<MemoryObserver> observer) const {
    observer_ = std::move(observer);
  }

 private:
  explicit GuestMemory(std::uint64_t size) : size_(size) {}
  static Result<std::unique_ptr<GuestMemory>> map(std::uint64_t bytes, int file);
  Status cover(const MemoryLayer& layer);
  std::byte* host_of(GuestPhysAddr at, std::uint64_t length) const;
  void report(GuestPhysAddr at, std::uint64_t length) {
    if (observer_) observer_->on_device_write(at, length);
  }

  std::uint64_t size_;
  std::vector<MemoryRegion> regions_;
  std::vector<MemoryLayer> layers_;
  // No part of the contents: the engine sees a constant GuestMemory and still wants to know.
  mutable std::shared_ptr<MemoryObserver> observer_;
};

}  // namespace sm
