#include "vmm/cpu/kvm/probe.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "vmm/cpu/kvm/kvm_sys.h"

namespace sm {

namespace {

constexpr std::uint64_t kCodeAddress = 0x1000;
constexpr std::size_t kMemoryBytes = 0x4000;
constexpr int kTries = 4;
constexpr int kSlices = 10;
constexpr std::uint32_t kLoopsPerSlice = 5000;  // two instructions each
// Between the two worlds on a logarithmic scale, far from both.
constexpr Duration kNativeLimit = std::chrono::milliseconds(12);

// again: mov ecx, kLoopsPerSlice; loop: dec ecx; jnz loop; hlt; jmp again -- 32-bit code.
constexpr std::array<std::uint8_t, 11> kCode = {
    0xB9, kLoopsPerSlice & 0xFF, kLoopsPerSlice >> 8, 0, 0, 0x49, 0x75, 0xFD, 0xF4, 0xEB, 0xF5};

class Mapping {
 public:
  Mapping(std::size_t size, int flags, int fd)
      : size_(size), at_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0)) {}
  ~Mapping() {
    if (valid()) ::munmap(at_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&&) = delete;
  Mapping& operator=(Mapping&&) = delete;
  bool valid() const { return at_ != MAP_FAILED; }
  void* at() const { return at_; }

 private:
  std::size_t size_;
  void* at_;
};

// Ring 0, protected mode, flat segments, no paging.
Status enter_ring0(int vcpu) {
  kvm_sregs sregs{};
  SM_TRY(kvm::call(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"));
  kvm_segment flat{};
  flat.limit = 0xFFFF'FFFF;
  flat.selector = 0x10;
  flat.present = 1;
  flat.s = 1;
  flat.db = 1;
  flat.g = 1;
  flat.type = 3;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
  flat.selector = 0x08;
  flat.type = 11;
  sregs.cs = flat;
  sregs.cr0 |= 1;
  SM_TRY(kvm::call(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS"));
  kvm_regs regs{};
  regs.rip = kCodeAddress;
  regs.rflags = 2;
  SM_TRY(kvm::call(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS"));
  return {};
}

// One pass through the loop; stops early when it is clear that this is no native execution.
Result<Duration> time_loop(int vcpu, const kvm_run& run) {
  const TimePoint start = now();
  for (int slice = 0; slice < kSlices; ++slice) {
    SM_TRY(kvm::call(vcpu, KVM_RUN, 0ul, "KVM_RUN"));
    if (run.exit_reason != KVM_EXIT_HLT) {
      return fail(Code::kUnsupported,
                  fmt::format("a tiny guest ended with exit reason {}", run.exit_reason));
    }
    const Duration so_far = now() - start;
    if (so_far > 10 * kNativeLimit) return so_far * kSlices / (slice + 1);
  }
  return now() - start;
}

Result<Duration> best_loop_time(const std::string& device_path) {
  const UniqueFd device = SM_TRY(kvm::open_device(device_path));
  const UniqueFd vm(SM_TRY(kvm::call(device.get(), KVM_CREATE_VM, 0ul, "KVM_CREATE_VM")));
  const Mapping memory(kMemoryBytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (!memory.valid()) return fail_errno("mmap", errno);
  std::memcpy(static_cast<std::byte*>(memory.at()) + kCodeAddress, kCode.data(), kCode.size());
  kvm_userspace_memory_region region{};
  region.memory_size = kMemoryBytes;
  region.userspace_addr = reinterpret_cast<std::uint64_t>(memory.at());
  SM_TRY(kvm::call(vm.get(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION"));
  const UniqueFd vcpu(SM_TRY(kvm::call(vm.get(), KVM_CREATE_VCPU, 0ul, "KVM_CREATE_VCPU")));
  const int run_size =
      SM_TRY(kvm::call(device.get(), KVM_GET_VCPU_MMAP_SIZE, 0ul, "KVM_GET_VCPU_MMAP_SIZE"));
  const Mapping run(static_cast<std::size_t>(run_size), MAP_SHARED, vcpu.get());
  if (!run.valid()) return fail_errno("mmap the run area", errno);
  SM_TRY_STATUS(enter_ring0(vcpu.get()));
  Duration best = Duration::max();
  for (int i = 0; i < kTries && !is_native(best); ++i) {
    best = std::min(best, SM_TRY(time_loop(vcpu.get(), *static_cast<const kvm_run*>(run.at()))));
  }
  return best;
}

}  // namespace

bool is_native(Duration loop_time) { return loop_time < kNativeLimit; }

KvmProbe probe_kvm(const std::string& device) {
  auto best = best_loop_time(device);
  if (!best) {
    Error error = std::move(best).error().or_remedy("use a machine whose KVM works");
    return {KvmVerdict::kNone, error.cause(), error.remedy(), {}};
  }
  const double ms = std::chrono::duration<double, std::milli>(*best).count();
  const std::string measured = fmt::format("100,000 guest kernel instructions took {:.2f} ms", ms);
  if (is_native(*best)) {
    return {KvmVerdict::kNative, device + " runs guests natively: " + measured, "", *best};
  }
  return {KvmVerdict::kEmulated,
          fmt::format("{} only emulates guest kernels: {} ({:.1f} million a second)", device,
                      measured, 100.0 / ms),
          "use a machine with hardware virtualization (VT-x or AMD-V)", *best};
}

}  // namespace sm
