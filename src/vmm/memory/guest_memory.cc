#include "vmm/memory/guest_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint64_t kMinBytes = 1ull << 20;
constexpr std::uint64_t kMaxBytes = 1ull << 40;

// Where guest and host addresses agree below this, KVM can use huge pages where the host has them.
constexpr std::uint64_t kHugePage = 2ull << 20;

// Address space for `size` bytes at such an address.
Result<std::byte*> reserve(std::uint64_t size) {
  const std::uint64_t asked = size + kHugePage;
  void* space =
      ::mmap(nullptr, asked, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return fail_errno("map guest memory", errno);
  auto* const begin = static_cast<std::byte*>(space);
  const std::uint64_t before = -reinterpret_cast<std::uintptr_t>(begin) % kHugePage;
  if (before != 0) ::munmap(begin, before);
  ::munmap(begin + before + size, asked - before - size);
  return begin + before;
}

// `file`: where its contents begin at `offset`; -1 for zeros.
Result<MemoryRegion> map_region(std::uint64_t start, std::uint64_t size, int file,
                                std::uint64_t offset) {
  // NORESERVE: a VM's nominal memory may exceed the host's; admission is decided above the VMM.
  const int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (file < 0 ? MAP_ANONYMOUS : 0);
  std::byte* const space = SM_TRY(reserve(size));
  void* host = ::mmap(space, size, PROT_READ | PROT_WRITE, flags, file,
                      static_cast<off_t>(file < 0 ? 0 : offset));
  if (host == MAP_FAILED) {
    const int error = errno;
    ::munmap(space, size);
    return fail_errno("map guest memory", error);
  }
  // One VM's pages must never show up in a core file of the worker.
  ::madvise(host, size, MADV_DONTDUMP);
  return MemoryRegion{GuestPhysAddr(start), size, static_cast<std::byte*>(host)};
}

Status read_all_at(int file, std::byte* out, std::uint64_t length, off_t offset) {
  while (length != 0) {
    const ssize_t n = ::pread(file, out, length, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read guest memory", errno);
    if (n == 0) return fail(Code::kCorrupt, "a memory image ends early");
    out += n;
    length -= static_cast<std::uint64_t>(n);
    offset += n;
  }
  return {};
}

tl::unexpected<Error> outside(GuestPhysAddr at, std::uint64_t length) {
  char text[96];
  std::snprintf(text, sizeof(text), "guest address 0x%llx+0x%llx is not RAM",
                static_cast<unsigned long long>(at.raw()), static_cast<unsigned long long>(length));
  return fail(Code::kGuest, text);
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(std::uint64_t bytes) {
  return map(bytes, -1);
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::create_from(std::uint64_t bytes,
                                                              std::vector<MemoryLayer> layers) {
  if (layers.empty() || !layers.front().pages.empty()) {
    return fail(Code::kInternal, "guest memory from layers without a whole one");
  }
  for (const MemoryLayer& layer : layers) {
    struct stat info {};
    if (::fstat(layer.file.get(), &info) < 0) return fail_errno("memory image", errno);
    if (static_cast<std::uint64_t>(info.st_size) != bytes) {
      return fail(Code::kCorrupt, "a memory image of " + std::to_string(info.st_size) +
                                      " bytes for a machine of " + std::to_string(bytes));
    }
  }
  auto memory = SM_TRY(map(bytes, layers.front().file.get()));
  for (std::size_t i = 1; i < layers.size(); ++i) SM_TRY_STATUS(memory->cover(layers[i]));
  memory->layers_ = std::move(layers);
  return memory;
}

std::vector<HostPages> GuestMemory::host_pages(PageRange range) const {
  std::vector<HostPages> pieces;
  std::uint64_t before = 0;
  for (const MemoryRegion& region : regions_) {
    const std::uint64_t pages = region.size / addr_map::kPageSize;
    if (range.count != 0 && range.first >= before && range.first < before + pages) {
      const std::uint64_t n = std::min(range.count, before + pages - range.first);
      pieces.push_back(
          {region.host + (range.first - before) * addr_map::kPageSize, {range.first, n}});
      range = {range.first + n, range.count - n};
    }
    before += pages;
  }
  if (range.count != 0) pieces.clear();
  return pieces;
}

// Long ranges are mapped, short ones are read: the kernel limits the number of mappings.
Status GuestMemory::cover(const MemoryLayer& layer) {
  constexpr std::uint64_t kMapFrom = 256;  // pages
  for (const PageRange& range : layer.pages) {
    const auto pieces = host_pages(range);
    if (pieces.empty()) {
      return fail(Code::kCorrupt, "changed pages outside of the machine's memory");
    }
    for (const auto& [host, pages] : pieces) {
      const auto offset = static_cast<off_t>(pages.first * addr_map::kPageSize);
      const std::uint64_t length = pages.count * addr_map::kPageSize;
      if (pages.count < kMapFrom) {
        SM_TRY_STATUS(read_all_at(layer.file.get(), host, length, offset));
        continue;
      }
      if (::mmap(host, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
                 layer.file.get(), offset) == MAP_FAILED) {
        return fail_errno("map changed guest memory", errno);
      }
      ::madvise(host, length, MADV_DONTDUMP);
    }
  }
  return {};
}

Result<std::unique_ptr<GuestMemory>> GuestMemory::map(std::uint64_t bytes, int file) {
  if (bytes < kMinBytes || bytes > kMaxBytes || bytes % addr_map::kPageSize != 0) {
    return fail(Code::kInvalidArgument,
                "guest memory of " + std::to_string(bytes) + " bytes is not possible",
                "use a multiple of 4096 bytes between 1 MiB and 1 TiB");
  }
  std::unique_ptr<GuestMemory> memory(new GuestMemory(bytes));
  const std::uint64_t low = std::min(bytes, addr_map::kLowRamEnd);
  memory->regions_.push_back(SM_TRY(map_region(0, low, file, 0)));
  if (bytes > low) {
    memory->regions_.push_back(SM_TRY(map_region(addr_map::kHighRamStart, bytes - low, file, low)));
  }
  return memory;
}

GuestMemory::~GuestMemory() {
  for (const MemoryRegion& region : regions_) ::munmap(region.host, region.size);
}

// The host view of a range inside one region, or null.
std::byte* GuestMemory::host_of(GuestPhysAddr at, std::uint64_t length) const {
  for (const MemoryRegion& region : regions_) {
    const auto offset = at.offset_from(region.start);
    if (offset && *offset < region.size && fits(*offset, length, region.size)) {
      return region.host + *offset;
    }
  }
  return nullptr;
}

// The low and the high region are never adjacent, so no range can span both and be RAM throughout.
bool GuestMemory::contains(GuestPhysAddr at, std::uint64_t length) const {
  return host_of(at, length) != nullptr;
}

Status GuestMemory::read(GuestPhysAddr at, std::span<std::byte> out) const {
  const std::byte* host = host_of(at, out.size());
  if (host == nullptr) return outside(at, out.size());
  if (!out.empty()) std::memcpy(out.data(), host, out.size());  // data() may be null when empty
  return {};
}

Status GuestMemory::write(GuestPhysAddr at, std::span<const std::byte> in) {
  std::byte* host = host_of(at, in.size());
  if (host == nullptr) return outside(at, in.size());
  if (in.empty()) return {};
  std::memcpy(host, in.data(), in.size());
  report(at, in.size());
  return {};
}

Result<std::uint16_t> GuestMemory::load_acquire_u16(GuestPhysAddr at) const {
  std::byte* host = at.is_aligned(2) ? host_of(at, 2) : nullptr;
  if (host == nullptr) return outside(at, 2);
  // SAFETY: host is 2-aligned (guest address and mapping are) and lives as long as this object.
  return std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(host))
      .load(std::memory_order_acquire);
}

Status GuestMemory::store_release_u16(GuestPhysAddr at, std::uint16_t value) {
  std::byte* host = at.is_aligned(2) ? host_of(at, 2) : nullptr;
  if (host == nullptr) return outside(at, 2);
  // SAFETY: as in load_acquire_u16.
  std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(host))
      .store(value, std::memory_order_release);
  report(at, sizeof(value));
  return {};
}

Status GuestMemory::append_iovecs(GuestPhysAddr at, std::uint64_t length,
                                  std::vector<iovec>& out) const {
  std::byte* host = host_of(at, length);
  if (host == nullptr) return outside(at, length);
  out.push_back(iovec{host, length});
  return {};
}

// Reported before the kernel writes: a guest that runs code from a buffer which it has just given
// to a device has no claim to either version.
Status GuestMemory::append_writable_iovecs(GuestPhysAddr at, std::uint64_t length,
                                           std::vector<iovec>& out) {
  SM_TRY_STATUS(append_iovecs(at, length, out));
  report(at, length);
  return {};
}

}  // namespace sm
