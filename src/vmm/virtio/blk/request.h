// One block request: parsed from a chain, checked against the disk, carried out on a backend.
// Everything in a chain is guest-controlled. Thread: the device's lock. Spec: virtio 1.2, 5.2.6.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/virtio/blk/backend.h"
#include "vmm/virtio/blk/wire.h"
#include "vmm/virtio/queue.h"

namespace sm::blk {

// What a request is carried out on. `backend` is null while no disk is bound.
struct Disk {
  BlockBackend* backend = nullptr;
  std::array<std::byte, kSerialBytes> serial{};
  bool read_only = false;
  // The driver did not take the flush command, so each write must be stable when it completes.
  // Spec: virtio 1.2, 5.2.6.2.
  bool write_through = false;
};

// The framing of one chain: whatever way the driver has cut it, the first 16 readable bytes are the
// header and the last writable byte is the status.
struct Request {
  Header header{};  // zero unless has_header
  bool has_header = false;
  std::uint64_t readable_data = 0;  // bytes behind the header
  std::uint64_t writable_data = 0;  // bytes before the status
  GuestPhysAddr status_at;
};

// An error when there is no byte for the status: such a request cannot even be refused.
Result<Request> parse_request(const GuestMemory& memory, const Chain& chain);

struct Outcome {
  std::uint8_t status = VIRTIO_BLK_S_IOERR;
  std::uint32_t written = 0;  // into the chain, counted without gaps from its start
  std::uint64_t moved = 0;    // disk bytes read, written or zeroed, for fairness
  bool changed = false;       // the disk may no longer be what it was
};

class RequestExecutor {
 public:
  explicit RequestExecutor(GuestMemory& memory) : memory_(memory) {}
  // Carries out one request and writes its status. An error means the chain cannot be answered.
  Result<Outcome> execute(const Disk& disk, const Chain& chain);

 private:
  // Each carries out one type of request; `written` counts data only.
  Outcome dispatch(const Disk& disk, const Request& request, const Chain& chain);
  Outcome read(const Disk& disk, const Request& request, const Chain& chain);
  Outcome write(const Disk& disk, const Request& request, const Chain& chain);
  Outcome get_id(const Disk& disk, const Request& request, const Chain& chain);
  Outcome change_ranges(const Disk& disk, const Request& request, const Chain& chain);

  GuestMemory& memory_;
  std::vector<iovec> iovecs_;  // reused
};

// True when [sector, sector+count) lies on the disk.
bool on_disk(const Disk& disk, std::uint64_t sector, std::uint64_t count);

}  // namespace sm::blk
