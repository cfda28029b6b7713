#include "vmm/virtio/blk/request.h"

#include "base/checked.h"

namespace sm::blk {

namespace {

std::uint8_t status_of(const Status& status) {
  if (status) return VIRTIO_BLK_S_OK;
  return status.error().code() == Code::kUnsupported ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

Outcome refuse(std::uint8_t status = VIRTIO_BLK_S_IOERR) { return {.status = status}; }

Status discard_range(BlockBackend& backend, const Range& range) {
  if (range.num_sectors == 0) return {};
  return backend.discard(range.sector * kSectorBytes, range.num_sectors * kSectorBytes);
}

Status zero_range(BlockBackend& backend, const Range& range) {
  if (range.num_sectors == 0) return {};
  const bool unmap = (range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
  return backend.write_zeroes(range.sector * kSectorBytes, range.num_sectors * kSectorBytes,
                              unmap ? Unmap::kAllowed : Unmap::kForbidden);
}

// A data transfer of `bytes` starting at the header's sector.
bool valid_transfer(const Disk& disk, std::uint64_t sector, std::uint64_t bytes) {
  return bytes % kSectorBytes == 0 && bytes <= kMaxDataBytes &&
         on_disk(disk, sector, bytes / kSectorBytes);
}

}  // namespace

bool on_disk(const Disk& disk, std::uint64_t sector, std::uint64_t count) {
  const std::uint64_t sectors = disk.backend == nullptr ? 0 : disk.backend->size() / kSectorBytes;
  return fits(sector, count, sectors);
}

Result<Request> parse_request(const GuestMemory& memory, const Chain& chain) {
  Request request;
  const std::uint64_t writable = total_length(chain.writable);
  if (writable == 0) return fail(Code::kGuest, "block request without a status byte");
  const GuestBuffer& last = chain.writable.back();
  request.status_at = GuestPhysAddr(last.address.raw() + (last.length - 1));
  request.writable_data = writable - 1;
  BufferReader reader(memory, chain.readable);
  if (reader.remaining() < sizeof(Header)) return request;
  request.header = SM_TRY(reader.read_object<Header>());
  request.has_header = true;
  request.readable_data = reader.remaining();
  return request;
}

Result<Outcome> RequestExecutor::execute(const Disk& disk, const Chain& chain) {
  const Request request = SM_TRY(parse_request(memory_, chain));
  Outcome outcome = request.has_header ? dispatch(disk, request, chain) : refuse();
  SM_TRY_STATUS(memory_.write_object(request.status_at, outcome.status));
  // The status lies behind the data, so it only counts when there is no gap before it.
  if (outcome.written == request.writable_data) ++outcome.written;
  return outcome;
}

Outcome RequestExecutor::dispatch(const Disk& disk, const Request& request, const Chain& chain) {
  const std::uint32_t type = request.header.type;
  if (type == VIRTIO_BLK_T_GET_ID) return get_id(disk, request, chain);
  if (disk.backend == nullptr) return refuse();
  switch (type) {
    case VIRTIO_BLK_T_IN:
      return read(disk, request, chain);
    case VIRTIO_BLK_T_OUT:
      return write(disk, request, chain);
    case VIRTIO_BLK_T_FLUSH:
      return {.status = status_of(disk.backend->flush())};
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return change_ranges(disk, request, chain);
    default:
      return refuse(VIRTIO_BLK_S_UNSUPP);
  }
}

Outcome RequestExecutor::read(const Disk& disk, const Request& request, const Chain& chain) {
  const std::uint64_t bytes = request.writable_data;
  if (!valid_transfer(disk, request.header.sector, bytes)) return refuse();
  iovecs_.clear();
  BufferWriter writer(memory_, chain.writable);
  if (!writer.take_iovecs(bytes, iovecs_)) return refuse();
  const Status status = disk.backend->read(request.header.sector * kSectorBytes, iovecs_);
  // After a failure nobody knows how much was written.
  return {.status = status_of(status),
          .written = status ? static_cast<std::uint32_t>(bytes) : 0,  // at most kMaxDataBytes
          .moved = bytes};
}

Outcome RequestExecutor::write(const Disk& disk, const Request& request, const Chain& chain) {
  const std::uint64_t bytes = request.readable_data;
  if (disk.read_only || !valid_transfer(disk, request.header.sector, bytes)) return refuse();
  iovecs_.clear();
  BufferReader reader(memory_, chain.readable);
  if (!reader.skip(sizeof(Header)) || !reader.take_iovecs(bytes, iovecs_)) return refuse();
  const auto durability = disk.write_through ? Durability::kDurable : Durability::kVolatile;
  const Status status =
      disk.backend->write(request.header.sector * kSectorBytes, iovecs_, durability);
  return {.status = status_of(status), .moved = bytes, .changed = true};
}

Outcome RequestExecutor::get_id(const Disk& disk, const Request& request, const Chain& chain) {
  if (request.writable_data < kSerialBytes) return refuse();
  BufferWriter writer(memory_, chain.writable);
  if (!writer.write(disk.serial)) return refuse();
  return {.status = VIRTIO_BLK_S_OK, .written = kSerialBytes};
}

// DISCARD and WRITE_ZEROES: the data is a list of ranges. All are checked before the first is
// carried out.
Outcome RequestExecutor::change_ranges(const Disk& disk, const Request& request,
                                       const Chain& chain) {
  const bool discard = request.header.type == VIRTIO_BLK_T_DISCARD;
  const std::uint64_t max_ranges = discard ? kMaxDiscardRanges : kMaxZeroRanges;
  const std::uint64_t max_sectors = discard ? kMaxDiscardSectors : kMaxZeroSectors;
  const std::uint64_t count = request.readable_data / sizeof(Range);
  if (disk.read_only || request.readable_data % sizeof(Range) != 0 || count == 0 ||
      count > max_ranges) {
    return refuse();
  }
  std::array<Range, kMaxDiscardRanges> storage;
  const auto ranges = std::span(storage).first(count);
  BufferReader reader(memory_, chain.readable);
  if (!reader.skip(sizeof(Header)) || !reader.read(std::as_writable_bytes(ranges))) {
    return refuse();
  }
  // Spec: virtio 1.2, 5.2.6.2: unknown flags, and unmap for a discard, are not supported.
  const std::uint32_t known_flags = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  for (const Range& range : ranges) {
    if ((range.flags & ~known_flags) != 0) return refuse(VIRTIO_BLK_S_UNSUPP);
    if (range.num_sectors > max_sectors || !on_disk(disk, range.sector, range.num_sectors)) {
      return refuse();
    }
  }
  Outcome outcome{.status = VIRTIO_BLK_S_OK, .changed = true};
  for (const Range& range : ranges) {
    const Status status =
        discard ? discard_range(*disk.backend, range) : zero_range(*disk.backend, range);
    if (!discard) outcome.moved += range.num_sectors * kSectorBytes;
    if (status) continue;
    outcome.status = status_of(status);
    break;
  }
  return outcome;
}

}  // namespace sm::blk
