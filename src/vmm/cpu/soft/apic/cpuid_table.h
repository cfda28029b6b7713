// What CPUID says of the software CPU. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vmm/cpu/cpuid_model.h"

namespace sm::soft {

// Everything that the software CPU implements, as build_cpuid() wants it. The same on every host,
// but for leaves 0x15 and 0x16, which tell the rate of the time-stamp counter.
std::vector<CpuidLeaf> soft_supported_cpuid(std::uint32_t tsc_khz);

// Adds ARCH_CAPABILITIES, whose register says which faults of real processors this one is free of.
// No part of a model: kernels look once, when they boot, so that no other host has to have it for
// a restore. What they have decided then stays as it is there.
void show_arch_capabilities(std::vector<CpuidLeaf>& leaves);

// Against speculation past branches, the kind that is left, the kernel's means (trampolines for
// jumps, flushes) are made for the predictors of a real processor. The memory controller of cgroups
// costs each page that is mapped or given back some hundred instructions, used or not.
inline constexpr std::string_view kSoftKernelWords = "mitigations=off cgroup_disable=memory";

// What the CPU answers for EAX = `function`, ECX = `index`: leaves that are not listed are zero,
// those above the largest of their range give the largest basic leaf. `leaves` as build_cpuid()
// makes them. Spec: SDM vol. 2, CPUID.
CpuidLeaf lookup_cpuid(std::span<const CpuidLeaf> leaves, std::uint32_t function,
                       std::uint32_t index);

}  // namespace sm::soft
