#include "vmm/cpu/kvm/kvm_msrs.h"

#include <fmt/format.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "vmm/cpu/kvm/kvm_sys.h"

namespace sm::kvm {

namespace {

struct MsrRange {
  std::uint32_t first, last;
};

constexpr std::array kLeftOut = {
    MsrRange{0x11, 0x12},              // the old names of 4b564d00 and 4b564d01
    MsrRange{0x1B, 0x1B},              // APIC base: CpuState::apic_base
    MsrRange{0x34, 0x34},              // SMI count
    MsrRange{0x3A, 0x3A},              // feature control of VMX and SGX
    MsrRange{0x8B, 0x8B},              // microcode revision, the host's
    MsrRange{0x9E, 0x9E},              // SMBASE: no firmware, no SMM
    MsrRange{0xC1, 0xC8},              // performance counters
    MsrRange{0x186, 0x18D},            //   and their selectors
    MsrRange{0x1DB, 0x1DE},            // last branch and exception, read only
    MsrRange{0x309, 0x30C},            // fixed counters
    MsrRange{0x345, 0x345},            // performance capabilities
    MsrRange{0x38D, 0x390},            // global counter control
    MsrRange{0x3F1, 0x3F2},            // PEBS
    MsrRange{0x480, 0x493},            // VMX capabilities
    MsrRange{0x4C1, 0x4C8},            // performance counters, full width
    MsrRange{0x560, 0x587},            // processor trace
    MsrRange{0x600, 0x600},            // debug store
    MsrRange{0x14CE, 0x14CF},          // architectural LBR
    MsrRange{0x40000000, 0x400001FF},  // Hyper-V
    MsrRange{0xC0000080, 0xC0000080},  // EFER: CpuState::efer
    MsrRange{0xC0000104, 0xC0000104},  // TSC ratio of nested SVM
    MsrRange{0xC0000300, 0xC0000302},  // AMD performance monitoring
    MsrRange{0xC0010000, 0xC0010007},
    MsrRange{0xC0010114, 0xC0010117},  // nested SVM
    MsrRange{0xC0010200, 0xC001020B},
};

// Architectural MSRs that kernels save and restore without listing them.
constexpr std::array kUnlisted = {
    MsrRange{0x17A, 0x17B},  // machine check
    MsrRange{0x1A0, 0x1A0},  // MISC_ENABLE
    MsrRange{0x200, 0x20F},  // MTRRs
    MsrRange{0x250, 0x250},           MsrRange{0x258, 0x259},
    MsrRange{0x268, 0x26F},           MsrRange{0x277, 0x277},  // PAT
    MsrRange{0x2FF, 0x2FF},                                    // MTRR default type
    MsrRange{0x400, 0x403},                                    // machine check bank 0
    MsrRange{0xC0000081, 0xC0000084},                          // SYSCALL
    MsrRange{0xC0000102, 0xC0000103},                          // KERNEL_GS_BASE, TSC_AUX
};

// Limit: KVM_GET_MSRS and KVM_SET_MSRS take at most 256 entries in one call.
constexpr std::size_t kMaxBatch = 128;

using Batch = EntryTable<MsrHead, kvm_msr_entry>;

// One KVM_GET_MSRS or KVM_SET_MSRS: how many entries, from the first on, were done.
Result<std::size_t> transfer(int vcpu_fd, unsigned long request, Batch& batch, std::size_t count) {
  batch.head().nmsrs = static_cast<std::uint32_t>(count);
  const int done = SM_TRY(
      call(vcpu_fd, request, &batch.head(), request == kGetMsrs ? "KVM_GET_MSRS" : "KVM_SET_MSRS"));
  return static_cast<std::size_t>(done);
}

Result<std::optional<std::uint64_t>> read_one(int vcpu_fd, std::uint32_t index) {
  Batch batch(1);
  batch[0].index = index;
  const std::size_t done = SM_TRY(transfer(vcpu_fd, kGetMsrs, batch, 1));
  if (done == 0) return std::optional<std::uint64_t>();
  return std::optional<std::uint64_t>(batch[0].data);
}

}  // namespace

bool is_left_out(std::uint32_t index) {
  return std::any_of(kLeftOut.begin(), kLeftOut.end(), [&](const MsrRange& range) {
    return range.first <= index && index <= range.last;
  });
}

Result<std::vector<std::uint32_t>> list_msrs(int device_fd) {
  constexpr std::uint32_t kMaxListed = 4096;
  EntryTable<MsrListHead, std::uint32_t> list(kMaxListed);
  list.head().nmsrs = kMaxListed;
  SM_TRY(call(device_fd, kGetMsrIndexList, &list.head(), "KVM_GET_MSR_INDEX_LIST"));
  std::vector<std::uint32_t> indices;
  for (std::size_t i = 0; i < std::min(list.head().nmsrs, kMaxListed); ++i) {
    indices.push_back(list[i]);
  }
  for (const MsrRange& range : kUnlisted) {
    for (std::uint32_t index = range.first; index <= range.last; ++index) indices.push_back(index);
  }
  std::erase_if(indices, is_left_out);
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  return indices;
}

Result<std::vector<MsrValue>> read_msrs(int vcpu_fd, std::span<const std::uint32_t> indices) {
  std::vector<MsrValue> values;
  while (!indices.empty()) {
    const std::size_t count = std::min(indices.size(), kMaxBatch);
    Batch batch(count);
    for (std::size_t i = 0; i < count; ++i) batch[i].index = indices[i];
    const std::size_t done = SM_TRY(transfer(vcpu_fd, kGetMsrs, batch, count));
    for (std::size_t i = 0; i < done; ++i) {
      values.push_back({batch[i].index, batch[i].data});
    }
    // The kernel stops at the first one that this vCPU does not have.
    indices = indices.subspan(done == count ? count : done + 1);
  }
  return values;
}

Status write_msrs(int vcpu_fd, std::span<const MsrValue> values) {
  while (!values.empty()) {
    const std::size_t count = std::min(values.size(), kMaxBatch);
    Batch batch(count);
    for (std::size_t i = 0; i < count; ++i) {
      batch[i].index = values[i].index;
      batch[i].data = values[i].value;
    }
    const std::size_t done = SM_TRY(transfer(vcpu_fd, kSetMsrs, batch, count));
    values = values.subspan(done);
    if (done == count) continue;
    const MsrValue& refused = values.front();
    const auto present = SM_TRY(read_one(vcpu_fd, refused.index));
    if (present != refused.value) {
      return fail(Code::kUnsupported,
                  fmt::format("the host's KVM refuses {:#x} as the value of MSR {:#x}",
                              refused.value, refused.index),
                  "restore on a host like the one that saved the state");
    }
    values = values.subspan(1);
  }
  return {};
}

}  // namespace sm::kvm
