// What a KVM exit that ends a vCPU means, in words. Pure functions.
#pragma once

#include <linux/kvm.h>

#include <string>

namespace sm::kvm {

// For an exit that is none of the ordinary ones: its name and everything KVM says about it.
std::string exit_text(const kvm_run& run);

// For a KVM_RUN that failed with `error`.
std::string run_error_text(int error);

}  // namespace sm::kvm
