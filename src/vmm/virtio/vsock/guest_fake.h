// GuestFake: a guest's vsock stack for tests, on the driver's side of the three queues. It keeps
// the rules (credit, replies) unless told otherwise, and can send any packet. One thread, the
// loop's.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "support/ring_fake.h"
#include "support/virtio_driver_fake.h"
#include "vmm/virtio/vsock/device.h"

namespace sm::test {

inline constexpr std::uint64_t kGuestCid = 3;

struct GuestPacket {
  virtio_vsock_hdr header;
  std::string payload;
  bool is(VsockOp op) const { return header.op == static_cast<std::uint16_t>(op); }
};

// One stream as the guest sees it.
struct GuestStream {
  VsockKey key;
  bool connected = false;
  bool reset = false;               // the host has sent RST
  std::uint32_t host_shutdown = 0;  // flags the host has sent so far
  std::string received;             // not yet taken by read()
  bool reads_at_once = true;        // counts bytes as forwarded when they arrive
  std::uint32_t buffer_size = 256u << 10;
  std::uint32_t forwarded = 0;
  std::uint32_t told = 0;
  std::uint32_t sent = 0;
  std::uint32_t host_buffer = 0;
  std::uint32_t host_forwarded = 0;
  std::uint32_t credit() const { return host_buffer - (sent - host_forwarded); }
};

class GuestStack {
 public:
  static constexpr std::uint16_t kQueueSize = 64;

  GuestStack(GuestArena& arena, RingFake& rx, RingFake& tx,
             std::function<Status(std::uint32_t queue)> kick)
      : arena_(&arena), rx_(&rx), tx_(&tx), kick_(std::move(kick)) {
    for (int i = 0; i < kQueueSize; ++i) tx_free_.push_back(arena_->take(kTxBytes));
  }

  GuestMemory& memory() { return arena_->memory(); }
  RingFake& rx() { return *rx_; }
  RingFake& tx() { return *tx_; }
  // Tells the device about new buffers in a queue.
  Status kick(std::uint32_t queue) { return kick_(queue); }
  // The rings start again from nothing.
  void forget_buffers() {
    for (const auto& [id, at] : tx_used_) tx_free_.push_back(at);
    for (const auto& [id, at] : rx_buffers_) rx_free_.push_back(at);
    tx_used_.clear();
    rx_buffers_.clear();
    owed_.clear();
  }

  // --- raw packets ---

  static virtio_vsock_hdr header(VsockKey key, VsockOp op, std::uint32_t length = 0) {
    return {.src_cid = kGuestCid,
            .dst_cid = 2,
            .src_port = raw(key.guest_port),
            .dst_port = raw(key.host_port),
            .len = length,
            .type = kVsockStream,
            .op = static_cast<std::uint16_t>(op),
            .flags = 0,
            .buf_alloc = 256u << 10,
            .fwd_cnt = 0};
  }
  // Room for one more packet, and nothing older waits for it.
  bool can_send() { return pay_owed() && has_room(); }
  // Puts a packet into the transmit queue, as two descriptors like Linux before 6.3, or as one.
  void offer_packet(const virtio_vsock_hdr& h, std::string_view payload, bool split = true) {
    SM_CHECK(has_room() && payload.size() + sizeof(h) <= kTxBytes);
    const GuestPhysAddr at = tx_free_.back();
    tx_free_.pop_back();
    must(memory().write_object(at, h));
    const GuestPhysAddr body(at.raw() + sizeof(h));
    must(memory().write(body, as_byte_span(payload)));
    const auto size = static_cast<std::uint32_t>(payload.size());
    const auto head = static_cast<std::uint32_t>(sizeof(h));
    if (split && size != 0) {
      const auto d = tx().take_descriptors(2);
      tx().set_descriptor(d[0], {at.raw(), head, ring::kNext, d[1]});
      tx().set_descriptor(d[1], {body.raw(), size, 0, 0});
      tx_used_[d[0]] = at;
      tx().offer(d[0]);
    } else {
      const auto d = tx().take_descriptors(1);
      tx().set_descriptor(d[0], {at.raw(), head + size, 0, 0});
      tx_used_[d[0]] = at;
      tx().offer(d[0]);
    }
  }
  void send(const virtio_vsock_hdr& h, std::string_view payload = {}) {
    offer_packet(h, payload);
    EXPECT_TRUE(kick(1));
  }
  // Offers receive buffers until the ring is full.
  void fill_rx() {
    while (rx_buffers_.size() < rx_limit && rx().free_descriptors() != 0) {
      const auto d = rx().take_descriptors(1);
      if (rx_free_.empty()) rx_free_.push_back(arena_->take(kRxBytes));
      const GuestPhysAddr at = rx_free_.back();
      rx_free_.pop_back();
      rx().set_descriptor(d[0], {at.raw(), rx_bytes, ring::kWrite, 0});
      rx_buffers_[d[0]] = at;
      rx().offer(d[0]);
    }
  }
  std::size_t rx_offered() const { return rx_buffers_.size(); }
  std::size_t rx_limit = kQueueSize;  // buffers offered at a time
  std::uint32_t rx_bytes = 4096;      // size of each, header included; at most kRxBytes

