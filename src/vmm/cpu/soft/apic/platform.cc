#include "vmm/cpu/soft/apic/platform.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "vmm/cpu/soft/apic/cpuid_table.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/unordered_access.h"
#include "vmm/memory/addr_map.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kIoApicLength = 0x100;

// A line into the IOAPIC.
class PlatformLine final : public IrqLine {
 public:
  PlatformLine(IoApic& io_apic, std::uint32_t pin) : io_apic_(io_apic), pin_(pin) {}
  void trigger() override { io_apic_.trigger(pin_); }

 private:
  IoApic& io_apic_;
  std::uint32_t pin_;
};

// Model-specific registers of the platform. Spec: SDM vol. 4, table 2-2.
namespace msr {
constexpr std::uint32_t kTsc = 0x10, kApicBase = 0x1B, kTscAdjust = 0x3B,
                        kMachineCheckCapability = 0x179, kMachineCheckStatus = 0x17A,
                        kMachineCheckBank = 0x400, kTscDeadline = 0x6E0, kX2apic = 0x800;
// KVM's, for guests that were shown it; no model shows it.
constexpr std::uint32_t kPollControl = 0x4B56'4D05, kPollControlReset = 1;
constexpr std::uint32_t kX2apicCount = 0x100, kMachineCheckBankSize = 4;
}  // namespace msr

// In a saved state, in ascending order.
constexpr std::array kSaved = {
    msr::kTsc,
    msr::kTscAdjust,
    msr::kMachineCheckStatus,
    msr::kMachineCheckBank,
    msr::kMachineCheckBank + 1,
    msr::kMachineCheckBank + 2,
    msr::kMachineCheckBank + 3,
    msr::kTscDeadline,
    pv_msr::kWallClock,
    pv_msr::kSystemTime,
    pv_msr::kStealTime,
    pv_msr::kPvEoi,
};

// What a state may hold that is not for the platform.
struct MsrRange {
  std::uint32_t first, last;
};
constexpr std::array kElsewhere = {
    MsrRange{0x174, 0x176},            // SYSENTER: plain registers of Cpu
    MsrRange{0x1A0, 0x1A0},            //
    MsrRange{0x277, 0x277},            //
    MsrRange{0xC0000080, 0xC0000084},  //
    MsrRange{0xC0000100, 0xC0000103},  //
    MsrRange{0x3A, 0x3A},              // that describe a processor, or say how its caches behave
    MsrRange{0x8B, 0x8B},              //
    MsrRange{0xCE, 0xCE},              //
    MsrRange{0xFE, 0xFE},              //
    MsrRange{0x10A, 0x10A},            //
    MsrRange{0x179, 0x179},            //
    MsrRange{0x200, 0x26F},            //
    MsrRange{0x2FF, 0x2FF},            //
    MsrRange{0x345, 0x345},            //
    MsrRange{0xC0011029, 0xC0011029},  //
};
bool is_elsewhere(std::uint32_t index) {
  return std::any_of(kElsewhere.begin(), kElsewhere.end(), [&](const MsrRange& range) {
    return range.first <= index && index <= range.last;
  });
}

// Spec: Linux Documentation/virt/kvm/x86/hypercalls.rst.
namespace hypercall_number {
constexpr std::uint64_t kVapicPoll = 1, kKickCpu = 5, kClockPairing = 9, kSendIpi = 10,
                        kSchedYield = 11;
}
constexpr std::uint64_t error(int code) { return static_cast<std::uint64_t>(-std::int64_t{code}); }
constexpr int kInvalid = 22, kFault = 14, kNotSupported = 95, kNoSuchCall = 1000;

struct ClockPairing {
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  std::uint64_t tsc = 0;
  std::uint32_t flags = 0;
  std::uint32_t padding[9] = {};
};
static_assert(sizeof(ClockPairing) == 64);

std::uint32_t load32(std::span<const std::byte> data) {
  std::uint32_t value = 0;
  std::memcpy(&value, data.data(), std::min(data.size(), sizeof(value)));
  return value;
}
void store32(std::span<std::byte> data, std::uint32_t value) {
  std::fill(data.begin(), data.end(), std::byte{0});
  std::memcpy(data.data(), &value, std::min(data.size(), sizeof(value)));
}

}  // namespace

// ---- Platform ----------------------------------------------------------------------------------

