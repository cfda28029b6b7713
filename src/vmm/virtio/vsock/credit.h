// Credit of one vsock connection, one class per direction. All counters are 32 bits wide and wrap,
// as on the wire. Pure values; the device's lock. Spec: virtio 1.2, 5.10.6.3.
#pragma once

#include <cstdint>

namespace sm {

// How much the host may still send into the guest's receive buffer. Whatever the guest claims,
// in_flight() <= what was granted at some time, and available() never exceeds the newest grant.
class VsockSendCredit {
 public:
  // Takes over what a packet of the guest says. A count that lies outside what was sent and not yet
  // forwarded is not believed: it is a lie, or was overtaken on its way by a newer one.
  void update(std::uint32_t buffer_size, std::uint32_t forwarded) {
    buffer_size_ = buffer_size;
    if (forwarded - forwarded_ <= in_flight()) forwarded_ = forwarded;
  }
  std::uint32_t available() const {
    return buffer_size_ > in_flight() ? buffer_size_ - in_flight() : 0;
  }
  void sent(std::uint32_t bytes) { sent_ += bytes; }
  std::uint32_t in_flight() const { return sent_ - forwarded_; }

 private:
  std::uint32_t buffer_size_ = 0;
  std::uint32_t forwarded_ = 0;
  std::uint32_t sent_ = 0;
};

// How much the guest may still send to us, and when to tell it about more.
class VsockReceiveCredit {
 public:
  explicit VsockReceiveCredit(std::uint32_t buffer_size) : buffer_size_(buffer_size) {}

  // False when the guest sends more than it was granted.
  bool admit(std::uint32_t bytes) {
    if (bytes > buffer_size_ - (received_ - forwarded_)) return false;
    received_ += bytes;
    return true;
  }
  // These bytes have left our buffer (or never entered it).
  void forward(std::uint32_t bytes) { forwarded_ += bytes; }

  std::uint32_t buffer_size() const { return buffer_size_; }
  // For the header of a packet that is being written now.
  std::uint32_t announce() { return announced_ = forwarded_; }
  // A quarter of the buffer is free without the guest knowing: late enough to save packets, early
  // enough that a guest which keeps sending never runs dry.
  bool update_due() const { return forwarded_ - announced_ >= buffer_size_ / 4; }

 private:
  std::uint32_t buffer_size_;
  std::uint32_t received_ = 0;
  std::uint32_t forwarded_ = 0;
  std::uint32_t announced_ = 0;
};

}  // namespace sm
