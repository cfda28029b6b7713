// CpuState to and from the structs of the kernel's vCPU ioctls. Pure conversions in convert_*; the
// rest talks to one vCPU descriptor, which no thread may be running meanwhile.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"

namespace sm::kvm {

// What the host's KVM can do, found once per machine.
struct HostTraits {
  std::uint32_t max_vcpus = 1;
  std::size_t run_size = 0;    // bytes of a vCPU's run mapping
  std::size_t xsave_size = 0;  // bytes that KVM_GET_XSAVE2 writes
  bool has_xsave2 = false;
  bool has_xcrs = false;  // not on processors without XSAVE
  bool has_exception_payload = false;
  bool has_smm = false;
  bool has_tsc_control = false;
  bool has_mce = false;
  bool is_svm = false;                     // kvm-amd
  std::vector<std::uint32_t> msr_indices;  // sorted; those that belong into a CpuState
};
Result<HostTraits> read_host_traits(int device_fd, int vm_fd);

// State as a vCPU has it right after creation, for the parts of CpuState that say "reset".
struct ResetState {
  kvm_lapic_state lapic{};
  std::uint64_t apic_base = 0;
  kvm_segment task{};
};
Result<ResetState> read_reset_state(int vcpu_fd);

Result<CpuState> get_state(int vcpu_fd, const HostTraits& traits);
// Parts that `state` leaves empty take their reset value; apic_base, tsc_khz and the task register
// when zero, and MSRs that are not listed, stay as they are.
Status set_state(int vcpu_fd, const HostTraits& traits, const ResetState& reset,
                 const CpuState& state);

// Exposed for unit tests.
kvm_regs convert_regs(const CpuState& state);
void convert_regs(const kvm_regs& regs, CpuState& state);
kvm_segment convert_segment(const SegmentState& segment);
SegmentState convert_segment(const kvm_segment& segment);
kvm_vcpu_events convert_events(const EventState& events, const HostTraits& traits);
EventState convert_events(const kvm_vcpu_events& events);
// The reset image when `xsave` is empty; kUnsupported when it holds more than `size` bytes.
Result<std::vector<std::byte>> convert_xsave(const std::vector<std::byte>& xsave, std::size_t size);

}  // namespace sm::kvm
