#include "vmm/cpu/kvm/kvm_vm.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "vmm/cpu/kvm/kick_signal.h"
#include "vmm/cpu/kvm/kvm_sys.h"
#include "vmm/cpu/kvm/kvm_vcpu.h"
#include "vmm/memory/addr_map.h"

namespace sm {

namespace {

constexpr std::uint32_t kIoApicPins = KVM_IOAPIC_NUM_PINS;
static_assert(kIoApicPins == IoApicState::kPins);

// An eventfd that KVM turns into one edge of an IOAPIC pin.
class KvmIrqLine final : public IrqLine {
 public:
  static Result<std::unique_ptr<IrqLine>> create(int vm_fd, std::uint32_t gsi) {
    UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event.valid()) return fail_errno("create an interrupt eventfd", errno);
    kvm_irqfd irqfd{};
    irqfd.fd = static_cast<std::uint32_t>(event.get());
    irqfd.gsi = gsi;
    SM_TRY(kvm::call(vm_fd, KVM_IRQFD, &irqfd, "KVM_IRQFD"));
    return std::unique_ptr<IrqLine>(new KvmIrqLine(vm_fd, gsi, std::move(event)));
  }

  ~KvmIrqLine() override {
    kvm_irqfd irqfd{};
    irqfd.fd = static_cast<std::uint32_t>(event_.get());
    irqfd.gsi = gsi_;
    irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
    // Closing the descriptor would end it too, only later.
    static_cast<void>(kvm::call(vm_fd_, KVM_IRQFD, &irqfd, "KVM_IRQFD"));
  }
  KvmIrqLine(const KvmIrqLine&) = delete;
  KvmIrqLine& operator=(const KvmIrqLine&) = delete;
  KvmIrqLine(KvmIrqLine&&) = delete;
  KvmIrqLine& operator=(KvmIrqLine&&) = delete;

  // Fails only when the counter is full, and then an edge is on its way already.
  void trigger() override {
    const std::uint64_t one = 1;
    if (::write(event_.get(), &one, sizeof(one)) < 0) return;
  }

 private:
  KvmIrqLine(int vm_fd, std::uint32_t gsi, UniqueFd event)
      : vm_fd_(vm_fd), gsi_(gsi), event_(std::move(event)) {}

  int vm_fd_;
  std::uint32_t gsi_;
  UniqueFd event_;
};

// The kernel's struct kvm_irq_routing without its entries: in C++ the header's declaration of that
// flexible array adds an empty member, which has a size and so changes the layout and the ioctl's
// number.
struct IrqRoutingHead {
  std::uint32_t nr;
  std::uint32_t flags;
};
static_assert(sizeof(IrqRoutingHead) == 8);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, IrqRoutingHead);

// KVM's default routes send GSIs 0..15 to the old PIC too; nothing here has one.
Status route_to_ioapic(int vm_fd) {
  kvm::EntryTable<IrqRoutingHead, kvm_irq_routing_entry> table(kIoApicPins);
  table.head().nr = kIoApicPins;
  for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin) {
    kvm_irq_routing_entry& entry = table[pin];
    entry.gsi = pin;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
    entry.u.irqchip.pin = pin;
  }
  SM_TRY(kvm::call(vm_fd, kSetGsiRouting, &table.head(), "KVM_SET_GSI_ROUTING"));
  return {};
}

