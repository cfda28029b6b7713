#include "vmm/virtio/vsock/connection.h"

#include <algorithm>

namespace sm {

using Io = VsockHostSocket::Io;

VsockConnection::VsockConnection(VsockKey key, VsockHostSocket socket, std::uint32_t buffer_size,
                                 const VsockTimeouts& timeouts)
    : key_(key),
      state_(State::kConnecting),
      timeouts_(&timeouts),
      socket_(std::move(socket)),
      receive_credit_(buffer_size),
      to_host_(buffer_size),
      deadline_(now() + timeouts.connect),
      opening_unsent_(true) {}

VsockConnection::VsockConnection(const VsockHeader& request, std::uint32_t buffer_size,
                                 const VsockTimeouts& timeouts)
    : key_(request.key),
      state_(State::kAccepting),
      timeouts_(&timeouts),
      receive_credit_(buffer_size),
      to_host_(buffer_size) {
  send_credit_.update(request.buffer_size, request.forwarded);
}

void VsockConnection::accept(VsockHostSocket socket) {
  socket_ = std::move(socket);
  state_ = State::kEstablished;
  opening_unsent_ = true;
}

VsockConnection::Outcome VsockConnection::misuse() {
  socket_.reset_on_close();
  return Outcome::kReset;
}

// --- from the guest ---

VsockConnection::Outcome VsockConnection::on_packet(const VsockHeader& header,
                                                    BufferReader payload) {
  if (header.is(VsockOp::kReset)) {
    if (state_ != State::kClosing) socket_.reset_on_close();
    return Outcome::kGone;
  }
  send_credit_.update(header.buffer_size, header.forwarded);
  if (send_credit_.available() != 0) credit_requested_ = false;
  switch (state_) {
    case State::kConnecting:
      if (!header.is(VsockOp::kResponse) || opening_unsent_) return misuse();
      state_ = State::kEstablished;
      deadline_.reset();
      if (socket_.hung_up()) host_stops_receiving();
      return Outcome::kKeep;
    case State::kEstablished:
      return on_established_packet(header, payload);
    case State::kClosing:
      if (header.is(VsockOp::kShutdown)) guest_shutdown_ |= header.flags & kVsockShutdownBoth;
      // Data and credit that crossed our shutdown on their way mean nothing any more.
      if (guest_shutdown_ == kVsockShutdownBoth || header.is(VsockOp::kRequest)) {
        return Outcome::kReset;
      }
      return Outcome::kKeep;
    case State::kAccepting:
    case State::kDraining:
      break;
  }
  return misuse();
}

VsockConnection::Outcome VsockConnection::on_established_packet(const VsockHeader& header,
                                                                BufferReader payload) {
  if (header.is(VsockOp::kData)) return on_guest_data(header.length, payload);
  if (header.is(VsockOp::kShutdown)) return on_guest_shutdown(header.flags & kVsockShutdownBoth);
  if (header.is(VsockOp::kCreditUpdate)) return Outcome::kKeep;
  if (header.is(VsockOp::kCreditRequest)) {
    credit_unsent_ = true;
    return Outcome::kKeep;
  }
  return misuse();  // a second request or response
}

VsockConnection::Outcome VsockConnection::on_guest_data(std::uint32_t length,
                                                        BufferReader payload) {
  if ((guest_shutdown_ & kVsockNoSend) != 0 || !receive_credit_.admit(length)) return misuse();
  std::size_t written = 0;
  if (to_host_.empty() && socket_.writable() && length != 0) {
    // The common case: from guest memory into the socket without a copy of ours.
    std::vector<iovec> pieces;
    BufferReader direct = payload;
    if (!direct.take_iovecs(length, pieces)) return misuse();
    write_to_host(pieces, written);
  }
  if ((shutdown_wanted_ & kVsockNoReceive) != 0) {
    // Nobody will read it; the guest learns so from our shutdown.
    receive_credit_.forward(length - static_cast<std::uint32_t>(written));
  } else if (written < length) {
    const bool copied = payload.skip(written) && to_host_.append(length - written, [&](auto to) {
      return payload.read(to).has_value();
    });
    if (!copied) return misuse();
  }
  return Outcome::kKeep;
}

VsockConnection::Outcome VsockConnection::on_guest_shutdown(std::uint32_t flags) {
  const std::uint32_t fresh = flags & ~guest_shutdown_;
  guest_shutdown_ |= flags;
  if ((fresh & kVsockNoReceive) != 0) socket_.end_reading();
  if (guest_shutdown_ == kVsockShutdownBoth) {
    if (to_host_.empty()) return Outcome::kReset;
    state_ = State::kDraining;
    deadline_ = now() + timeouts_->drain;
    return Outcome::kDrain;
  }
  if ((fresh & kVsockNoSend) != 0 && to_host_.empty()) socket_.end_writing();
  check_over();
  return Outcome::kKeep;
}

// --- to the host ---

// Hands bytes to the socket and frees the guest's credit for them.
void VsockConnection::write_to_host(std::span<iovec> pieces, std::size_t& written) {
  const auto transfer = socket_.write(pieces);
  written = transfer.bytes;
  receive_credit_.forward(static_cast<std::uint32_t>(transfer.bytes));
  if (receive_credit_.update_due()) credit_unsent_ = true;
  if (transfer.status == Io::kEnd) host_stops_receiving();
}

VsockConnection::Outcome VsockConnection::flush() {
  while (!to_host_.empty() && socket_.writable()) {
    auto pieces = to_host_.pieces();
    std::size_t written = 0;
    write_to_host(std::span(pieces).first(pieces[1].iov_len == 0 ? 1 : 2), written);
    if (written == 0) break;
    to_host_.drop(written);
    if (state_ == State::kDraining) deadline_ = now() + timeouts_->drain;
  }
  if (!to_host_.empty()) return Outcome::kKeep;
  if (state_ == State::kDraining) return Outcome::kGone;
  return Outcome::kKeep;
}

// The host peer has gone, or will not read any more.
void VsockConnection::host_stops_receiving() {
  receive_credit_.forward(static_cast<std::uint32_t>(to_host_.size()));
  to_host_.clear();
  shutdown_wanted_ |= kVsockNoReceive;
  check_over();
}

// When neither direction has anything left to carry, the whole connection is closed.
void VsockConnection::check_over() {
  const bool to_guest_over =
      (shutdown_wanted_ & kVsockNoSend) != 0 || (guest_shutdown_ & kVsockNoReceive) != 0;
  const bool to_host_over = (shutdown_wanted_ & kVsockNoReceive) != 0 ||
                            ((guest_shutdown_ & kVsockNoSend) != 0 && to_host_.empty());
  if (to_guest_over && to_host_over) shutdown_wanted_ = kVsockShutdownBoth;
}

VsockConnection::Outcome VsockConnection::on_host_events(std::uint32_t events) {
  socket_.note_events(events);
  if (state_ != State::kEstablished && state_ != State::kDraining) return Outcome::kKeep;
  const bool had_bytes = !to_host_.empty();
  const Outcome outcome = flush();
  if (outcome != Outcome::kKeep) return outcome;
  if (had_bytes && to_host_.empty() && (guest_shutdown_ & kVsockNoSend) != 0) {
    socket_.end_writing();
  }
  if (socket_.hung_up() && to_host_.empty()) host_stops_receiving();
  if (state_ == State::kEstablished) check_over();
  return Outcome::kKeep;
}

VsockConnection::Outcome VsockConnection::on_deadline() {
  deadline_.reset();
  switch (state_) {
    case State::kConnecting:
      // A guest that was never asked needs no answer.
      return opening_unsent_ ? Outcome::kGone : Outcome::kReset;
    case State::kClosing:
      return Outcome::kReset;
    case State::kDraining:
      return Outcome::kGone;
    case State::kAccepting:
    case State::kEstablished:
      break;
  }
  return Outcome::kKeep;
}

// --- to the guest ---

bool VsockConnection::can_read_host() const {
  return socket_.readable() && (shutdown_wanted_ & kVsockNoSend) == 0 &&
         (guest_shutdown_ & kVsockNoReceive) == 0;
}

// There may be bytes for the guest, but it has no room and was not asked yet.
bool VsockConnection::starved() const {
  return can_read_host() && send_credit_.available() == 0 && !credit_requested_;
}

bool VsockConnection::wants_to_send() const {
  if (state_ == State::kConnecting) return opening_unsent_;
  if (state_ != State::kEstablished) return false;
  return opening_unsent_ || credit_unsent_ || shutdown_wanted_ != shutdown_sent_ ||
         (can_read_host() && send_credit_.available() != 0) || starved();
}

Result<VsockConnection::Emitted> VsockConnection::emit(GuestMemory& memory,
                                                       std::span<const GuestBuffer> space,
                                                       VsockCid guest) {
  const BufferWriter writer(memory, space);
  if (opening_unsent_) {
    opening_unsent_ = false;
    const VsockOp op = state_ == State::kConnecting ? VsockOp::kRequest : VsockOp::kResponse;
    return emit_control(writer, guest, op, 0);
  }
  if (state_ != State::kEstablished) return Emitted{};
  if (shutdown_wanted_ == shutdown_sent_ && can_read_host() && send_credit_.available() != 0) {
    const Emitted data = SM_TRY(emit_data(memory, space, guest));
    if (data.written != 0 || data.outcome != Outcome::kKeep) return data;
  }
  if (shutdown_wanted_ != shutdown_sent_) {
    shutdown_sent_ = shutdown_wanted_;
    Emitted sent = SM_TRY(emit_control(writer, guest, VsockOp::kShutdown, shutdown_sent_));
    if (shutdown_sent_ == kVsockShutdownBoth) {
      state_ = State::kClosing;
      deadline_ = now() + timeouts_->close;
      sent.outcome = Outcome::kHostDone;
    }
    return sent;
  }
  if (credit_unsent_) return emit_control(writer, guest, VsockOp::kCreditUpdate, 0);
  if (starved()) {
    credit_requested_ = true;
    return emit_control(writer, guest, VsockOp::kCreditRequest, 0);
  }
  return Emitted{};
}

// Reads from the socket straight into guest memory, then puts the header in front.
Result<VsockConnection::Emitted> VsockConnection::emit_data(GuestMemory& memory,
                                                            std::span<const GuestBuffer> space,
                                                            VsockCid guest) {
  std::vector<iovec> pieces;
  BufferWriter body(memory, space);
  SM_TRY_STATUS(body.take_iovecs(kVsockHeaderSize, pieces));
  pieces.clear();
  const std::uint64_t limit =
      std::min<std::uint64_t>({send_credit_.available(), kVsockMaxPayload, body.remaining()});
  SM_TRY_STATUS(body.take_iovecs(limit, pieces));
  const auto transfer = socket_.read(pieces);
  switch (transfer.status) {
    case Io::kDone:
      break;
    case Io::kBlocked:
      return Emitted{};
    case Io::kEnd:
      shutdown_wanted_ |= kVsockNoSend;
      check_over();
      return Emitted{};
    case Io::kBroken:
      return Emitted{misuse(), 0};
  }
  const auto length = static_cast<std::uint32_t>(transfer.bytes);
  send_credit_.sent(length);
  credit_unsent_ = false;
  const VsockReply header{.key = key_,
                          .op = VsockOp::kData,
                          .length = length,
                          .buffer_size = receive_credit_.buffer_size(),
                          .forwarded = receive_credit_.announce()};
  SM_TRY_STATUS(BufferWriter(memory, space).write_object(header.to_guest(guest)));
  return Emitted{Outcome::kKeep, static_cast<std::uint32_t>(kVsockHeaderSize) + length};
}

Result<VsockConnection::Emitted> VsockConnection::emit_control(BufferWriter space, VsockCid guest,
                                                               VsockOp op, std::uint32_t flags) {
  credit_unsent_ = false;
  const VsockReply header{.key = key_,
                          .op = op,
                          .flags = flags,
                          .buffer_size = receive_credit_.buffer_size(),
                          .forwarded = receive_credit_.announce()};
  SM_TRY_STATUS(space.write_object(header.to_guest(guest)));
  return Emitted{Outcome::kKeep, static_cast<std::uint32_t>(kVsockHeaderSize)};
}

}  // namespace sm