  // Takes what the device has put into the receive queue; offers no new buffers.
  std::vector<GuestPacket> take_packets() {
    std::vector<GuestPacket> packets;
    while (const auto used = rx().take_used()) {
      const auto id = static_cast<std::uint16_t>(used->id);
      const GuestPhysAddr at = rx_buffers_.at(id);
      rx_buffers_.erase(id);
      rx_free_.push_back(at);
      if (used->length == 0) continue;
      GuestPacket packet{must(memory().read_object<virtio_vsock_hdr>(at)), {}};
      EXPECT_EQ(used->length, sizeof(virtio_vsock_hdr) + packet.header.len);
      packet.payload.resize(packet.header.len);
      must(memory().read(GuestPhysAddr(at.raw() + sizeof(virtio_vsock_hdr)),
                         std::as_writable_bytes(std::span(packet.payload))));
      packets.push_back(std::move(packet));
    }
    return packets;
  }

  // --- a stack that keeps the rules ---

  std::set<VsockPort> listening;
  bool answers_requests = true;
  std::map<std::pair<std::uint32_t, std::uint32_t>, GuestStream> streams;
  std::vector<GuestPacket> strays;  // packets for no stream, RSTs first of all

  GuestStream& stream(VsockKey key) { return streams[{raw(key.guest_port), raw(key.host_port)}]; }
  GuestStream* find(VsockKey key) {
    const auto it = streams.find({raw(key.guest_port), raw(key.host_port)});
    return it == streams.end() ? nullptr : &it->second;
  }
  virtio_vsock_hdr stamped(GuestStream& s, VsockOp op, std::uint32_t length = 0) {
    auto h = header(s.key, op, length);
    h.buf_alloc = s.buffer_size;
    h.fwd_cnt = s.told = s.forwarded;
    return h;
  }
  GuestStream& connect(VsockPort guest_port, VsockPort host_port) {
    GuestStream& s = stream({guest_port, host_port});
    s = GuestStream{.key = {guest_port, host_port}};
    send(stamped(s, VsockOp::kRequest));
    return s;
  }
  // As many bytes as credit, packet size and queue allow.
  std::size_t write(GuestStream& s, std::string_view bytes) {
    std::size_t done = 0;
    while (done < bytes.size() && s.credit() != 0 && can_send()) {
      const auto n = static_cast<std::uint32_t>(
          std::min<std::size_t>({bytes.size() - done, s.credit(), kVsockMaxPayload}));
      offer_packet(stamped(s, VsockOp::kData, n), bytes.substr(done, n));
      s.sent += n;
      done += n;
    }
    if (done != 0) {
      EXPECT_TRUE(kick(1));
    }
    return done;
  }
  void shutdown(GuestStream& s, std::uint32_t flags) {
    auto h = stamped(s, VsockOp::kShutdown);
    h.flags = flags;
    send(h);
  }
  std::string read(GuestStream& s, std::size_t n) {
    std::string out = s.received.substr(0, n);
    s.received.erase(0, out.size());
    if (!s.reads_at_once) {
      s.forwarded += static_cast<std::uint32_t>(out.size());
      update_credit(s);
    }
    return out;
  }

  // One round of the guest: takes packets, answers them, offers buffers, kicks.
  void run_guest() {
    pay_owed();
    fill_rx();
    EXPECT_TRUE(kick(0));
    for (GuestPacket& packet : take_packets()) handle(packet);
    fill_rx();
    EXPECT_TRUE(kick(0));
  }

 private:
  static constexpr std::uint32_t kTxBytes = 64u * 1024 + 64;
  static constexpr std::uint32_t kRxBytes = 64u * 1024 + 64;

