#include "vmm/cpu/soft/soft_vm.h"

#include <fmt/format.h>

#include <array>
#include <utility>
#include <vector>

#include "vmm/cpu/soft/apic/cpuid_table.h"
#include "vmm/cpu/soft/apic/platform.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/soft_vcpu.h"

namespace sm {

namespace {

// What the caller of create_vcpu() gets. The vCPU itself stays with the machine: devices may send
// interrupts to it as long as there are devices.
class Handle final : public EngineVcpu {
 public:
  explicit Handle(soft::SoftVcpu& vcpu) : vcpu_(vcpu) {}
  VcpuExit run() override { return vcpu_.run(); }
  void kick() override { vcpu_.kick(); }
  Status finish_pending_exit() override { return vcpu_.finish_pending_exit(); }
  Result<CpuState> state() const override { return vcpu_.state(); }
  Status set_state(const CpuState& state) override { return vcpu_.set_state(state); }
  std::optional<VcpuCounters> counters() override { return vcpu_.counters(); }

 private:
  soft::SoftVcpu& vcpu_;
};

class SoftVm final : public EngineVm {
 public:
  ~SoftVm() override { platform_->stop(); }
  SoftVm(const SoftVm&) = delete;
  SoftVm& operator=(const SoftVm&) = delete;
  SoftVm(SoftVm&&) = delete;
  SoftVm& operator=(SoftVm&&) = delete;

  static Result<std::unique_ptr<EngineVm>> create(const SoftConfig& config);

  std::string_view engine_name() const override { return "soft"; }
  std::string_view kernel_words() const override { return soft::kSoftKernelWords; }
  EngineCpu cpu() const override { return describe_cpu(config_.cpu_model, supported_); }
  Status map_memory(const GuestMemory& memory) override;
  Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t gsi) override {
    return platform_->irq_line(gsi);
  }
  // A write that leaves run() costs little here: no world switch.
  Status register_ioevent(GuestPhysAddr /*address*/, std::uint32_t /*value*/,
                          int /*event_fd*/) override {
    return fail(Code::kUnsupported, "the software CPU has no ioevents");
  }
  Result<std::unique_ptr<EngineVcpu>> create_vcpu(std::uint32_t index,
                                                  std::uint32_t count) override;
  Result<PlatformState> platform_state() const override {
    return PlatformState{.io_apic = platform_->io_apic().state(),
                         .clock_ns = platform_->kvm_clock().ns()};
  }
  // A vCPU's state corrects the clock by what the guest itself has read last.
  Status set_platform_state(const PlatformState& state) override {
    platform_->io_apic().set_state(state.io_apic);
    platform_->kvm_clock().set_ns(state.clock_ns);
    return {};
  }

 private:
  explicit SoftVm(const SoftConfig& config)
      : config_(config),
        machine_(std::make_shared<soft::Machine>()),
        virtual_time_(config.debug.virtual_time ? std::make_unique<soft::VirtualTime>() : nullptr),
        platform_(make_platform(*machine_, virtual_time_.get())),
        supported_(soft::soft_supported_cpuid(platform_->clock().tsc_khz())) {}
  static std::unique_ptr<soft::Platform> make_platform(soft::Machine& machine,
                                                       soft::VirtualTime* time) {
    if (time != nullptr) {
      return std::make_unique<soft::Platform>(machine, time->clock, time->timers);
    }
    return std::make_unique<soft::Platform>(
        machine, std::make_unique<soft::HostClock>(soft::HostCounter::detect()));
  }

  SoftConfig config_;
  std::shared_ptr<soft::Machine> machine_;  // guest memory keeps it, too: it reports writes there
  std::unique_ptr<soft::VirtualTime> virtual_time_;  // null: the host's
  std::unique_ptr<soft::Platform> platform_;
  std::vector<CpuidLeaf> supported_;
  std::array<std::unique_ptr<soft::SoftVcpu>, soft::kMaxSoftVcpus> vcpus_;
  bool memory_mapped_ = false;
};

// The host executes the guest's vector instructions itself.
Status check_host() {
  if (__builtin_cpu_supports("sse4.2") != 0) return {};
  return fail(Code::kUnsupported, "the software CPU needs a processor with SSE4.2",
              "use a machine built after 2009");
}

Result<std::unique_ptr<EngineVm>> SoftVm::create(const SoftConfig& config) {
  SM_TRY_STATUS(check_host());
  std::unique_ptr<SoftVm> vm(new SoftVm(config));
  // A model that cannot be offered is refused now and not at the first vCPU.
  SM_TRY(build_cpuid(vm->config_.cpu_model, vm->supported_, CpuPlace{}));
  return std::unique_ptr<EngineVm>(std::move(vm));
}

Status SoftVm::map_memory(const GuestMemory& memory) {
  if (memory_mapped_) return fail(Code::kInternal, "guest memory is mapped already");
  const MemoryRegion& last = memory.regions().back();
  if ((last.start.raw() + last.size - 1) >> soft::kPhysicalBits != 0) {
    return fail(Code::kUnsupported,
                fmt::format("{} MiB of guest memory do not fit the {} address bits of the software "
                            "CPU",
                            memory.size() >> 20, soft::kPhysicalBits),
                "give the machine less memory");
  }
  if (!machine_->map(memory))
    return fail(Code::kLimit, "no memory for the software CPU's page map");
  memory.set_observer(machine_);
  memory_mapped_ = true;
  return {};
}

Result<std::unique_ptr<EngineVcpu>> SoftVm::create_vcpu(std::uint32_t index, std::uint32_t count) {
  if (count == 0 || count > soft::kMaxSoftVcpus || index >= count) {
    return fail(Code::kInvalidArgument, fmt::format("vCPU {} of {} is not possible", index, count),
                fmt::format("use 1 to {} vCPUs", soft::kMaxSoftVcpus));
  }
  if (virtual_time_ != nullptr && count > 1) {
    return fail(Code::kUnsupported, "a machine with virtual time has one vCPU");
  }
  if (!memory_mapped_ || vcpus_[index] != nullptr) {
    return fail(Code::kInternal, "a vCPU was created before its memory, or twice");
  }
  auto leaves = SM_TRY(build_cpuid(config_.cpu_model, supported_, CpuPlace{index, count}));
  soft::show_arch_capabilities(leaves);
  const soft::ExecutionOptions options{.reference = config_.debug.reference,
                                       .instructions_per_run = config_.debug.instructions_per_run,
                                       .virtual_time = virtual_time_.get(),
                                       .trace = config_.debug.trace};
  vcpus_[index] =
      std::make_unique<soft::SoftVcpu>(*machine_, *platform_, index, std::move(leaves), options);
  return std::make_unique<Handle>(*vcpus_[index]);
}

}  // namespace

Result<std::unique_ptr<EngineVm>> create_soft_vm(const SoftConfig& config) {
  return SoftVm::create(config);
}

}  // namespace sm
