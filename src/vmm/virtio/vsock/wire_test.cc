#include "vmm/virtio/vsock/wire.h"

#include <gtest/gtest.h>

#include <cstring>

namespace sm {
namespace {

constexpr VsockCid kGuest{3};

VsockHeader good(VsockOp op, std::uint32_t length = 0) {
  return {.source = kGuest,
          .destination = VsockCid::kHost,
          .key = {VsockPort{1}, VsockPort{2}},
          .length = length,
          .type = kVsockStream,
          .op = static_cast<std::uint16_t>(op)};
}

TEST(VsockWire, header_fields_come_from_their_places) {
  // Spec: virtio 1.2, 5.10.6: offsets 0, 8, 16, 20, 24, 28, 30, 32, 36, 40.
  unsigned char bytes[kVsockHeaderSize] = {};
  bytes[0] = 3;
  bytes[8] = 2;
  bytes[16] = 0x11;
  bytes[20] = 0x22;
  bytes[24] = 0x33;
  bytes[28] = 1;
  bytes[30] = 5;
  bytes[32] = 0x44;
  bytes[36] = 0x55;
  bytes[40] = 0x66;
  virtio_vsock_hdr wire;
  std::memcpy(&wire, bytes, sizeof(wire));
  const VsockHeader h = VsockHeader::from_guest(wire);
  EXPECT_EQ(h.source, kGuest);
  EXPECT_EQ(h.destination, VsockCid::kHost);
  EXPECT_EQ(h.key, (VsockKey{VsockPort{0x11}, VsockPort{0x22}}));
  EXPECT_EQ(h.length, 0x33u);
  EXPECT_EQ(h.type, kVsockStream);
  EXPECT_TRUE(h.is(VsockOp::kData));
  EXPECT_EQ(h.flags, 0x44u);
  EXPECT_EQ(h.buffer_size, 0x55u);
  EXPECT_EQ(h.forwarded, 0x66u);
}

TEST(VsockWire, reply_names_host_as_source_and_guest_as_destination) {
  const VsockReply reply{.key = {VsockPort{7}, VsockPort{8}},
                         .op = VsockOp::kShutdown,
                         .flags = 3,
                         .length = 4,
                         .buffer_size = 5,
                         .forwarded = 6};
  const virtio_vsock_hdr wire = reply.to_guest(kGuest);
  EXPECT_EQ(wire.src_cid, 2u);
  EXPECT_EQ(wire.dst_cid, 3u);
  EXPECT_EQ(wire.src_port, 8u);
  EXPECT_EQ(wire.dst_port, 7u);
  EXPECT_EQ(wire.len, 4u);
  EXPECT_EQ(wire.type, kVsockStream);
  EXPECT_EQ(wire.op, VIRTIO_VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(wire.flags, 3u);
  EXPECT_EQ(wire.buf_alloc, 5u);
  EXPECT_EQ(wire.fwd_cnt, 6u);
}

TEST(VsockWire, every_op_without_payload_is_accepted) {
  for (const VsockOp op :
       {VsockOp::kRequest, VsockOp::kResponse, VsockOp::kReset, VsockOp::kShutdown, VsockOp::kData,
        VsockOp::kCreditUpdate, VsockOp::kCreditRequest}) {
    EXPECT_EQ(check_header(good(op), kGuest, 0), VsockVerdict::kAccept);
  }
}

TEST(VsockWire, unknown_ops_are_malformed) {
  for (const int op : {0, 8, 9, 255, 256, 0x8005, 0xFFFF}) {
    VsockHeader h = good(VsockOp::kData);
    h.op = static_cast<std::uint16_t>(op);
    EXPECT_EQ(check_header(h, kGuest, 0), VsockVerdict::kMalformed) << op;
  }
}

TEST(VsockWire, foreign_context_ids_are_dropped) {
  for (const std::uint64_t cid : {0ull, 1ull, 3ull, 4ull, 0x1'0000'0002ull, ~0ull}) {
    VsockHeader h = good(VsockOp::kRequest);
    h.destination = VsockCid{cid};
    EXPECT_EQ(check_header(h, kGuest, 0), VsockVerdict::kDrop) << cid;
  }
  for (const std::uint64_t cid : {0ull, 1ull, 2ull, 4ull, 0x1'0000'0003ull, ~0ull}) {
    VsockHeader h = good(VsockOp::kRequest);
    h.source = VsockCid{cid};
    EXPECT_EQ(check_header(h, kGuest, 0), VsockVerdict::kDrop) << cid;
  }
}

TEST(VsockWire, other_socket_types_are_refused_but_their_resets_never_answered) {
  VsockHeader h = good(VsockOp::kRequest);
  h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
  EXPECT_EQ(check_header(h, kGuest, 0), VsockVerdict::kWrongType);
  h.op = VIRTIO_VSOCK_OP_RST;
  EXPECT_EQ(check_header(h, kGuest, 0), VsockVerdict::kDrop);
}

TEST(VsockWire, payload_must_be_there_and_at_most_64_kib) {
  EXPECT_EQ(check_header(good(VsockOp::kData, 10), kGuest, 10), VsockVerdict::kAccept);
  EXPECT_EQ(check_header(good(VsockOp::kData, 10), kGuest, 11), VsockVerdict::kAccept);
  EXPECT_EQ(check_header(good(VsockOp::kData, 10), kGuest, 9), VsockVerdict::kMalformed);
  EXPECT_EQ(check_header(good(VsockOp::kData, 65536), kGuest, 1 << 20), VsockVerdict::kAccept);
  EXPECT_EQ(check_header(good(VsockOp::kData, 65537), kGuest, 1 << 20), VsockVerdict::kMalformed);
  EXPECT_EQ(check_header(good(VsockOp::kData, 0xFFFF'FFFF), kGuest, 1ull << 32),
            VsockVerdict::kMalformed);
}

TEST(VsockWire, control_packets_with_payload_are_malformed_except_resets) {
  EXPECT_EQ(check_header(good(VsockOp::kRequest, 1), kGuest, 1), VsockVerdict::kMalformed);
  EXPECT_EQ(check_header(good(VsockOp::kShutdown, 1), kGuest, 1), VsockVerdict::kMalformed);
  EXPECT_EQ(check_header(good(VsockOp::kReset, 99), kGuest, 0), VsockVerdict::kAccept);
}

TEST(VsockWire, keys_differ_when_either_port_differs) {
  const VsockKey key{VsockPort{1}, VsockPort{2}};
  EXPECT_EQ(key, (VsockKey{VsockPort{1}, VsockPort{2}}));
  EXPECT_NE(key, (VsockKey{VsockPort{2}, VsockPort{1}}));
  EXPECT_NE(VsockKeyHash{}(key), VsockKeyHash{}({VsockPort{2}, VsockPort{1}}));
}

}  // namespace
}  // namespace sm
