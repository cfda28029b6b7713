// The packets of virtio-vsock: the header in host form, and the checks that need no connection.
// Pure functions on values; any thread. Spec: virtio 1.2, 5.10.6.
#pragma once

#include <linux/virtio_vsock.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace sm {

// A port of either side. Guest ports and host ports are different spaces.
enum class VsockPort : std::uint32_t {};
constexpr std::uint32_t raw(VsockPort port) { return static_cast<std::uint32_t>(port); }

// A context id: who sends or receives. Spec: virtio 1.2, 5.10.4.
enum class VsockCid : std::uint64_t { kHost = 2, kFirstGuest = 3, kLastGuest = 0xFFFF'FFFE };

enum class VsockOp : std::uint16_t {
  kRequest = VIRTIO_VSOCK_OP_REQUEST,
  kResponse = VIRTIO_VSOCK_OP_RESPONSE,
  kReset = VIRTIO_VSOCK_OP_RST,
  kShutdown = VIRTIO_VSOCK_OP_SHUTDOWN,
  kData = VIRTIO_VSOCK_OP_RW,
  kCreditUpdate = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  kCreditRequest = VIRTIO_VSOCK_OP_CREDIT_REQUEST,
};

inline constexpr std::uint16_t kVsockStream = VIRTIO_VSOCK_TYPE_STREAM;

// Flags of kShutdown: the sender will not receive or not send any more.
inline constexpr std::uint32_t kVsockNoReceive = VIRTIO_VSOCK_SHUTDOWN_RCV;
inline constexpr std::uint32_t kVsockNoSend = VIRTIO_VSOCK_SHUTDOWN_SEND;
inline constexpr std::uint32_t kVsockShutdownBoth = kVsockNoReceive | kVsockNoSend;

inline constexpr std::size_t kVsockHeaderSize = sizeof(virtio_vsock_hdr);
static_assert(kVsockHeaderSize == 44);
// Limit: what Linux sends in one packet; a longer one is refused.
inline constexpr std::uint32_t kVsockMaxPayload = 64u << 10;

// The two ports name a connection, since both context ids are fixed.
struct VsockKey {
  VsockPort guest_port{};
  VsockPort host_port{};
  bool operator==(const VsockKey&) const = default;
};

struct VsockKeyHash {
  std::size_t operator()(const VsockKey& key) const {
    return std::hash<std::uint64_t>{}(std::uint64_t{raw(key.guest_port)} << 32 |
                                      raw(key.host_port));
  }
};

// A header that came from the guest. The wire form is little-endian, as is every host we run on.
struct VsockHeader {
  VsockCid source{};
  VsockCid destination{};
  VsockKey key;
  std::uint32_t length = 0;
  std::uint16_t type = 0;
  std::uint16_t op = 0;
  std::uint32_t flags = 0;
  std::uint32_t buffer_size = 0;  // buf_alloc: the sender's receive buffer
  std::uint32_t forwarded = 0;    // fwd_cnt: bytes its user has taken out of it so far

  static VsockHeader from_guest(const virtio_vsock_hdr& wire) {
    return {.source = VsockCid{wire.src_cid},
            .destination = VsockCid{wire.dst_cid},
            .key = {VsockPort{wire.src_port}, VsockPort{wire.dst_port}},
            .length = wire.len,
            .type = wire.type,
            .op = wire.op,
            .flags = wire.flags,
            .buffer_size = wire.buf_alloc,
            .forwarded = wire.fwd_cnt};
  }
  bool is(VsockOp wanted) const { return op == static_cast<std::uint16_t>(wanted); }
};

// What has to happen to a packet before anyone looks for its connection.
enum class VsockVerdict : std::uint8_t {
  kAccept,     // well-formed
  kDrop,       // not from this guest or not for this host: no answer
  kWrongType,  // not a stream: a reset of that type, whatever connection the ports may name
  kMalformed,  // breaks the connection it names
};

// `payload` is how many bytes really follow the header.
inline VsockVerdict check_header(const VsockHeader& header, VsockCid guest, std::uint64_t payload) {
  if (header.source != guest || header.destination != VsockCid::kHost) return VsockVerdict::kDrop;
  if (header.type != kVsockStream) {
    return header.is(VsockOp::kReset) ? VsockVerdict::kDrop : VsockVerdict::kWrongType;
  }
  // A reset ends the connection whatever else it says, and is never answered.
  if (header.is(VsockOp::kReset)) return VsockVerdict::kAccept;
  const bool known_op = header.op >= static_cast<std::uint16_t>(VsockOp::kRequest) &&
                        header.op <= static_cast<std::uint16_t>(VsockOp::kCreditRequest);
  if (!known_op || header.length > kVsockMaxPayload || header.length > payload) {
    return VsockVerdict::kMalformed;
  }
  if (header.length != 0 && !header.is(VsockOp::kData)) return VsockVerdict::kMalformed;
  return VsockVerdict::kAccept;
}

// The host's half of a header; the guest's is the same for all.
struct VsockReply {
  VsockKey key;
  std::uint16_t type = kVsockStream;
  VsockOp op = VsockOp::kReset;
  std::uint32_t flags = 0;
  std::uint32_t length = 0;
  std::uint32_t buffer_size = 0;
  std::uint32_t forwarded = 0;

  virtio_vsock_hdr to_guest(VsockCid guest) const {
    return {.src_cid = static_cast<std::uint64_t>(VsockCid::kHost),
            .dst_cid = static_cast<std::uint64_t>(guest),
            .src_port = raw(key.host_port),
            .dst_port = raw(key.guest_port),
            .len = length,
            .type = type,
            .op = static_cast<std::uint16_t>(op),
            .flags = flags,
            .buf_alloc = buffer_size,
            .fwd_cnt = forwarded};
  }
};

}  // namespace sm
