// The MSRs of a CpuState: which ones there are on this host, and how to read and write them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "vmm/cpu/cpu_state.h"

namespace sm::kvm {

// Candidates: what the kernel lists plus those it does not list, less those that have their own
// place in CpuState, are the host's own, or belong to features no CPU model shows. Sorted.
Result<std::vector<std::uint32_t>> list_msrs(int device_fd);

// True when an MSR is left out of every CpuState.
bool is_left_out(std::uint32_t index);

// Reads those of `indices` that this vCPU has.
Result<std::vector<MsrValue>> read_msrs(int vcpu_fd, std::span<const std::uint32_t> indices);

// Writes all of them. One that refuses the value is an error unless it holds that value already.
Status write_msrs(int vcpu_fd, std::span<const MsrValue> values);

}  // namespace sm::kvm
