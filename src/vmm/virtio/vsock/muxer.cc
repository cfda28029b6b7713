#include "vmm/virtio/vsock/muxer.h"

#include <sys/random.h>

#include "base/check.h"

namespace sm {

namespace {

// Host ports of connections that the host opens. Below lies what people number by hand.
constexpr std::uint32_t kFirstHostPort = 0x4000'0000;
constexpr std::uint32_t kLastHostPort = 0xFFFF'FFFE;

}  // namespace

VsockMuxer::VsockMuxer(EventLoop& loop, Log& log, VsockCid guest, const VsockLimits& limits,
                       SocketEvent on_socket)
    : loop_(&loop),
      log_(&log),
      guest_(guest),
      limits_(limits),
      on_socket_(std::move(on_socket)),
      next_host_port_(kFirstHostPort) {}

VsockMuxer::~VsockMuxer() {
  drop_all();
  close_dropped();
}

// --- the table ---

std::uint32_t VsockMuxer::buffer_size() const {
  return entries_.size() < limits_.large_buffers ? limits_.large_buffer : limits_.small_buffer;
}

VsockMuxer::Entry& VsockMuxer::insert(VsockConnection connection, VsockConnectResult on_result) {
  const VsockConnectionId id{next_id_++};
  auto owned = std::make_unique<Entry>(Entry{id, std::move(connection), std::move(on_result)});
  Entry& entry = *owned;
  entry.place = idle_.insert(idle_.end(), &entry);
  by_ports_.emplace(entry.connection.key(), &entry);
  entries_.emplace(id, std::move(owned));
  return entry;
}

Status VsockMuxer::watch(Entry& entry, int fd) {
  entry.watch =
      SM_TRY(loop_->add(fd, VsockHostSocket::kEvents,
                        [this, id = entry.id](std::uint32_t events) { on_socket_(id, events); }));
  return {};
}

void VsockMuxer::unlink_ports(Entry& entry) {
  const auto it = by_ports_.find(entry.connection.key());
  if (it != by_ports_.end() && it->second == &entry) by_ports_.erase(it);
}

void VsockMuxer::close_socket(Entry& entry) {
  if (entry.watch != WatchId::kNone) loop_->remove(std::exchange(entry.watch, WatchId::kNone));
  entry.connection.close_host();
}

void VsockMuxer::remove(Entry& entry, const char* reason) {
  if (entry.on_result) {
    results_.emplace_back(
        std::move(entry.on_result),
        fail(Code::kGone, std::string("connect to guest port ") +
                              std::to_string(raw(entry.connection.key().guest_port)) + ": " +
                              reason));
  }
  close_socket(entry);
  unlink_ports(entry);
  if (entry.deadline) deadlines_.erase({*entry.deadline, entry.id});
  (entry.ready ? ready_ : idle_).erase(entry.place);
  entries_.erase(entry.id);
}

// Carries out what a connection wants after an event. The entry may be gone afterwards.
void VsockMuxer::apply(Entry& entry, Outcome outcome, const char* reason) {
  switch (outcome) {
    case Outcome::kKeep:
      break;
    case Outcome::kReset:
      send_stray_reset(entry.connection.key(), kVsockStream);
      [[fallthrough]];
    case Outcome::kGone:
      remove(entry, reason);
      return;
    case Outcome::kHostDone:
      close_socket(entry);
      break;
    case Outcome::kDrain:
      send_stray_reset(entry.connection.key(), kVsockStream);
      unlink_ports(entry);
      break;
  }
  refresh(entry);
}

// Brings the lists up to date with the connection's state.
void VsockMuxer::refresh(Entry& entry) {
  const bool ready = entry.connection.wants_to_send();
  if (ready != entry.ready) {
    (ready ? ready_ : idle_)
        .splice((ready ? ready_ : idle_).end(), ready ? idle_ : ready_, entry.place);
    entry.ready = ready;
  }
  const auto deadline = entry.connection.deadline();
  if (deadline != entry.deadline) {
    if (entry.deadline) deadlines_.erase({*entry.deadline, entry.id});
    if (deadline) deadlines_.emplace(*deadline, entry.id);
    entry.deadline = deadline;
  }
}

// --- host side ---

std::optional<VsockPort> VsockMuxer::free_host_port(VsockPort guest_port) {
  // The table holds fewer connections than the loop tries ports.
  for (std::size_t tries = 0; tries <= limits_.connections; ++tries) {
    const VsockPort port{next_host_port_};
    next_host_port_ = next_host_port_ == kLastHostPort ? kFirstHostPort : next_host_port_ + 1;
    if (!by_ports_.contains({guest_port, port}) && !handlers_.contains(port)) return port;
  }
  return std::nullopt;
}

void VsockMuxer::start_at_random_port() {
  std::uint32_t offset = 0;
  // Fails for no reason that this kernel has; then the ports begin where they always do.
  if (::getrandom(&offset, sizeof(offset), 0) != sizeof(offset)) return;
  next_host_port_ = kFirstHostPort + offset % (kLastHostPort - kFirstHostPort);
}

Status VsockMuxer::open(VsockPort guest_port, UniqueFd socket, VsockConnectResult on_result) {
  if (entries_.size() >= limits_.connections) {
    return fail(Code::kLimit,
                "the guest has " + std::to_string(entries_.size()) + " vsock connections already");
  }
  const auto host_port = free_host_port(guest_port);
  if (!host_port) return fail(Code::kLimit, "no free vsock port");
  const int fd = socket.get();
  Entry& entry =
      insert(VsockConnection({guest_port, *host_port}, VsockHostSocket(std::move(socket)),
                             buffer_size(), limits_.timeouts),
             {});
  if (auto status = watch(entry, fd); !status) {
    remove(entry, "no watch");
    return status;
  }
  entry.on_result = std::move(on_result);
  refresh(entry);
  return {};
}

void VsockMuxer::set_guest_handler(VsockPort host_port, VsockGuestHandler handler) {
  if (handler) {
    handlers_[host_port] = std::move(handler);
  } else {
    handlers_.erase(host_port);
  }
}

void VsockMuxer::complete(VsockConnectionId id, Result<UniqueFd> socket) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;  // the guest or a reset was faster
  Entry& entry = *it->second;
  if (entry.connection.state() != VsockConnection::State::kAccepting) return;
  if (!socket) {
    log_->guest_warning("vsock: guest connection refused: {}", socket.error().text());
    return apply(entry, Outcome::kReset, "refused");
  }
  const int fd = socket->get();
  entry.connection.accept(VsockHostSocket(*std::move(socket)));
  if (auto status = watch(entry, fd); !status) {
    log_->warning("vsock: {}", status.error().text());
    return apply(entry, Outcome::kReset, "no watch");
  }
  refresh(entry);
}

