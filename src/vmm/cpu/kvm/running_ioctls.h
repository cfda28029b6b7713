// The ioctls that the engine uses on the VM and its vCPUs once the guest may run: for the sandbox's
// list.
#pragma once

#include <linux/kvm.h>

#include <array>
#include <span>

#include "vmm/cpu/kvm/kvm_sys.h"

namespace sm::kvm {

inline constexpr std::array kRunningIoctls = std::to_array<unsigned long>(
    {KVM_RUN,
     KVM_IRQFD,  // the end of an interrupt line
     // A vCPU's state (CpuState), read and written.
     KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, kGetMsrs, kSetMsrs, kGetXsave,
     kGetXsave2, kSetXsave, KVM_GET_XCRS, KVM_SET_XCRS, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
     KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_GET_MP_STATE,
     KVM_SET_MP_STATE, KVM_GET_TSC_KHZ, KVM_SET_TSC_KHZ,
     // The machine's (PlatformState), read.
     KVM_GET_IRQCHIP, KVM_GET_CLOCK});

inline std::span<const unsigned long> running_ioctls() { return kRunningIoctls; }

}  // namespace sm::kvm
