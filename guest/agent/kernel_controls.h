// What a resume changes in the kernel. An interface, so that tests need no root. The loop's thread
// only; no call blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace sm::guest {

class KernelControls {
 public:
  virtual ~KernelControls() = default;
  // Mixes the seed into the kernel's pool and keys its generator anew, so that every later number
  // depends on the seed.
  virtual Status seed_random(std::span<const std::byte> seed) = 0;
  // CLOCK_REALTIME, at once.
  virtual Status set_clock(std::uint64_t nanoseconds) = 0;
  virtual Status set_hostname(const std::string& hostname) = 0;
  // Goes where a child has made a new root of the machine.
  virtual Status follow_root() = 0;
};

// The guest's own kernel. Opens the random device now, while nothing of the image has run that
// could have put something else in its place.
Result<std::unique_ptr<KernelControls>> open_kernel_controls();

}  // namespace sm::guest