void Platform::MachineSink::post(std::uint32_t vcpu, std::uint32_t attention_bits) {
  machine_.post(vcpu, attention_bits);
}

Platform::Platform(Machine& machine, std::unique_ptr<HostClock> clock)
    : machine_(machine),
      sink_(machine),
      host_clock_(std::move(clock)),
      timer_thread_(std::make_unique<TimerThread>(sink_)),
      clock_(*host_clock_),
      timers_(*timer_thread_),
      kvm_clock_(clock_),
      io_apic_(bus_),
      legacy_(clock_) {
  bus_.attach(io_apic_);
}

Platform::Platform(Machine& machine, VirtualClock& clock, PolledTimers& timers)
    : machine_(machine),
      sink_(machine),
      clock_(clock),
      timers_(timers),
      kvm_clock_(clock_),
      io_apic_(bus_),
      legacy_(clock_) {
  bus_.attach(io_apic_);
}

Platform::~Platform() { stop(); }

void Platform::stop() {
  if (timer_thread_ != nullptr) timer_thread_->stop();
}

std::uint64_t Platform::stopped_tsc() const {
  std::uint64_t latest = 0;
  for (const auto& slot : vcpus_) {
    const VcpuPlatform* vcpu = slot.load(std::memory_order_acquire);
    if (vcpu == nullptr) continue;
    latest = std::max(latest, vcpu->left_guest_.load(std::memory_order_relaxed));
  }
  return latest;
}

Result<std::unique_ptr<IrqLine>> Platform::irq_line(std::uint32_t gsi) {
  if (gsi >= kIoApicPins) {
    return fail(Code::kInternal, fmt::format("there is no interrupt pin {}", gsi));
  }
  return std::unique_ptr<IrqLine>(new PlatformLine(io_apic_, gsi));
}

// ---- VcpuPlatform ------------------------------------------------------------------------------

VcpuPlatform::VcpuPlatform(Platform& platform, Cpu& cpu, std::vector<CpuidLeaf> cpuid)
    : platform_(platform),
      cpu_(cpu),
      cpuid_(std::move(cpuid)),
      apic_({.index = cpu.index,
             .sink = platform.sink(),
             .bus = platform.bus(),
             .clock = platform.clock(),
             .timers = platform.timers()}),
      pv_(platform.machine(), platform.kvm_clock(), apic_) {
  cpu.apic = &apic_;
  cpu.clock = &platform.clock();
  cpu.platform = this;
  platform.bus().attach(apic_);
  if (cpu.index < platform.vcpus_.size()) platform.vcpus_[cpu.index].store(this);
}

VcpuPlatform::~VcpuPlatform() {
  if (cpu_.index < platform_.vcpus_.size()) platform_.vcpus_[cpu_.index].store(nullptr);
  platform_.bus().detach(apic_);
  platform_.timers().cancel(cpu_.index);
  cpu_.apic = nullptr;
  cpu_.clock = nullptr;
  cpu_.platform = nullptr;
}

void VcpuPlatform::init_reset() {
  apic_.init_reset();
  pv_.reset();
}

bool VcpuPlatform::mmio(std::uint64_t physical, bool is_write, std::span<std::byte> data) {
  const auto size = static_cast<std::uint32_t>(data.size());
  if (apic_.claims(physical)) {
    const auto offset = static_cast<std::uint32_t>(physical & 0xFFF);
    if (is_write) {
      apic_.write_mmio(offset, size, load32(data));
    } else {
      store32(data, apic_.read_mmio(offset, size));
    }
    return true;
  }
  const std::uint64_t offset = physical - addr_map::kIoApicBase;
  if (offset >= kIoApicLength) return false;
  if (is_write) {
    platform_.io_apic().write_mmio(offset, size, load32(data));
  } else {
    store32(data, platform_.io_apic().read_mmio(offset, size));
  }
  return true;
}

bool VcpuPlatform::port(std::uint16_t port, bool is_write, std::span<std::byte> data) {
  return platform_.legacy().access(port, is_write, data);
}

std::optional<std::uint64_t> VcpuPlatform::begin_halt() {
  pv_.begin_halt();
  return apic_.begin_halt();
}

bool VcpuPlatform::end_halt() {
  apic_.end_halt();
  return pv_.end_halt();
}

void VcpuPlatform::unhalt() {
  pv_.unhalt();
  platform_.sink().post(cpu_.index, kAttentionUnhalt);
}

