// VsockHostSocket: the host end of one connection, a connected stream socket watched
// edge-triggered: it remembers whether the last transfer would have blocked, so that nobody asks in
// vain and a socket with nothing to do never wakes the loop. Never blocks. The device's lock.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace sm {

class VsockHostSocket {
 public:
  enum class Io : std::uint8_t {
    kDone,     // `bytes` were transferred, at least one
    kBlocked,  // nothing now; an event will say when
    kEnd,      // reading: end of stream; writing: nobody will read any more
    kBroken,   // the socket has failed
  };
  struct Transfer {
    Io status;
    std::size_t bytes;
  };

  VsockHostSocket() = default;
  explicit VsockHostSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  bool open() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  // Both directions are over: the peer has closed, or each side has ended its own.
  bool hung_up() const { return hung_up_; }

  // What the loop reported. The events to watch for are kEvents.
  void note_events(std::uint32_t events);
  static const std::uint32_t kEvents;

  // Like readv/writev without SIGPIPE. At most IOV_MAX pieces.
  Transfer read(std::span<iovec> into);
  Transfer write(std::span<iovec> from);

  // Tells the peer that no more bytes will come, or will be taken.
  void end_writing();
  void end_reading();
  // The coming close shall look like a reset where the socket's family knows such a thing.
  void reset_on_close();
  // The watch on fd() must be gone.
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  bool readable_ = false;
  bool writable_ = true;
  bool hung_up_ = false;
};

}  // namespace sm
