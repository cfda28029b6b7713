#include "vmm/cpu/kvm/kvm_sys.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <utility>

namespace sm::kvm {

namespace {

struct RequiredCapability {
  int number;
  std::string_view name;
  std::string_view purpose;
};

constexpr std::array kRequired = {
    RequiredCapability{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory"},
    RequiredCapability{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "the in-kernel interrupt controllers"},
    RequiredCapability{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING", "interrupt lines"},
    RequiredCapability{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "interrupt lines"},
    RequiredCapability{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "device notifications"},
    RequiredCapability{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode"},
    RequiredCapability{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "real mode"},
    RequiredCapability{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "CPU models"},
    RequiredCapability{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "several vCPUs"},
    RequiredCapability{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping a vCPU"},
    RequiredCapability{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "the vCPU state"},
    RequiredCapability{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "the vCPU state"},
    RequiredCapability{KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "the vCPU state"},
    RequiredCapability{KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ", "the vCPU state"},
};

}  // namespace

Result<int> call(int fd, unsigned long request, unsigned long argument, std::string_view what) {
  int result = 0;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return fail_errno(what, errno);
  return result;
}

Result<int> call(int fd, unsigned long request, const void* argument, std::string_view what) {
  return call(fd, request, reinterpret_cast<unsigned long>(argument), what);
}

Result<UniqueFd> open_device(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    const int error = errno;
    if (error == ENOENT || error == ENODEV || error == ENXIO) {
      return fail(
          Code::kNotFound, path + " does not exist: this machine offers no KVM",
          "enable virtualization (VT-x or AMD-V) in the firmware or the cloud instance type "
          "and load the module kvm_intel or kvm_amd");
    }
    if (error == EACCES || error == EPERM) {
      return fail(Code::kPermission, "no permission to open " + path,
                  "add the user to the group that owns it, usually kvm, and log in again");
    }
    return fail_errno("open " + path, error);
  }
  const int version =
      SM_TRY(call(fd.get(), KVM_GET_API_VERSION, 0ul, path + ": KVM_GET_API_VERSION"));
  if (version != KVM_API_VERSION) {
    return fail(Code::kUnsupported, path + " speaks KVM API version " + std::to_string(version) +
                                        ", not " + std::to_string(KVM_API_VERSION));
  }
  return fd;
}

int check_extension(int fd, int capability) {
  const auto value =
      call(fd, KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability), "KVM_CHECK_EXTENSION");
  return value ? *value : 0;
}

Status require_capabilities(const std::function<int(int capability)>& check) {
  for (const RequiredCapability& capability : kRequired) {
    if (check(capability.number) > 0) continue;
    return fail(Code::kUnsupported,
                "the host's KVM lacks " + std::string(capability.name) + ", needed for " +
                    std::string(capability.purpose),
                "use a newer host kernel");
  }
  return {};
}

Result<RunMapping> RunMapping::map(int vcpu_fd, std::size_t size) {
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
  if (base == MAP_FAILED) return fail_errno("map a vCPU's run area", errno);
  return RunMapping(base, size);
}

RunMapping::RunMapping(RunMapping&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}

RunMapping& RunMapping::operator=(RunMapping&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

RunMapping::~RunMapping() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

}  // namespace sm::kvm