CpuidLeaf VcpuPlatform::cpuid(std::uint32_t leaf, std::uint32_t subleaf) const {
  constexpr std::uint32_t kApic = 1u << 9;
  CpuidLeaf found = lookup_cpuid(cpuid_, leaf, subleaf);
  if (found.function == 1 && !apic_.enabled()) found.edx &= ~kApic;
  return found;
}

// ---- Time --------------------------------------------------------------------------------------

std::uint64_t VcpuPlatform::tsc() {
  last_tsc_ = std::max(last_tsc_, platform_.clock().tsc());
  return last_tsc_ + tsc_offset_;
}

// Spec: SDM vol. 3, 17.17.3: TSC_ADJUST follows writes of the counter and the other way round.
void VcpuPlatform::write_tsc(std::uint64_t value) {
  const std::uint64_t jump = value - tsc();
  tsc_adjust_ += jump;
  set_tsc_offset(tsc_offset_ + jump);
}

void VcpuPlatform::set_tsc_offset(std::uint64_t offset) {
  tsc_offset_ = offset;
  apic_.set_tsc_offset(offset);
  pv_.tsc_offset_changed(offset);
}

// vCPUs are restored one after the other, on a busy host with seconds between them, and KVM saves
// them one after the other as well; counters that were equal shall be equal again, and the pages of
// the paravirtual clock tell one time: or a program that sleeps on another vCPU wakes too early. So
// all are restored as of the moment of the first.
void Platform::begin_restore() {
  const std::lock_guard lock(restore_mutex_);
  if (restore_.is_under_way && stopped_tsc() <= restore_.at) return;
  restore_ = {.is_under_way = true, .at = clock_.tsc()};
}

// An offset that nearly fits is kept. For the first vCPU it may let the counter go on from a later
// value, not from an earlier one.
void VcpuPlatform::restore_tsc(std::uint64_t value) {
  const std::lock_guard lock(platform_.restore_mutex_);
  const std::uint64_t offset = value - platform_.restore_.at;
  const std::int64_t second = 1000 * std::int64_t{platform_.clock().tsc_khz()};
  const auto ahead = static_cast<std::int64_t>(offset - platform_.restored_tsc_offset_);
  const bool is_first = !std::exchange(platform_.restore_.has_tsc, true);
  if (ahead < -second || ahead > (is_first ? 0 : second)) platform_.restored_tsc_offset_ = offset;
  set_tsc_offset(platform_.restored_tsc_offset_);
}

void VcpuPlatform::restore_tsc_khz(std::uint32_t khz) {
  const std::lock_guard lock(platform_.restore_mutex_);
  if (khz == 0 || khz == platform_.clock().tsc_khz() || platform_.host_clock_ == nullptr) return;
  const std::uint64_t ns = platform_.kvm_clock_.ns();
  platform_.host_clock_->set_tsc_khz(khz);
  platform_.kvm_clock_.set_ns(ns);
}

// The guest's page tells what the saved machine's clock was: this one goes on from there. A machine
// that is only being stopped and continued keeps its line.
void VcpuPlatform::restore_clock(std::uint64_t system_time_msr) {
  const std::lock_guard lock(platform_.restore_mutex_);
  if (platform_.restore_.has_clock) return;
  const std::uint64_t at = platform_.restore_.at;
  const std::optional<std::uint64_t> saved = pv_.clock_ns(system_time_msr, at + tsc_offset_);
  if (!saved) return;
  platform_.restore_.has_clock = true;
  if (*saved != platform_.kvm_clock_.ns_at(at)) platform_.kvm_clock_.set_ns_at(at, *saved);
}

// ---- Model-specific registers ------------------------------------------------------------------

std::uint64_t* VcpuPlatform::stored_msr(std::uint32_t index) {
  if (index == msr::kMachineCheckStatus) return &machine_check_status_;
  const std::uint32_t bank = index - msr::kMachineCheckBank;
  return bank < msr::kMachineCheckBankSize ? &machine_check_bank_[bank] : nullptr;
}

