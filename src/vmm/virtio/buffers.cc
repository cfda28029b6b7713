#include "vmm/virtio/buffers.h"

#include <algorithm>

#include "base/check.h"

namespace sm {

namespace {

tl::unexpected<Error> too_short(std::uint64_t wanted, std::uint64_t remaining) {
  return fail(Code::kGuest, "request needs " + std::to_string(wanted) + " more bytes of buffer, " +
                                std::to_string(remaining) + " remain");
}

}  // namespace

std::uint64_t total_length(std::span<const GuestBuffer> buffers) {
  std::uint64_t total = 0;
  for (const GuestBuffer& buffer : buffers) total += buffer.length;
  return total;
}

GuestBuffer BufferCursor::take_piece(std::uint64_t n) {
  SM_CHECK(n != 0 && remaining_ != 0);
  while (offset_ == buffers_.front().length) {
    buffers_ = buffers_.subspan(1);
    offset_ = 0;
  }
  const GuestBuffer& front = buffers_.front();
  // Both fit: the piece is not longer than the buffer, which was verified to lie in RAM.
  const auto length =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(n, front.length - offset_));
  const GuestBuffer piece{GuestPhysAddr(front.address.raw() + offset_), length};
  offset_ += length;
  remaining_ -= length;
  return piece;
}

Status BufferReader::read(std::span<std::byte> out) {
  if (out.size() > remaining()) return too_short(out.size(), remaining());
  while (!out.empty()) {
    const GuestBuffer piece = cursor_.take_piece(out.size());
    SM_TRY_STATUS(memory_->read(piece.address, out.first(piece.length)));
    out = out.subspan(piece.length);
  }
  return {};
}

Status BufferReader::skip(std::uint64_t n) {
  if (n > remaining()) return too_short(n, remaining());
  while (n != 0) n -= cursor_.take_piece(n).length;
  return {};
}

Status BufferReader::take_iovecs(std::uint64_t n, std::vector<iovec>& out) {
  if (n > remaining()) return too_short(n, remaining());
  while (n != 0) {
    const GuestBuffer piece = cursor_.take_piece(n);
    SM_TRY_STATUS(memory_->append_iovecs(piece.address, piece.length, out));
    n -= piece.length;
  }
  return {};
}

Status BufferWriter::write(std::span<const std::byte> in) {
  if (in.size() > remaining()) return too_short(in.size(), remaining());
  while (!in.empty()) {
    const GuestBuffer piece = cursor_.take_piece(in.size());
    SM_TRY_STATUS(memory_->write(piece.address, in.first(piece.length)));
    in = in.subspan(piece.length);
  }
  return {};
}

Status BufferWriter::take_iovecs(std::uint64_t n, std::vector<iovec>& out) {
  if (n > remaining()) return too_short(n, remaining());
  while (n != 0) {
    const GuestBuffer piece = cursor_.take_piece(n);
    SM_TRY_STATUS(memory_->append_writable_iovecs(piece.address, piece.length, out));
    n -= piece.length;
  }
  return {};
}

}  // namespace sm
