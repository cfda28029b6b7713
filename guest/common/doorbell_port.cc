#include "common/doorbell_port.h"

#include <sys/io.h>

namespace sm::guest {

namespace {

// To all ports: the kernel looks through a map of 8 KiB whenever a few of them are granted or taken
// away.
class PortAccess {
 public:
  PortAccess() : granted_(::iopl(3) == 0) {}
  ~PortAccess() {
    if (granted_) ::iopl(0);
  }
  PortAccess(const PortAccess&) = delete;
  PortAccess& operator=(const PortAccess&) = delete;
  bool granted() const { return granted_; }

 private:
  bool granted_;
};

}  // namespace

DoorbellPort DoorbellPort::probe() {
  DoorbellPort port;
  PortAccess access;
  port.present_ = access.granted() && ::inl(doorbell::kPortMagic) == doorbell::kMagic;
  return port;
}

void DoorbellPort::ring(doorbell::Event event, std::uint32_t argument) const {
  if (!present_) return;
  PortAccess access;
  if (access.granted()) ::outl(doorbell::encode(event, argument), doorbell::kPortEvent);
}

std::uint32_t DoorbellPort::read(std::uint16_t port) const {
  if (!present_) return 0;
  PortAccess access;
  return access.granted() ? ::inl(port) : 0;
}

std::uint32_t DoorbellPort::generation() const { return read(doorbell::kPortGeneration); }

bool DoorbellPort::will_be_saved_at(doorbell::Event event) const {
  return (read(doorbell::kPortEvent) >> static_cast<unsigned>(event) & 1u) != 0;
}

std::uint32_t DoorbellPort::bound_disks() const { return read(doorbell::kPortBoundDisks); }

}  // namespace sm::guest
