// GuestMemory: the guest's RAM, reached only through bounded copies. Any thread; the guest writes
// it at any time, so: copy in once, check the copy, use the copy.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "vmm/memory/guest_addr.h"

namespace sm {

// One contiguous piece of RAM. `host` is for engines (mapping into the guest) and nobody else.
struct MemoryRegion {
  GuestPhysAddr start;
  std::uint64_t size;
  std::byte* host;
};

class GuestMemory {
 public:
  // Anonymous zeroed memory of `bytes` (a multiple of 4096, 1 MiB .. 1 TiB), laid out as
  // vmm/memory/addr_map.h says. Pages cost nothing until they are touched.
  static Result<std::unique_ptr<GuestMemory>> create(std::uint64_t bytes);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  GuestMemory(GuestMemory&&) = delete;
  GuestMemory& operator=(GuestMemory&&) = delete;

  std::uint64_t size() const { return size_; }
  std::span<const MemoryRegion> regions() const { return regions_; }

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

  // Appends the host view of [at, at+length) for preadv/pwritev/sendmsg: the kernel copies, we
  // never look through these pointers. They are valid as long as this object.
  Status append_iovecs(GuestPhysAddr at, std::uint64_t length, std::vector<iovec>& out) const;

 private:
  explicit GuestMemory(std::uint64_t size) : size_(size) {}
  std::byte* host_of(GuestPhysAddr at, std::uint64_t length) const;

  std::uint64_t size_;
  std::vector<MemoryRegion> regions_;
};

}  // namespace sm
