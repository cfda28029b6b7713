// The probe: does this host's KVM really run guest ring-0 code, or does it only emulate it? Some
// cloud sandboxes offer a /dev/kvm that opens, creates machines, and then crawls at about 1.5
// million instructions a second and cannot boot a stock kernel.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace sm {

enum class KvmVerdict : std::uint8_t {
  kNone,      // no device, no permission, or not usable
  kEmulated,  // it crawls
  kNative,
};

struct KvmProbe {
  KvmVerdict verdict = KvmVerdict::kNone;
  std::string reason;    // one sentence
  std::string remedy;    // empty for kNative
  Duration loop_time{};  // best time of the loop, when it ran
};

// Runs a ring-0 loop of 100,000 instructions in a tiny guest, a few times at most. Any thread;
// takes a few milliseconds natively, less than half a second otherwise.
KvmProbe probe_kvm(const std::string& device = "/dev/kvm");

// The decision itself: natively the loop takes well below a millisecond, emulated more than 50.
bool is_native(Duration loop_time);

}  // namespace sm
