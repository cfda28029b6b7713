// Thin wrappers around the KVM ioctls: errors as values, each naming its operation. No state, any
// thread. Everything else in this folder calls the kernel through here.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace sm::kvm {

// One ioctl; EINTR is retried. The value is the ioctl's non-negative result.
Result<int> call(int fd, unsigned long request, unsigned long argument, std::string_view what);
Result<int> call(int fd, unsigned long request, const void* argument, std::string_view what);

// Opens the device and checks the API version. The error tells what to do about a missing device
// and about missing permission.
Result<UniqueFd> open_device(const std::string& path);

// KVM_CHECK_EXTENSION: 0 = not there.
int check_extension(int fd, int capability);

// All capabilities this engine cannot do without are there, or kUnsupported naming the first that
// is missing and what it is for. `check` answers like check_extension.
Status require_capabilities(const std::function<int(int capability)>& check);

// The kernel's headers declare arrays at the end of a struct in a way that moves them, and the size
// of the struct, when compiled as C++. So the heads of those structs are declared here, and the
// ioctl numbers, which contain the size, are made from them.
struct MsrHead {
  std::uint32_t nmsrs;
  std::uint32_t padding;
};
struct MsrListHead {
  std::uint32_t nmsrs;
};
struct CpuidHead {
  std::uint32_t nent;
  std::uint32_t padding;
};
struct XsaveArea {
  std::byte legacy[4096];
};
constexpr unsigned long resized(unsigned long request, std::size_t size) {
  return (request & ~(static_cast<unsigned long>(_IOC_SIZEMASK) << _IOC_SIZESHIFT)) |
         static_cast<unsigned long>(size) << _IOC_SIZESHIFT;
}
inline constexpr unsigned long kGetMsrs = resized(KVM_GET_MSRS, sizeof(MsrHead));
inline constexpr unsigned long kSetMsrs = resized(KVM_SET_MSRS, sizeof(MsrHead));
inline constexpr unsigned long kGetMsrIndexList =
    resized(KVM_GET_MSR_INDEX_LIST, sizeof(MsrListHead));
inline constexpr unsigned long kGetSupportedCpuid =
    resized(KVM_GET_SUPPORTED_CPUID, sizeof(CpuidHead));
inline constexpr unsigned long kSetCpuid2 = resized(KVM_SET_CPUID2, sizeof(CpuidHead));
inline constexpr unsigned long kGetXsave = resized(KVM_GET_XSAVE, sizeof(XsaveArea));
inline constexpr unsigned long kGetXsave2 = resized(KVM_GET_XSAVE2, sizeof(XsaveArea));
inline constexpr unsigned long kSetXsave = resized(KVM_SET_XSAVE, sizeof(XsaveArea));
static_assert(kGetMsrs == 0xC008AE88 && kGetXsave == 0x9000AEA4 && kGetMsrIndexList == 0xC004AE02);

// Such a struct with room for `count` entries, zeroed.
template <class Head, class Entry>
class EntryTable {
 public:
  explicit EntryTable(std::size_t count)
      : storage_((sizeof(Head) + count * sizeof(Entry) + sizeof(std::uint64_t) - 1) /
                 sizeof(std::uint64_t)) {}
  // SAFETY: the storage is aligned for 64-bit members and as large as head and entries together.
  Head& head() { return *reinterpret_cast<Head*>(storage_.data()); }
  Entry& operator[](std::size_t i) {
    return *reinterpret_cast<Entry*>(reinterpret_cast<std::byte*>(storage_.data()) + sizeof(Head) +
                                     i * sizeof(Entry));
  }

 private:
  std::vector<std::uint64_t> storage_;
};

// A shared mapping of a vCPU descriptor (struct kvm_run and the data behind it).
class RunMapping {
 public:
  static Result<RunMapping> map(int vcpu_fd, std::size_t size);
  RunMapping() = default;
  ~RunMapping();
  RunMapping(RunMapping&& other) noexcept;
  RunMapping& operator=(RunMapping&& other) noexcept;
  RunMapping(const RunMapping&) = delete;
  RunMapping& operator=(const RunMapping&) = delete;

  kvm_run* run() const { return static_cast<kvm_run*>(base_); }
  std::byte* bytes() const { return static_cast<std::byte*>(base_); }
  std::size_t size() const { return size_; }

 private:
  RunMapping(void* base, std::size_t size) : base_(base), size_(size) {}

  void* base_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sm::kvm
