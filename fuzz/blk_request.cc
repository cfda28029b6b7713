// Fuzzes block requests on a real file: any cut of any header, data and ranges into buffers.
#include <fuzzer/FuzzedDataProvider.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "base/check.h"
#include "base/file.h"
#include "vmm/virtio/blk/request.h"

namespace sm {
namespace {

constexpr std::uint64_t kMemoryBytes = 1 << 20;
constexpr std::size_t kDiskBytes = 64 << 10;
// Where requests are put together; what lies behind must never change.
constexpr std::uint64_t kCanary = kMemoryBytes - 4096;

class Fixture {
 public:
  Fixture() {
    auto created = GuestMemory::create(kMemoryBytes);
    SM_CHECK(created.has_value());
    memory = std::move(*created);
    const std::vector<std::byte> canary(4096, std::byte{0xc5});
    SM_CHECK(memory->write(GuestPhysAddr(kCanary), canary).has_value());
    const std::vector<std::byte> content(kDiskBytes, std::byte{0xd1});
    for (const Access access : {Access::kReadOnly, Access::kReadWrite}) {
      auto file = memory_file("disk", content);
      SM_CHECK(file.has_value());
      if (access == Access::kReadOnly) read_only_fd = file->get();
      auto backend = FileBackend::create(std::move(*file), access);
      SM_CHECK(backend.has_value());
      (access == Access::kReadOnly ? read_only : writable) = std::move(*backend);
    }
  }
  void check_untouched() const {
    std::byte canary[4096];
    SM_CHECK(memory->read(GuestPhysAddr(kCanary), canary).has_value());
    for (const std::byte b : canary) SM_CHECK(b == std::byte{0xc5});
    std::byte disk[512];
    SM_CHECK(::pread(read_only_fd, disk, sizeof(disk), 0) == 512);
    for (const std::byte b : disk) SM_CHECK(b == std::byte{0xd1});
  }
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<FileBackend> read_only, writable;
  int read_only_fd = -1;
};

blk::Header header(FuzzedDataProvider& input) {
  blk::Header h{};
  constexpr std::uint32_t kTypes[] = {VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,
                                      VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
                                      VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
  h.type =
      input.ConsumeBool() ? input.PickValueInArray(kTypes) : input.ConsumeIntegral<std::uint32_t>();
  h.sector = input.ConsumeBool() ? input.ConsumeIntegralInRange<std::uint64_t>(0, 130)
                                 : input.ConsumeIntegral<std::uint64_t>();
  return h;
}

// Cuts [at, at+bytes) into buffers.
void cut(FuzzedDataProvider& input, std::uint64_t at, std::uint64_t bytes,
         std::vector<GuestBuffer>& out) {
  while (bytes != 0) {
    auto n = static_cast<std::uint32_t>(bytes);
    if (out.size() < 64) n = input.ConsumeIntegralInRange<std::uint32_t>(1, n);
    out.push_back({GuestPhysAddr(at), n});
    at += n;
    bytes -= n;
  }
}

void run(Fixture& fixture, FuzzedDataProvider& input) {
  blk::Disk disk;
  const int kind = input.ConsumeIntegralInRange<int>(0, 4);
  disk.read_only = kind == 0;
  if (kind != 4) disk.backend = kind == 0 ? fixture.read_only.get() : fixture.writable.get();
  disk.write_through = input.ConsumeBool();
  blk::RequestExecutor executor(*fixture.memory);

  for (int i = 0; i < 16 && input.remaining_bytes() != 0; ++i) {
    const blk::Header h = header(input);
    std::string request(reinterpret_cast<const char*>(&h), sizeof(h));
    for (int ranges = input.ConsumeIntegralInRange<int>(0, 3); ranges > 0; --ranges) {
      const blk::Range range{input.ConsumeIntegralInRange<std::uint64_t>(0, 200),
                             input.ConsumeIntegralInRange<std::uint32_t>(0, 200),
                             input.ConsumeIntegralInRange<std::uint32_t>(0, 2)};
      request.append(reinterpret_cast<const char*>(&range), sizeof(range));
    }
    request += input.ConsumeRandomLengthString(2048);
    if (input.ConsumeBool()) request.resize(16 + (request.size() - 16) / 512 * 512);
    if (input.ConsumeBool()) request.resize(input.ConsumeIntegralInRange<std::size_t>(0, 40));
    SM_CHECK(fixture.memory->write(GuestPhysAddr(0x1000), std::as_bytes(std::span(request)))
                 .has_value());
    const auto data = input.ConsumeIntegralInRange<std::uint64_t>(0, 140) * 512;
    const std::uint64_t writable = data + input.ConsumeIntegralInRange<std::uint64_t>(0, 22);
    Chain chain;
    cut(input, 0x1000, request.size(), chain.readable);
    // Right up to the canary, so that one byte too many is seen.
    cut(input, kCanary - writable, writable, chain.writable);

    const auto outcome = executor.execute(disk, chain);
    if (!outcome) {
      SM_CHECK(writable == 0);
      continue;
    }
    SM_CHECK(outcome->written <= writable);
    const auto status = fixture.memory->read_object<std::uint8_t>(GuestPhysAddr(kCanary - 1));
    SM_CHECK(status.has_value() && *status == outcome->status);
    SM_CHECK(*status <= VIRTIO_BLK_S_UNSUPP);
  }
  fixture.check_untouched();
}

}  // namespace
}  // namespace sm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static sm::Fixture fixture;
  FuzzedDataProvider input(data, size);
  sm::run(fixture, input);
  return 0;
}