bool VcpuPlatform::read_msr(std::uint32_t index, std::uint64_t& value) {
  switch (index) {
    case msr::kTsc:
      value = tsc();
      return true;
    case msr::kTscAdjust:
      value = tsc_adjust_;
      return true;
    case msr::kApicBase:
      value = apic_.base();
      return true;
    case msr::kTscDeadline:
      value = apic_.tsc_deadline();
      return true;
    case msr::kMachineCheckCapability:
      value = 1;  // one bank
      return true;
    default:
      break;
  }
  if (index - msr::kX2apic < msr::kX2apicCount) return apic_.read_x2apic(index, value);
  if (const std::uint64_t* stored = stored_msr(index)) {
    value = *stored;
    return true;
  }
  return pv_.read_msr(index, value);
}

bool VcpuPlatform::write_msr(std::uint32_t index, std::uint64_t value) {
  switch (index) {
    case msr::kTsc:
      write_tsc(value);
      return true;
    case msr::kTscAdjust: {
      const std::uint64_t jump = value - tsc_adjust_;
      tsc_adjust_ = value;
      set_tsc_offset(tsc_offset_ + jump);
      return true;
    }
    case msr::kApicBase:
      return apic_.write_base(value);
    case msr::kTscDeadline:
      apic_.write_tsc_deadline(value);
      return true;
    default:
      break;
  }
  if (index - msr::kX2apic < msr::kX2apicCount) return apic_.write_x2apic(index, value);
  if (std::uint64_t* stored = stored_msr(index)) {
    // Spec: SDM vol. 3, 15.3.2: all ones or nothing into a control register, else only clearing.
    const bool is_control = index == msr::kMachineCheckBank;
    if (value != 0 && !(is_control && value == ~0ull)) return false;
    *stored = value;
    return true;
  }
  return pv_.write_msr(index, value, tsc_offset_);
}

// ---- State -------------------------------------------------------------------------------------

void VcpuPlatform::save(CpuState& state) {
  state.lapic.resize(kLapicPageSize);
  apic_.save(std::span<std::byte, kLapicPageSize>(state.lapic));
  state.apic_base = apic_.base();
  state.cr8 = apic_.cr8();
  state.tsc_khz = platform_.clock().tsc_khz();
  for (const std::uint32_t index : kSaved) {
    std::uint64_t value = 0;
    if (!read_msr(index, value)) continue;
    if (index == msr::kTsc) value = platform_.stopped_tsc() + tsc_offset_;
    state.msrs.push_back({index, value});
  }
}

// The order matters: the rate before the counter, the APIC's mode before its page, its timer's mode
// and the counter before the deadline.
Status VcpuPlatform::load(const CpuState& state) {
  restore_tsc_khz(state.tsc_khz);
  platform_.begin_restore();
  if (state.apic_base != 0 && !apic_.restore_base(state.apic_base)) {
    return fail(Code::kCorrupt, fmt::format("an APIC base of {:#x}", state.apic_base));
  }
  if (state.lapic.empty()) {
    apic_.init_reset();
    apic_.set_cr8(state.cr8);
  } else if (state.lapic.size() == kLapicPageSize) {
    apic_.load(std::span<const std::byte, kLapicPageSize>(state.lapic));
  } else {
    return fail(Code::kCorrupt, fmt::format("a local APIC of {} bytes", state.lapic.size()));
  }
  return restore_msrs(state);
}

Status VcpuPlatform::restore_msrs(const CpuState& state) {
  std::vector<MsrValue> values = state.msrs;
  std::sort(values.begin(), values.end(),
            [](const MsrValue& a, const MsrValue& b) { return a.index < b.index; });
  for (const MsrValue& value : values) {
    // A register that is not there holds zero, or what it has on every machine.
    if (is_elsewhere(value.index) || restore_msr(value.index, value.value) || value.value == 0 ||
        (value.index == msr::kPollControl && value.value == msr::kPollControlReset)) {
      continue;
    }
    return fail(Code::kUnsupported,
                fmt::format("the software CPU has no place for {:#x} in MSR {:#x}", value.value,
                            value.index),
                "save and restore with the CPU model x86-64-v2");
  }
  return {};
}

bool VcpuPlatform::restore_msr(std::uint32_t index, std::uint64_t value) {
  switch (index) {
    case msr::kTsc:
      restore_tsc(value);
      return true;
    case msr::kTscAdjust:
      tsc_adjust_ = value;
      return true;
    case msr::kTscDeadline:
      apic_.write_tsc_deadline(value);
      return true;
    case msr::kApicBase:
      return true;
    case pv_msr::kSystemTime:
      restore_clock(value);
      break;
    default:
      break;
  }
  if (std::uint64_t* stored = stored_msr(index)) {
    *stored = value;
    return true;
  }
  return pv_.restore_msr(index, value, tsc_offset_);
}