  void collect_tx() {
    while (const auto used = tx().take_used()) {
      const auto it = tx_used_.find(static_cast<std::uint16_t>(used->id));
      ASSERT_NE(it, tx_used_.end());
      tx_free_.push_back(it->second);
      tx_used_.erase(it);
    }
  }
  bool has_room() {
    collect_tx();
    return !tx_free_.empty() && tx().free_descriptors() >= 2;
  }
  // An answer waits, like Linux's, until the transmit queue has room for it.
  void answer(const virtio_vsock_hdr& h) {
    owed_.push_back(h);
    pay_owed();
  }
  bool pay_owed() {
    while (!owed_.empty() && has_room()) {
      send(owed_.front());
      owed_.pop_front();
    }
    return owed_.empty();
  }
  void update_credit(GuestStream& s) {
    const std::uint32_t free_for_host = s.buffer_size - (s.forwarded - s.told);
    if (s.forwarded != s.told && free_for_host < (64u << 10) && can_send()) {
      send(stamped(s, VsockOp::kCreditUpdate));
    }
  }
  void handle(GuestPacket& packet) {
    const VsockKey key{VsockPort{packet.header.dst_port}, VsockPort{packet.header.src_port}};
    EXPECT_EQ(packet.header.src_cid, 2u);
    EXPECT_EQ(packet.header.dst_cid, kGuestCid);
    GuestStream* s = find(key);
    if (s == nullptr || packet.header.type != kVsockStream) return handle_stray(key, packet);
    s->host_buffer = packet.header.buf_alloc;
    s->host_forwarded = packet.header.fwd_cnt;
    if (packet.is(VsockOp::kResponse)) s->connected = true;
    if (packet.is(VsockOp::kReset)) s->reset = true;
    if (packet.is(VsockOp::kShutdown)) s->host_shutdown |= packet.header.flags;
    if (packet.is(VsockOp::kCreditRequest)) answer(stamped(*s, VsockOp::kCreditUpdate));
    if (packet.is(VsockOp::kData)) {
      s->received += packet.payload;
      // Linux drops what exceeds its buffer.
      EXPECT_LE(s->reads_at_once ? packet.payload.size() : s->received.size(), s->buffer_size);
      if (s->reads_at_once) {
        s->forwarded += packet.header.len;
        update_credit(*s);
      }
    }
  }
  void handle_stray(VsockKey key, GuestPacket& packet) {
    if (packet.is(VsockOp::kRequest) && answers_requests && listening.contains(key.guest_port)) {
      GuestStream& s = stream(key);
      s.key = key;
      s.connected = true;
      s.host_buffer = packet.header.buf_alloc;
      s.host_forwarded = packet.header.fwd_cnt;
      return answer(stamped(s, VsockOp::kResponse));
    }
    if (packet.is(VsockOp::kRequest) && answers_requests) answer(header(key, VsockOp::kReset));
    strays.push_back(std::move(packet));
  }

  GuestArena* arena_;
  RingFake* rx_;
  RingFake* tx_;
  std::function<Status(std::uint32_t)> kick_;
  std::vector<GuestPhysAddr> tx_free_;
  std::map<std::uint16_t, GuestPhysAddr> tx_used_;
  std::deque<virtio_vsock_hdr> owed_;
  std::vector<GuestPhysAddr> rx_free_;
  std::map<std::uint16_t, GuestPhysAddr> rx_buffers_;
};

// What GuestFake is made of; a base, so that it is there before the stack.
struct GuestFakeParts {
  std::unique_ptr<GuestMemory> ram_ = must(GuestMemory::create(16u << 20));
  GuestArena space_{*ram_};
  RingFake queues_[3] = {{space_, GuestStack::kQueueSize},
                         {space_, GuestStack::kQueueSize},
                         {space_, GuestStack::kQueueSize}};
};

class GuestFake : private GuestFakeParts, public GuestStack {
 public:
  explicit GuestFake(const VsockLimits& limits = {}, bool event_idx = true)
      : GuestStack(space_, queues_[0], queues_[1], [this](std::uint32_t q) { return work(q); }),
        event_idx_(event_idx),
        loop_(must(EventLoop::create())),
        log_(Log::none()),
        device_(must(VsockDevice::create(*loop_, log_, VsockCid{kGuestCid}, limits))) {
    device_->attach(interrupt, lock_);
    activate();
  }
  ~GuestFake() { destroy_device(); }

  VsockDevice& device() { return *device_; }
  EventLoop& loop() { return *loop_; }
  RingFake& events() { return queues_[2]; }
  InterruptFake interrupt;

  void activate() {
    const std::lock_guard lock(lock_);
    for (auto& ring : queues_) ring.clear();
    forget_buffers();
    VirtioActivation activation;
    for (auto& ring : queues_) {
      activation.queues.push_back(must(Queue::create(*ram_, ring.config(event_idx_), 256)));
    }
    must(device_->activate(std::move(activation)));
  }
  void reset_device() {
    const std::lock_guard lock(lock_);
    device_->reset();
  }
  void destroy_device() { device_.reset(); }

