// VsockMuxer: all connections of one vsock device, found by their two ports; who may send to the
// guest next; what a packet without a connection gets. Everything it stores is bounded by
// VsockLimits, whatever the guest sends and however few buffers it offers.
//
// The device's lock is held around every call. Thread: the loop's, except drop_all().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "vmm/virtio/vsock/connection.h"

namespace sm {

struct VsockLimits {
  std::size_t connections = 1024;  // open, closing and draining ones together
  // Limit: what a guest can make us hold is large_buffers * 256 KiB + the rest * 64 KiB = 76 MiB,
  // and only when that many host programs do not read.
  std::size_t large_buffers = 64;
  std::uint32_t large_buffer = 256u << 10;
  std::uint32_t small_buffer = 64u << 10;
  // Resets for packets without a connection; with this many unsent, the guest's packets wait.
  std::size_t stray_resets = 256;
  VsockTimeouts timeouts;
};

// Names one connection; never reused within a muxer.
enum class VsockConnectionId : std::uint64_t {};

// How a connection to a guest port came out.
using VsockConnectResult = std::function<void(Status)>;
// Gives the host end of a connection that the guest asks for: a connected stream socket. An error
// refuses it. Must not block.
using VsockGuestHandler = std::function<Result<UniqueFd>(VsockPort guest_port)>;

class VsockMuxer {
 public:
  // What the loop reports about a connection's socket; called without the lock.
  using SocketEvent = std::function<void(VsockConnectionId, std::uint32_t events)>;
  // A guest's request whose handler has to be called, without the lock, and answered by complete().
  struct GuestRequest {
    VsockConnectionId id;
    VsockPort guest_port;
    VsockGuestHandler handler;
  };

  VsockMuxer(EventLoop& loop, Log& log, VsockCid guest, const VsockLimits& limits,
             SocketEvent on_socket);
  ~VsockMuxer();
  VsockMuxer(const VsockMuxer&) = delete;
  VsockMuxer& operator=(const VsockMuxer&) = delete;
  VsockMuxer(VsockMuxer&&) = delete;
  VsockMuxer& operator=(VsockMuxer&&) = delete;

  // --- host side ---

  // Goes on with other host ports than those before: a restored guest still knows connections that
  // the saved one had, and would take a new one between the same ports for one of them.
  void start_at_random_port();
  Status open(VsockPort guest_port, UniqueFd socket, VsockConnectResult on_result);
  void set_guest_handler(VsockPort host_port, VsockGuestHandler handler);
  void complete(VsockConnectionId id, Result<UniqueFd> socket);
  void on_socket_event(VsockConnectionId id, std::uint32_t events);
  std::optional<TimePoint> next_deadline() const;
  void expire(TimePoint at);

  // --- guest side ---

  // False while too many resets are unsent: leave the guest's packets in their queue.
  bool can_receive() const { return strays_.size() < limits_.stray_resets; }
  // One packet. `payload` is what follows the header, at least as much as was really offered.
  void receive(const VsockHeader& header, BufferReader payload);
  bool has_output() const { return !strays_.empty() || !ready_.empty(); }
  // Writes the next packet for the guest into `space`, which holds more than a header. The number
  // of bytes, or 0 when there was nothing to send after all.
  Result<std::uint32_t> emit(GuestMemory& memory, std::span<const GuestBuffer> space);

  // --- what has to be done without the lock ---

  bool has_calls() const { return !requests_.empty() || !results_.empty() || !dropped_.empty(); }
  std::vector<GuestRequest> take_requests() { return std::exchange(requests_, {}); }
  std::vector<std::pair<VsockConnectResult, Status>> take_results() {
    return std::exchange(results_, {});
  }

  // Forgets all connections as if the guest had never been there. Any thread: the sockets are
  // closed by the next close_dropped() on the loop's thread.
  void drop_all();
  void close_dropped();

  std::size_t connection_count() const { return entries_.size(); }
  // Bytes of the guest held for host sockets that would not take them.
  std::size_t buffered_bytes() const;

 private:
  struct Entry {
    VsockConnectionId id;
    VsockConnection connection;
    VsockConnectResult on_result;
    WatchId watch = WatchId::kNone;
    std::optional<TimePoint> deadline{};  // as it stands in deadlines_
    bool ready = false;
    std::list<Entry*>::iterator place{};  // in ready_ or idle_
  };
  using Outcome = VsockConnection::Outcome;

  Entry& insert(VsockConnection connection, VsockConnectResult on_result);
  Status watch(Entry& entry, int fd);
  void apply(Entry& entry, Outcome outcome, const char* reason);
  void refresh(Entry& entry);
  void remove(Entry& entry, const char* reason);
  void unlink_ports(Entry& entry);
  void close_socket(Entry& entry);
  void on_stray(const VsockHeader& header);
  void on_guest_request(const VsockHeader& header);
  void send_stray_reset(const VsockKey& key, std::uint16_t type);
  std::uint32_t buffer_size() const;
  std::optional<VsockPort> free_host_port(VsockPort guest_port);

  EventLoop* loop_;
  Log* log_;
  VsockCid guest_;
  VsockLimits limits_;
  SocketEvent on_socket_;
  std::unordered_map<VsockPort, VsockGuestHandler> handlers_;  // by host port

  std::unordered_map<VsockConnectionId, std::unique_ptr<Entry>> entries_;
  std::unordered_map<VsockKey, Entry*, VsockKeyHash> by_ports_;  // all but the draining ones
  std::list<Entry*> ready_;  // have something for the guest; served in turn
  std::list<Entry*> idle_;
  std::deque<VsockReply> strays_;
  std::set<std::pair<TimePoint, VsockConnectionId>> deadlines_;
  std::uint64_t next_id_ = 1;
  std::uint32_t next_host_port_;

  std::vector<GuestRequest> requests_;
  std::vector<std::pair<VsockConnectResult, Status>> results_;
  std::vector<std::unique_ptr<Entry>> dropped_;
};

}  // namespace sm