// ---- Hypercalls --------------------------------------------------------------------------------

std::uint64_t VcpuPlatform::hypercall(std::uint64_t number,
                                      std::span<const std::uint64_t, 4> arguments) {
  switch (number) {
    case hypercall_number::kVapicPoll:
      return 0;
    case hypercall_number::kKickCpu:
      return kick(arguments[1]);
    case hypercall_number::kClockPairing:
      return pair_clocks(arguments[0], arguments[1]);
    case hypercall_number::kSendIpi:
      return send_ipi(arguments);
    case hypercall_number::kSchedYield:
      std::this_thread::yield();
      return 0;
    default:
      return error(kNoSuchCall);
  }
}

std::uint64_t VcpuPlatform::kick(std::uint64_t apic_id) {
  if (VcpuPlatform* target = platform_.vcpu(apic_id)) target->unhalt();
  return 0;
}

// Two words of bits for the APIC ids from the third argument on, and the low half of an ICR.
std::uint64_t VcpuPlatform::send_ipi(std::span<const std::uint64_t, 4> arguments) {
  constexpr std::uint64_t kDestinationBits = 0xC'0800;  // shorthand, logical mode
  const std::uint64_t first = arguments[2], icr = arguments[3];
  if ((icr & kDestinationBits) != 0) return error(kInvalid);
  ApicMessage message{.vector = static_cast<std::uint8_t>(icr),
                      .mode = static_cast<DeliveryMode>((icr >> 8) & 7)};
  std::uint64_t count = 0;
  for (std::uint64_t id = first; id < kMaxVcpus; ++id) {
    const std::uint64_t bit = id - first;
    if ((arguments[bit / 64] >> (bit % 64) & 1) == 0) continue;
    message.destination = static_cast<std::uint32_t>(id);
    count += platform_.bus().deliver(message);
  }
  return count;
}

std::uint64_t VcpuPlatform::pair_clocks(std::uint64_t address, std::uint64_t type) {
  constexpr std::uint64_t kWallClock = 0, kNsPerSecond = 1'000'000'000;
  if (type != kWallClock) return error(kNotSupported);
  const std::uint64_t wall = platform_.clock().wall_ns();
  const ClockPairing pairing{.seconds = static_cast<std::int64_t>(wall / kNsPerSecond),
                             .nanoseconds = static_cast<std::int64_t>(wall % kNsPerSecond),
                             .tsc = tsc()};
  const auto bytes = std::as_bytes(std::span(&pairing, 1));
  return write_guest(platform_.machine(), address, bytes) ? 0 : error(kFault);
}

// ---- event/platform_calls.h --------------------------------------------------------------------

bool platform_read_msr(Cpu& cpu, std::uint32_t index, std::uint64_t& value) {
  const OrderedAccess ordered;
  return cpu.platform->read_msr(index, value);
}

bool platform_write_msr(Cpu& cpu, std::uint32_t index, std::uint64_t value) {
  const OrderedAccess ordered;
  return cpu.platform->write_msr(index, value);
}

std::uint64_t platform_tsc(Cpu& cpu) { return cpu.platform->tsc(); }

void platform_cpuid(Cpu& cpu, std::uint32_t leaf, std::uint32_t subleaf, std::uint32_t out[4]) {
  const CpuidLeaf found = cpu.platform->cpuid(leaf, subleaf);
  out[0] = found.eax;
  out[1] = found.ebx;
  out[2] = found.ecx;
  out[3] = found.edx;
}

std::uint64_t platform_cr8(Cpu& cpu) {
  const OrderedAccess ordered;
  return cpu.apic->cr8();
}
void platform_set_cr8(Cpu& cpu, std::uint64_t priority) {
  const OrderedAccess ordered;
  cpu.apic->set_cr8(priority);
}

std::uint64_t platform_hypercall(Cpu& cpu, std::uint64_t nr, std::uint64_t a0, std::uint64_t a1,
                                 std::uint64_t a2, std::uint64_t a3) {
  const OrderedAccess ordered;
  const std::array<std::uint64_t, 4> arguments = {a0, a1, a2, a3};
  return cpu.platform->hypercall(nr, arguments);
}

}  // namespace sm::soft