  // One round of both sides.
  void step(int wait_ms = 0) {
    run_guest();
    loop_->run_once(Deadline::after(std::chrono::milliseconds(wait_ms)));
  }
  // Rounds of both sides until done; false when that takes more than a minute.
  template <class F>
  bool run_until(F&& done) {
    const Deadline deadline = Deadline::after(std::chrono::seconds(60));
    for (int round = 0; !done(); ++round) {
      if (deadline.passed()) return false;
      step(round < 100 ? 0 : 1);
    }
    return true;
  }
  // Rounds of both sides until nothing moves any more.
  void settle(int rounds = 12) {
    for (int i = 0; i < rounds; ++i) step();
  }

 private:
  // Lets the device work on a queue until it has nothing more to do.
  Status work(std::uint32_t queue) {
    const std::lock_guard lock(lock_);
    for (int i = 0; i < 10'000; ++i) {
      if (!SM_TRY(device_->process_queue(queue))) return {};
    }
    ADD_FAILURE() << "queue " << queue << " is never done";
    return {};
  }

  bool event_idx_;
  std::unique_ptr<EventLoop> loop_;
  Log log_;
  std::mutex lock_;
  std::unique_ptr<VsockDevice> device_;
};

// A connected pair of unix stream sockets, both non-blocking.
inline std::pair<UniqueFd, UniqueFd> socket_pair() {
  int fds[2];
  SM_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// A handler that gives away its socket.
inline VsockGuestHandler serve_once(UniqueFd fd) {
  return [fd = std::make_shared<UniqueFd>(std::move(fd))](VsockPort) -> Result<UniqueFd> {
    return std::move(*fd);
  };
}

// What a read of the host program finds.
struct HostRead {
  std::string bytes;
  bool end = false;    // end of stream
  bool reset = false;  // ECONNRESET
};
inline HostRead read_host(const UniqueFd& fd) {
  HostRead out;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::recv(fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) {
      out.bytes.append(buffer, static_cast<std::size_t>(n));
      continue;
    }
    out.end = n == 0;
    out.reset = n < 0 && errno == ECONNRESET;
    return out;
  }
}
// As many bytes as the socket takes.
inline std::size_t write_host(const UniqueFd& fd, std::string_view bytes) {
  const ssize_t n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

inline constexpr VsockPort kAgent{1028};
inline constexpr VsockPort kEnvServer{1026};

// A connection with its ends on both sides.
struct Opened {
  UniqueFd host;
  GuestStream* guest = nullptr;
};

// The host opens one.
inline Opened open_to_guest(GuestFake& guest) {
  guest.listening.insert(kAgent);
  std::set<std::uint32_t> before;
  for (const auto& [ports, stream] : guest.streams) before.insert(ports.second);
  auto [ours, theirs] = socket_pair();
  std::optional<Status> result;
  EXPECT_TRUE(guest.device().connect_guest(kAgent, std::move(theirs),
                                           [&](Status s) { result = std::move(s); }));
  EXPECT_TRUE(guest.run_until([&] { return result.has_value(); }));
  EXPECT_TRUE(result && result->has_value());
  for (auto& [ports, stream] : guest.streams) {
    if (!before.contains(ports.second)) return {std::move(ours), &stream};
  }
  ADD_FAILURE() << "no stream in the guest";
  return {};
}

// Lets the host send until the guest has no receive buffer left, and offers no more.
inline void use_up_rx(GuestFake& guest, const Opened& c) {
  guest.rx_limit = 0;
  EXPECT_TRUE(guest.run_until([&] {
    if (guest.rx_offered() != 0) (void)::send(c.host.get(), "u", 1, MSG_NOSIGNAL);
    return guest.rx_offered() == 0;
  }));
  guest.settle();
}

// The guest opens one.
inline Opened open_from_guest(GuestFake& guest, VsockPort guest_port = VsockPort{5000}) {
  auto [ours, theirs] = socket_pair();
  guest.device().set_guest_listener(kEnvServer, serve_once(std::move(theirs)));
  GuestStream& stream = guest.connect(guest_port, kEnvServer);
  EXPECT_TRUE(guest.run_until([&] { return stream.connected; }));
  guest.device().set_guest_listener(kEnvServer, {});
  return {std::move(ours), &stream};
}

// Bytes that repeat only after 2^32: any loss, doubling or exchange shows.
inline std::string pattern(std::size_t n, std::uint32_t seed = 1) {
  std::string out(n, '\0');
  std::uint32_t x = seed;
  for (char& c : out) {
    x = x * 1664525u + 1013904223u;
    c = static_cast<char>(x >> 24);
  }
  return out;
}

}  // namespace sm::test