void VsockMuxer::on_socket_event(VsockConnectionId id, std::uint32_t events) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  apply(*it->second, it->second->connection.on_host_events(events), "the host has closed");
}

std::optional<TimePoint> VsockMuxer::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

void VsockMuxer::expire(TimePoint at) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= at) {
    Entry& entry = *entries_.at(deadlines_.begin()->second);
    if (entry.on_result) {
      results_.emplace_back(
          std::exchange(entry.on_result, {}),
          fail(Code::kTimeout, "guest port " +
                                   std::to_string(raw(entry.connection.key().guest_port)) +
                                   " has not answered"));
    }
    apply(entry, entry.connection.on_deadline(), "no answer");
  }
}

// --- guest side ---

void VsockMuxer::send_stray_reset(const VsockKey& key, std::uint16_t type) {
  strays_.push_back(VsockReply{.key = key, .type = type});
}

void VsockMuxer::receive(const VsockHeader& header, BufferReader payload) {
  const VsockVerdict verdict = check_header(header, guest_, payload.remaining());
  if (verdict == VsockVerdict::kDrop) {
    return log_->guest_warning("vsock: packet from {} to {} dropped",
                               static_cast<std::uint64_t>(header.source),
                               static_cast<std::uint64_t>(header.destination));
  }
  if (verdict == VsockVerdict::kWrongType) return send_stray_reset(header.key, header.type);
  const auto it = by_ports_.find(header.key);
  if (it == by_ports_.end()) return on_stray(header);
  Entry& entry = *it->second;
  if (verdict == VsockVerdict::kMalformed) {
    log_->guest_warning("vsock: malformed packet, op {} length {}", header.op, header.length);
    return apply(entry, Outcome::kReset, "the guest sent a malformed packet");
  }
  const bool connecting = entry.connection.state() == VsockConnection::State::kConnecting;
  const Outcome outcome = entry.connection.on_packet(header, payload);
  if (connecting && entry.connection.state() == VsockConnection::State::kEstablished &&
      entry.on_result) {
    results_.emplace_back(std::exchange(entry.on_result, {}), Status{});
  }
  apply(entry, outcome, "the guest refused it");
}

void VsockMuxer::on_stray(const VsockHeader& header) {
  if (header.is(VsockOp::kReset)) return;
  if (header.is(VsockOp::kRequest) && header.length == 0) return on_guest_request(header);
  send_stray_reset(header.key, header.type);
}

void VsockMuxer::on_guest_request(const VsockHeader& header) {
  const auto handler = handlers_.find(header.key.host_port);
  if (handler == handlers_.end() || entries_.size() >= limits_.connections) {
    return send_stray_reset(header.key, header.type);
  }
  Entry& entry = insert(VsockConnection(header, buffer_size(), limits_.timeouts), {});
  requests_.push_back({entry.id, header.key.guest_port, handler->second});
}

Result<std::uint32_t> VsockMuxer::emit(GuestMemory& memory, std::span<const GuestBuffer> space) {
  if (!strays_.empty()) {
    BufferWriter writer(memory, space);
    SM_TRY_STATUS(writer.write_object(strays_.front().to_guest(guest_)));
    strays_.pop_front();
    return static_cast<std::uint32_t>(writer.written());
  }
  // One look at each: a socket that had bytes may have none any more.
  for (std::size_t left = ready_.size(); left != 0 && !ready_.empty(); --left) {
    Entry& entry = *ready_.front();
    const auto sent = SM_TRY(entry.connection.emit(memory, space, guest_));
    // To the end of the line, whether or not there is more to come.
    ready_.splice(ready_.end(), ready_, entry.place);
    apply(entry, sent.outcome, "the host socket failed");
    if (sent.written != 0) return sent.written;
    // A connection that just broke owes the guest a reset, and the space is still free.
    if (!strays_.empty()) return emit(memory, space);
  }
  return 0u;
}

void VsockMuxer::drop_all() {
  for (auto& [id, entry] : entries_) {
    if (entry->on_result) {
      results_.emplace_back(std::exchange(entry->on_result, {}),
                            fail(Code::kGone, "the guest has reset its vsock device"));
    }
    dropped_.push_back(std::move(entry));
  }
  entries_.clear();
  by_ports_.clear();
  ready_.clear();
  idle_.clear();
  strays_.clear();
  deadlines_.clear();
  requests_.clear();
}

void VsockMuxer::close_dropped() {
  for (auto& entry : dropped_) close_socket(*entry);
  dropped_.clear();
}

std::size_t VsockMuxer::buffered_bytes() const {
  std::size_t total = 0;
  for (const auto& [id, entry] : entries_) total += entry->connection.buffered();
  return total;
}

}  // namespace sm
