// CPU models as data: which CPUID leaves a guest sees. Pure functions over tables, the same for
// every engine. See docs/reference/cpu.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sm {

struct CpuidLeaf {
  std::uint32_t function = 0;
  std::uint32_t index = 0;
  bool indexed = false;  // the leaf has sub-leaves, chosen by ECX
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidLeaf&) const = default;
};

enum class CpuModel : std::uint8_t {
  kHost,      // "host": what the host offers, less what cannot be saved or should not be seen
  kX86_64V2,  // "x86-64-v2": a fixed set without XSAVE; guests can move between hosts and engines
  kX86_64V2Plus,  // "x86-64-v2-plus": the same and more where the host has it; what `soft` shows
};

Result<CpuModel> parse_cpu_model(std::string_view name);
std::string_view cpu_model_name(CpuModel model);

// vCPU `index` of `count`; one socket, one thread per core, APIC id = index.
struct CpuPlace {
  std::uint32_t index = 0;
  std::uint32_t count = 1;
};

// The leaves of one vCPU, sorted, without empty ones. `supported` is what the engine can offer.
// Fails with kUnsupported when a feature the model must have is not among it.
Result<std::vector<CpuidLeaf>> build_cpuid(CpuModel model, std::span<const CpuidLeaf> supported,
                                           CpuPlace place);

// A short text that two lists share exactly when they show guests the same processor.
std::string cpu_signature(std::span<const CpuidLeaf> leaves);
// For a list of `x86-64-v2-plus`: the vendor and which of the bits are there that only some hosts
// have.
std::string cpu_features(std::span<const CpuidLeaf> leaves);

// What a snapshot says of the processor, and a restore compares.
struct EngineCpu {
  std::string model;      // "host", "x86-64-v2"
  std::string signature;  // see vmm/snapshot/compatibility.h
};
EngineCpu describe_cpu(CpuModel model, std::span<const CpuidLeaf> supported);

// Guest-physical address bits that the leaves announce.
std::uint32_t physical_address_bits(std::span<const CpuidLeaf> leaves);

}  // namespace sm
