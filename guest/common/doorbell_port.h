// The guest's end of the doorbell (proto/doorbell.h). Port access is granted to this process only
// for the length of one call: the kernel hands port permissions on through fork and exec.
#pragma once

#include <cstdint>

#include "proto/doorbell.h"

namespace sm::guest {

class DoorbellPort {
 public:
  // Looks whether this machine has a doorbell; without one every call does nothing.
  static DoorbellPort probe();

  bool present() const { return present_; }
  void ring(doorbell::Event event, std::uint32_t argument = 0) const;
  // Restores since boot; 0 without a doorbell.
  std::uint32_t generation() const;
  // Whether the machine will be saved when it rings `event`.
  bool will_be_saved_at(doorbell::Event event) const;
  // Disks that are not empty; 0 without a doorbell.
  std::uint32_t bound_disks() const;

 private:
  std::uint32_t read(std::uint16_t port) const;

  bool present_ = false;
};

}  // namespace sm::guest
