// Forwarder: bytes between a host connection and a TCP port on the guest's loopback, both ways,
// with half-close and a bounded buffer per direction. The loop's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/fd_watch.h"
#include "agent/services.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "common/byte_queue.h"

namespace sm::guest {

class Forwarder {
 public:
  Forwarder(const Services& services, UniqueFd host, std::uint64_t id);
  ~Forwarder();
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  // `unsent` is still owed to the host, `first` came from it behind the request.
  void start(std::uint16_t port, std::vector<std::byte> unsent, std::vector<std::byte> first);

 private:
  // One end: its socket, what waits to be written to it, how far its life has gone.
  struct End {
    UniqueFd fd;
    std::unique_ptr<FdWatch> watch;
    ByteQueue out;
    bool read_closed = false;   // it will send no more
    bool write_closed = false;  // we will send it no more
  };

  void try_connect(bool v6);
  void on_connecting();
  void connect_failed(int error);
  void connected();
  void on_events(End& end, End& other, std::uint32_t events);
  bool receive(End& from, End& to);
  bool flush(End& end);
  void update();
  void set_timer();
  void close();

  Services services_;
  std::uint64_t id_;
  std::uint16_t port_ = 0;
  End host_;
  End guest_;
  bool v6_ = false;
  bool connected_ = false;
  bool ending_ = false;  // only what is queued for the host is still sent
  bool closed_ = false;
  TimerId timer_ = TimerId::kNone;
};

}  // namespace sm::guest
