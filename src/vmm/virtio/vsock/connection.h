// VsockConnection: one stream between a guest port and a host socket. Turns packets into bytes for
// the socket and bytes of the socket into packets, within the credit of both directions. It knows
// neither queues nor the event loop; the muxer calls it and carries out what it says.
// The device's lock. Spec: virtio 1.2, 5.10.6.
//
//   the host opens                                          the guest opens
//        v                                                        v
//   kConnecting --- RST, timeout ---> gone <--- no socket --- kAccepting
//        | <- RESPONSE                                            | RESPONSE ->
//        +--------------------> kEstablished <--------------------+
//                                |    |    |
//    both directions are over,   |    |    |  <- SHUTDOWN(both): answered with RST
//    SHUTDOWN(both) ->           |    |    +----------------+----------------------+
//                                v    |                     | bytes for the host   | none left
//                            kClosing |                     v are left             v
//                                |    | RST, misuse     kDraining ------------->  gone
//                                |    v                       written, host gone, timeout
//    <- RST, or timeout: RST ->  +--> gone
//
// Half-closed is kEstablished with shutdown flags: of the guest (guest_shutdown_) and of the host
// (shutdown_wanted_ -> shutdown_sent_), each side for each direction.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "vmm/virtio/buffers.h"
#include "vmm/virtio/vsock/byte_ring.h"
#include "vmm/virtio/vsock/credit.h"
#include "vmm/virtio/vsock/host_socket.h"
#include "vmm/virtio/vsock/wire.h"

namespace sm {

struct VsockTimeouts {
  Duration connect = std::chrono::seconds(30);  // the guest, perhaps a slow one, answers a request
  Duration close = std::chrono::seconds(8);     // the guest answers a full shutdown
  Duration drain = std::chrono::minutes(5);     // the host takes a byte of a closed connection
};

class VsockConnection {
 public:
  enum class State : std::uint8_t { kConnecting, kAccepting, kEstablished, kClosing, kDraining };
  // What the muxer has to do after an event.
  enum class Outcome : std::uint8_t {
    kKeep,      // nothing
    kGone,      // forget the connection
    kReset,     // forget it and send a reset to the guest
    kHostDone,  // close the host socket, keep the rest (kClosing)
    kDrain,     // send a reset to the guest and free the ports, keep the host socket (kDraining)
  };
  struct Emitted {
    Outcome outcome = Outcome::kKeep;
    std::uint32_t written = 0;  // 0: there was nothing to send after all
  };

  // A connection the host opens.
  VsockConnection(VsockKey key, VsockHostSocket socket, std::uint32_t buffer_size,
                  const VsockTimeouts& timeouts);
  // One the guest has asked for; its socket comes with accept().
  VsockConnection(const VsockHeader& request, std::uint32_t buffer_size,
                  const VsockTimeouts& timeouts);

  State state() const { return state_; }
  const VsockKey& key() const { return key_; }
  const VsockHostSocket& socket() const { return socket_; }
  std::optional<TimePoint> deadline() const { return deadline_; }
  std::size_t buffered() const { return to_host_.size(); }

  void accept(VsockHostSocket socket);
  void close_host() { socket_.close(); }

  // A packet that names this connection and has passed check_header(). `payload` holds at least
  // header.length bytes.
  Outcome on_packet(const VsockHeader& header, BufferReader payload);
  Outcome on_host_events(std::uint32_t events);
  Outcome on_deadline();

  // True when emit() would send something, as far as one can know without asking the socket.
  bool wants_to_send() const;
  // Writes the next packet into `space`, which holds more than a header.
  Result<Emitted> emit(GuestMemory& memory, std::span<const GuestBuffer> space, VsockCid guest);

 private:
  Outcome on_established_packet(const VsockHeader& header, BufferReader payload);
  Outcome on_guest_data(std::uint32_t length, BufferReader payload);
  Outcome on_guest_shutdown(std::uint32_t flags);
  Outcome misuse();
  void write_to_host(std::span<iovec> pieces, std::size_t& written);
  Outcome flush();
  void host_stops_receiving();
  void check_over();
  bool can_read_host() const;
  bool starved() const;
  Result<Emitted> emit_data(GuestMemory& memory, std::span<const GuestBuffer> space,
                            VsockCid guest);
  Result<Emitted> emit_control(BufferWriter space, VsockCid guest, VsockOp op, std::uint32_t flags);

  VsockKey key_;
  State state_;
  const VsockTimeouts* timeouts_;
  VsockHostSocket socket_;
  VsockSendCredit send_credit_;
  VsockReceiveCredit receive_credit_;
  ByteRing to_host_;  // bytes of the guest that the host socket would not take yet
  std::optional<TimePoint> deadline_;
  std::uint32_t guest_shutdown_ = 0;
  std::uint32_t shutdown_wanted_ = 0;
  std::uint32_t shutdown_sent_ = 0;
  bool opening_unsent_ = false;    // REQUEST or RESPONSE, whichever belongs to the state
  bool credit_unsent_ = false;     // the guest asked for our credit, or should know it
  bool credit_requested_ = false;  // we have asked for the guest's and got none yet
};

}  // namespace sm