Status set_up_irqchip(int vm_fd) {
  std::uint64_t identity_map = addr_map::kKvmIdentityMapBase;
  SM_TRY(kvm::call(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR"));
  SM_TRY(kvm::call(vm_fd, KVM_SET_TSS_ADDR, addr_map::kKvmTssBase, "KVM_SET_TSS_ADDR"));
  SM_TRY(kvm::call(vm_fd, KVM_CREATE_IRQCHIP, 0ul, "KVM_CREATE_IRQCHIP"));
  return route_to_ioapic(vm_fd);
}

// What the host's KVM can show a guest, with the two bits that it leaves to us.
Result<std::vector<CpuidLeaf>> supported_cpuid(int device) {
  constexpr std::uint32_t kMaxEntries = 256;
  constexpr std::uint32_t kTscDeadline = 1u << 24, kHypervisor = 1u << 31;
  kvm::EntryTable<kvm::CpuidHead, kvm_cpuid_entry2> table(kMaxEntries);
  table.head().nent = kMaxEntries;
  SM_TRY(kvm::call(device, kvm::kGetSupportedCpuid, &table.head(), "KVM_GET_SUPPORTED_CPUID"));
  const bool deadline = kvm::check_extension(device, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  std::vector<CpuidLeaf> leaves;
  for (std::uint32_t i = 0; i < std::min(table.head().nent, kMaxEntries); ++i) {
    const kvm_cpuid_entry2& entry = table[i];
    CpuidLeaf leaf{.function = entry.function,
                   .index = entry.index,
                   .indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                   .eax = entry.eax,
                   .ebx = entry.ebx,
                   .ecx = entry.ecx,
                   .edx = entry.edx};
    if (leaf.function == 1) leaf.ecx |= kHypervisor | (deadline ? kTscDeadline : 0);
    leaves.push_back(leaf);
  }
  return leaves;
}

class KvmVm final : public EngineVm {
 public:
  static Result<std::unique_ptr<EngineVm>> create(const KvmConfig& config);

  std::string_view engine_name() const override { return "kvm"; }
  EngineCpu cpu() const override;
  Status map_memory(const GuestMemory& memory) override;
  Result<std::unique_ptr<IrqLine>> irq_line(std::uint32_t gsi) override;
  Status register_ioevent(GuestPhysAddr address, std::uint32_t value, int event_fd) override;
  Result<std::unique_ptr<EngineVcpu>> create_vcpu(std::uint32_t index,
                                                  std::uint32_t count) override;
  Result<PlatformState> platform_state() const override;
  Status set_platform_state(const PlatformState& state) override;

 private:
  KvmVm(CpuModel model, UniqueFd vm, kvm::HostTraits traits, std::vector<CpuidLeaf> supported)
      : model_(model),
        vm_(std::move(vm)),
        traits_(std::move(traits)),
        supported_(std::move(supported)) {}

  CpuModel model_;
  UniqueFd vm_;
  kvm::HostTraits traits_;
  std::vector<CpuidLeaf> supported_;
  bool memory_mapped_ = false;
};

Result<std::unique_ptr<EngineVm>> KvmVm::create(const KvmConfig& config) {
  UniqueFd device = SM_TRY(kvm::open_device(config.device));
  SM_TRY_STATUS(kvm::require_capabilities(
      [&](int capability) { return kvm::check_extension(device.get(), capability); }));
  SM_TRY_STATUS(kvm::install_kick_signal());
  UniqueFd vm(SM_TRY(kvm::call(device.get(), KVM_CREATE_VM, 0ul, "KVM_CREATE_VM")));
  SM_TRY_STATUS(set_up_irqchip(vm.get()));
  kvm::HostTraits traits = SM_TRY(kvm::read_host_traits(device.get(), vm.get()));
  std::vector<CpuidLeaf> supported = SM_TRY(supported_cpuid(device.get()));
  // A model that this host cannot offer is refused now and not at the first vCPU.
  SM_TRY(build_cpuid(config.cpu_model, supported, CpuPlace{}));
  return std::unique_ptr<EngineVm>(
      new KvmVm(config.cpu_model, std::move(vm), std::move(traits), std::move(supported)));
}

Status KvmVm::map_memory(const GuestMemory& memory) {
  if (memory_mapped_) return fail(Code::kInternal, "guest memory is mapped already");
  const auto leaves = SM_TRY(build_cpuid(model_, supported_, CpuPlace{}));
  const std::uint32_t address_bits = physical_address_bits(leaves);
  std::uint32_t slot = 0;
  for (const MemoryRegion& region : memory.regions()) {
    const std::uint64_t last = region.start.raw() + region.size - 1;
    if (address_bits < 64 && last >> address_bits != 0) {
      return fail(
          Code::kUnsupported,
          fmt::format("{} MiB of guest memory do not fit the {} address bits of CPU model {}",
                      memory.size() >> 20, address_bits, cpu_model_name(model_)),
          "give the machine less memory");
    }
    kvm_userspace_memory_region entry{};
    entry.slot = slot++;
    entry.guest_phys_addr = region.start.raw();
    entry.memory_size = region.size;
    entry.userspace_addr = reinterpret_cast<std::uint64_t>(region.host);
    SM_TRY(kvm::call(vm_.get(), KVM_SET_USER_MEMORY_REGION, &entry, "KVM_SET_USER_MEMORY_REGION"));
  }
  memory_mapped_ = true;
  return {};
}

Result<std::unique_ptr<IrqLine>> KvmVm::irq_line(std::uint32_t gsi) {
  if (gsi >= kIoApicPins) {
    return fail(Code::kInternal, fmt::format("there is no interrupt pin {}", gsi));
  }
  return KvmIrqLine::create(vm_.get(), gsi);
}

Status KvmVm::register_ioevent(GuestPhysAddr address, std::uint32_t value, int event_fd) {
  kvm_ioeventfd event{};
  event.datamatch = value;
  event.addr = address.raw();
  event.len = sizeof(value);
  event.fd = event_fd;
  event.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  SM_TRY(kvm::call(vm_.get(), KVM_IOEVENTFD, &event, "KVM_IOEVENTFD"));
  return {};
}

Result<std::unique_ptr<EngineVcpu>> KvmVm::create_vcpu(std::uint32_t index, std::uint32_t count) {
  const std::uint32_t limit = std::min(kMaxVcpus, traits_.max_vcpus);
  if (count == 0 || count > limit || index >= count) {
    return fail(Code::kInvalidArgument, fmt::format("vCPU {} of {} is not possible", index, count),
                fmt::format("use 1 to {} vCPUs", limit));
  }
  const auto leaves = SM_TRY(build_cpuid(model_, supported_, CpuPlace{index, count}));
  return kvm::KvmVcpu::create(vm_.get(), index, traits_, leaves);
}

EngineCpu KvmVm::cpu() const { return describe_cpu(model_, supported_); }

Result<PlatformState> KvmVm::platform_state() const {
  kvm_irqchip chip{};
  chip.chip_id = KVM_IRQCHIP_IOAPIC;
  SM_TRY(kvm::call(vm_.get(), KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP"));
  kvm_clock_data clock{};
  SM_TRY(kvm::call(vm_.get(), KVM_GET_CLOCK, &clock, "KVM_GET_CLOCK"));
  const kvm_ioapic_state& ioapic = chip.chip.ioapic;
  PlatformState state{.io_apic = {.id = ioapic.id, .select = ioapic.ioregsel, .lines = ioapic.irr},
                      .clock_ns = clock.clock};
  for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin) {
    state.io_apic.redirection[pin] = ioapic.redirtbl[pin].bits;
  }
  return state;
}

Status KvmVm::set_platform_state(const PlatformState& state) {
  kvm_irqchip chip{};
  chip.chip_id = KVM_IRQCHIP_IOAPIC;
  kvm_ioapic_state& ioapic = chip.chip.ioapic;
  ioapic.base_address = addr_map::kIoApicBase;
  ioapic.id = state.io_apic.id;
  ioapic.ioregsel = state.io_apic.select;
  ioapic.irr = state.io_apic.lines;
  for (std::uint32_t pin = 0; pin < kIoApicPins; ++pin) {
    ioapic.redirtbl[pin].bits = state.io_apic.redirection[pin];
  }
  SM_TRY(kvm::call(vm_.get(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP"));
  kvm_clock_data clock{};
  clock.clock = state.clock_ns;
  SM_TRY(kvm::call(vm_.get(), KVM_SET_CLOCK, &clock, "KVM_SET_CLOCK"));
  return {};
}

}  // namespace

Result<std::unique_ptr<EngineVm>> create_kvm_vm(const KvmConfig& config) {
  return KvmVm::create(config);
}

}  // namespace sm
