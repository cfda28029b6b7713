#include "vmm/cpu/kvm/kvm_state.h"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "vmm/cpu/kvm/kvm_msrs.h"
#include "vmm/cpu/kvm/kvm_sys.h"

namespace sm::kvm {

namespace {

constexpr std::size_t kLegacyXsaveSize = sizeof(XsaveArea);
constexpr std::uint64_t kRflagsReserved = 2;
constexpr std::uint64_t kXcr0Reset = 1;  // x87 only
constexpr std::uint8_t kBusyTask = 2;    // in a task descriptor's type

// Spec: AMD APM vol. 3, Fn8000_0001_ECX: the host's processor has SVM.
bool host_has_svm() {
  constexpr unsigned kSvm = 1u << 2;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(0x8000'0001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kSvm) != 0;
}

// CpuState's order of general registers in terms of the kernel's struct.
constexpr std::array kGprs = {&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                              &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                              &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                              &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

constexpr std::array<std::pair<SegmentState CpuState::*, kvm_segment kvm_sregs::*>, 8> kSegments = {
    {
        {&CpuState::cs, &kvm_sregs::cs},
        {&CpuState::ds, &kvm_sregs::ds},
        {&CpuState::es, &kvm_sregs::es},
        {&CpuState::fs, &kvm_sregs::fs},
        {&CpuState::gs, &kvm_sregs::gs},
        {&CpuState::ss, &kvm_sregs::ss},
        {&CpuState::tr, &kvm_sregs::tr},
        {&CpuState::ldt, &kvm_sregs::ldt},
    }};

constexpr std::array<std::pair<MpState, std::uint32_t>, 5> kMpStates = {{
    {MpState::kRunnable, KVM_MP_STATE_RUNNABLE},
    {MpState::kUninitialized, KVM_MP_STATE_UNINITIALIZED},
    {MpState::kInitReceived, KVM_MP_STATE_INIT_RECEIVED},
    {MpState::kHalted, KVM_MP_STATE_HALTED},
    {MpState::kSipiReceived, KVM_MP_STATE_SIPI_RECEIVED},
}};

Result<MpState> get_mp_state(int fd) {
  kvm_mp_state raw{};
  SM_TRY(call(fd, KVM_GET_MP_STATE, &raw, "KVM_GET_MP_STATE"));
  for (const auto& [ours, theirs] : kMpStates) {
    if (theirs == raw.mp_state) return ours;
  }
  return fail(Code::kUnsupported, fmt::format("unknown KVM_MP_STATE {}", raw.mp_state));
}

Status set_mp_state(int fd, MpState state) {
  for (const auto& [ours, theirs] : kMpStates) {
    if (ours != state) continue;
    kvm_mp_state raw{};
    raw.mp_state = theirs;
    SM_TRY(call(fd, KVM_SET_MP_STATE, &raw, "KVM_SET_MP_STATE"));
    return {};
  }
  return fail(Code::kCorrupt, "unknown multiprocessor state");
}

Status get_sregs(int fd, CpuState& state) {
  kvm_sregs raw{};
  SM_TRY(call(fd, KVM_GET_SREGS, &raw, "KVM_GET_SREGS"));
  for (const auto& [ours, theirs] : kSegments) state.*ours = convert_segment(raw.*theirs);
  state.gdt = {raw.gdt.base, raw.gdt.limit};
  state.idt = {raw.idt.base, raw.idt.limit};
  state.cr0 = raw.cr0;
  state.cr2 = raw.cr2;
  state.cr3 = raw.cr3;
  state.cr4 = raw.cr4;
  state.cr8 = raw.cr8;
  state.efer = raw.efer;
  state.apic_base = raw.apic_base;
  return {};
}

Status set_sregs(int fd, const HostTraits& traits, const ResetState& reset, const CpuState& state) {
  kvm_sregs raw{};
  for (const auto& [ours, theirs] : kSegments) raw.*theirs = convert_segment(state.*ours);
  // VT-x enters no guest without a task register.
  if (!state.tr.present) raw.tr = reset.task;
  // SVM keeps the task register's type without its busy bit, which KVM adds when it is asked; some
  // processors check I/O permissions only in a TSS that looks as they left it.
  if (traits.is_svm) raw.tr.type &= static_cast<std::uint8_t>(~kBusyTask);
  raw.gdt = {state.gdt.base, state.gdt.limit, {}};
  raw.idt = {state.idt.base, state.idt.limit, {}};
  raw.cr0 = state.cr0;
  raw.cr2 = state.cr2;
  raw.cr3 = state.cr3;
  raw.cr4 = state.cr4;
  raw.cr8 = state.cr8;
  raw.efer = state.efer;
  raw.apic_base = state.apic_base == 0 ? reset.apic_base : state.apic_base;
  // interrupt_bitmap stays empty: an accepted interrupt travels in the events.
  SM_TRY(call(fd, KVM_SET_SREGS, &raw, "KVM_SET_SREGS"));
  return {};
}

Status get_xstate(int fd, const HostTraits& traits, CpuState& state) {
  state.xsave.resize(traits.xsave_size);
  SM_TRY(call(fd, traits.has_xsave2 ? kGetXsave2 : kGetXsave, state.xsave.data(), "KVM_GET_XSAVE"));
  if (!traits.has_xcrs) return {};
  kvm_xcrs xcrs{};
  SM_TRY(call(fd, KVM_GET_XCRS, &xcrs, "KVM_GET_XCRS"));
  if (xcrs.nr_xcrs > 0) state.xcr0 = xcrs.xcrs[0].value;
  return {};
}

Status set_xstate(int fd, const HostTraits& traits, const CpuState& state) {
  if (traits.has_xcrs) {
    kvm_xcrs xcrs{};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = state.xcr0;
    SM_TRY(call(fd, KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS"));
  } else if (state.xcr0 != kXcr0Reset) {
    return fail(Code::kUnsupported, "the state needs XSAVE and this host has none",
                "restore on a host like the one that saved the state");
  }
  const std::vector<std::byte> image = SM_TRY(convert_xsave(state.xsave, traits.xsave_size));
  SM_TRY(call(fd, kSetXsave, image.data(), "KVM_SET_XSAVE"));
  return {};
}

Status get_debug_registers(int fd, CpuState& state) {
  kvm_debugregs raw{};
  SM_TRY(call(fd, KVM_GET_DEBUGREGS, &raw, "KVM_GET_DEBUGREGS"));
  std::copy(std::begin(raw.db), std::end(raw.db), state.dr.begin());
  state.dr6 = raw.dr6;
  state.dr7 = raw.dr7;
  return {};
}

Status set_debug_registers(int fd, const CpuState& state) {
  kvm_debugregs raw{};
  std::copy(state.dr.begin(), state.dr.end(), std::begin(raw.db));
  raw.dr6 = state.dr6;
  raw.dr7 = state.dr7;
  SM_TRY(call(fd, KVM_SET_DEBUGREGS, &raw, "KVM_SET_DEBUGREGS"));
  return {};
}

Status set_lapic(int fd, const ResetState& reset, const std::vector<std::byte>& lapic) {
  kvm_lapic_state raw = reset.lapic;
  if (!lapic.empty()) {
    if (lapic.size() != sizeof(raw.regs)) {
      return fail(Code::kCorrupt, fmt::format("a local APIC of {} bytes", lapic.size()));
    }
    std::memcpy(raw.regs, lapic.data(), lapic.size());
  }
  SM_TRY(call(fd, KVM_SET_LAPIC, &raw, "KVM_SET_LAPIC"));
  return {};
}

// Two calibrations of one processor differ by less than this; a guest's clock corrects it.
bool nearly_equal(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kPartsPerMillion = 250;
  const std::uint64_t difference = a > b ? a - b : b - a;
  return difference * 1'000'000 <= std::max(a, b) * kPartsPerMillion;
}

Status set_tsc_khz(int fd, const HostTraits& traits, std::uint32_t khz) {
  if (khz == 0) return {};
  const int present = SM_TRY(call(fd, KVM_GET_TSC_KHZ, 0ul, "KVM_GET_TSC_KHZ"));
  if (static_cast<std::uint32_t>(present) == khz) return {};
  if (!traits.has_tsc_control) {
    if (nearly_equal(static_cast<std::uint32_t>(present), khz)) return {};
    return fail(Code::kUnsupported,
                fmt::format("the state needs a time stamp counter of {} kHz and this host, which "
                            "cannot scale its own, has {} kHz",
                            khz, present),
                "restore on a host of the same clock rate");
  }
  SM_TRY(call(fd, KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz), "KVM_SET_TSC_KHZ"));
  return {};
}

}  // namespace

kvm_regs convert_regs(const CpuState& state) {
  kvm_regs regs{};
  for (std::size_t i = 0; i < kGprs.size(); ++i) regs.*kGprs[i] = state.gpr[i];
  regs.rip = state.rip;
  regs.rflags = state.rflags | kRflagsReserved;
  return regs;
}

void convert_regs(const kvm_regs& regs, CpuState& state) {
  for (std::size_t i = 0; i < kGprs.size(); ++i) state.gpr[i] = regs.*kGprs[i];
  state.rip = regs.rip;
  state.rflags = regs.rflags;
}

kvm_segment convert_segment(const SegmentState& segment) {
  kvm_segment raw{};
  raw.base = segment.base;
  raw.limit = segment.limit;
  raw.selector = segment.selector;
  raw.type = segment.type;
  raw.present = segment.present;
  raw.dpl = segment.dpl;
  raw.db = segment.default_big;
  raw.s = segment.code_or_data;
  raw.l = segment.long_mode;
  raw.g = segment.granularity;
  raw.avl = segment.available;
  raw.unusable = segment.unusable || !segment.present;
  return raw;
}

SegmentState convert_segment(const kvm_segment& raw) {
  return SegmentState{.base = raw.base,
                      .limit = raw.limit,
                      .selector = raw.selector,
                      .type = raw.type,
                      .dpl = raw.dpl,
                      .present = raw.present != 0,
                      .code_or_data = raw.s != 0,
                      .long_mode = raw.l != 0,
                      .default_big = raw.db != 0,
                      .granularity = raw.g != 0,
                      .available = raw.avl != 0,
                      .unusable = raw.unusable != 0};
}

kvm_vcpu_events convert_events(const EventState& events, const HostTraits& traits) {
  kvm_vcpu_events raw{};
  raw.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
              KVM_VCPUEVENT_VALID_SHADOW;
  raw.exception.injected = events.exception_injected;
  raw.exception.nr = events.exception_vector;
  raw.exception.has_error_code = events.exception_has_error_code;
  raw.exception.error_code = events.exception_error_code;
  if (traits.has_exception_payload) {
    raw.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
    raw.exception.pending = events.exception_pending;
    raw.exception_has_payload = events.exception_has_payload;
    raw.exception_payload = events.exception_payload;
  } else if (events.exception_pending) {
    // Such a kernel knows one kind of exception; what was pending is injected at the next entry.
    raw.exception.injected = 1;
  }
  raw.interrupt.injected = events.interrupt_injected;
  raw.interrupt.nr = events.interrupt_vector;
  raw.interrupt.soft = events.interrupt_soft;
  raw.interrupt.shadow = events.interrupt_shadow;
  raw.nmi.injected = events.nmi_injected;
  raw.nmi.pending = events.nmi_pending;
  raw.nmi.masked = events.nmi_masked;
  raw.sipi_vector = events.sipi_vector;
  if (traits.has_smm) {
    raw.flags |= KVM_VCPUEVENT_VALID_SMM;
    raw.smi.smm = events.smi_smm;
    raw.smi.pending = events.smi_pending;
  }
  return raw;
}

EventState convert_events(const kvm_vcpu_events& raw) {
  EventState events;
  events.exception_injected = raw.exception.injected != 0;
  events.exception_pending = raw.exception.pending != 0;
  events.exception_vector = raw.exception.nr;
  events.exception_has_error_code = raw.exception.has_error_code != 0;
  events.exception_error_code = raw.exception.error_code;
  events.exception_has_payload = raw.exception_has_payload != 0;
  events.exception_payload = raw.exception_payload;
  events.interrupt_injected = raw.interrupt.injected != 0;
  events.interrupt_vector = raw.interrupt.nr;
  events.interrupt_soft = raw.interrupt.soft != 0;
  events.interrupt_shadow = raw.interrupt.shadow;
  events.nmi_injected = raw.nmi.injected != 0;
  events.nmi_pending = raw.nmi.pending != 0;
  events.nmi_masked = raw.nmi.masked != 0;
  events.sipi_vector = raw.sipi_vector;
  events.smi_smm = raw.smi.smm != 0;
  events.smi_pending = raw.smi.pending != 0;
  return events;
}

// Spec: SDM vol. 1, 13.4. Offsets: FCW 0, MXCSR 24, XSTATE_BV 512.
Result<std::vector<std::byte>> convert_xsave(const std::vector<std::byte>& xsave,
                                             std::size_t size) {
  constexpr std::size_t kMxcsrOffset = 24, kFeaturesOffset = 512, kSmallest = 576;
  constexpr std::uint16_t kResetFcw = 0x37F;
  constexpr std::uint32_t kResetMxcsr = 0x1F80;
  constexpr std::uint64_t kX87AndSse = 3;
  std::vector<std::byte> image(size);
  if (xsave.empty()) {
    std::memcpy(image.data(), &kResetFcw, sizeof(kResetFcw));
    std::memcpy(image.data() + kMxcsrOffset, &kResetMxcsr, sizeof(kResetMxcsr));
    std::memcpy(image.data() + kFeaturesOffset, &kX87AndSse, sizeof(kX87AndSse));
    return image;
  }
  if (xsave.size() < kSmallest) {
    return fail(Code::kCorrupt, fmt::format("an XSAVE area of {} bytes", xsave.size()));
  }
  const std::size_t common = std::min(size, xsave.size());
  const bool rest_is_zero = std::all_of(xsave.begin() + static_cast<std::ptrdiff_t>(common),
                                        xsave.end(), [](std::byte b) { return b == std::byte{0}; });
  if (!rest_is_zero) {
    return fail(
        Code::kUnsupported,
        fmt::format("an XSAVE area of {} bytes; this host has room for {}", xsave.size(), size),
        "restore on a host like the one that saved the state");
  }
  std::copy_n(xsave.begin(), common, image.begin());
  return image;
}

Result<HostTraits> read_host_traits(int device_fd, int vm_fd) {
  HostTraits traits;
  traits.run_size = static_cast<std::size_t>(
      SM_TRY(call(device_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul, "KVM_GET_VCPU_MMAP_SIZE")));
  if (traits.run_size < sizeof(kvm_run)) {
    return fail(Code::kUnsupported, "the host's KVM has too small a run area");
  }
  const auto has = [vm_fd](int capability) { return check_extension(vm_fd, capability) > 0; };
  traits.max_vcpus =
      static_cast<std::uint32_t>(std::max(1, check_extension(vm_fd, KVM_CAP_MAX_VCPUS)));
  const int xsave2 = check_extension(vm_fd, KVM_CAP_XSAVE2);
  traits.has_xsave2 = xsave2 > 0;
  traits.xsave_size = std::max(static_cast<std::size_t>(std::max(xsave2, 0)), kLegacyXsaveSize);
  traits.has_xcrs = has(KVM_CAP_XCRS);
  traits.has_smm = has(KVM_CAP_X86_SMM);
  traits.has_tsc_control = has(KVM_CAP_TSC_CONTROL);
  traits.has_mce = has(KVM_CAP_MCE);
  traits.is_svm = host_has_svm();
  if (has(KVM_CAP_EXCEPTION_PAYLOAD)) {
    kvm_enable_cap enable{};
    enable.cap = KVM_CAP_EXCEPTION_PAYLOAD;
    enable.args[0] = 1;
    SM_TRY(call(vm_fd, KVM_ENABLE_CAP, &enable, "enable KVM_CAP_EXCEPTION_PAYLOAD"));
    traits.has_exception_payload = true;
  }
  traits.msr_indices = SM_TRY(list_msrs(device_fd));
  return traits;
}

Result<ResetState> read_reset_state(int vcpu_fd) {
  ResetState reset;
  kvm_sregs sregs{};
  SM_TRY(call(vcpu_fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"));
  SM_TRY(call(vcpu_fd, KVM_GET_LAPIC, &reset.lapic, "KVM_GET_LAPIC"));
  reset.apic_base = sregs.apic_base;
  reset.task = sregs.tr;
  return reset;
}

// The order matters: reading the multiprocessor state makes the kernel act on a waiting INIT or
// SIPI, which changes the rest.
Result<CpuState> get_state(int fd, const HostTraits& traits) {
  CpuState state;
  state.mp_state = SM_TRY(get_mp_state(fd));
  kvm_regs regs{};
  SM_TRY(call(fd, KVM_GET_REGS, &regs, "KVM_GET_REGS"));
  convert_regs(regs, state);
  SM_TRY_STATUS(get_sregs(fd, state));
  SM_TRY_STATUS(get_xstate(fd, traits, state));
  SM_TRY_STATUS(get_debug_registers(fd, state));
  kvm_lapic_state lapic{};
  SM_TRY(call(fd, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC"));
  state.lapic.resize(sizeof(lapic.regs));
  std::memcpy(state.lapic.data(), lapic.regs, sizeof(lapic.regs));
  state.msrs = SM_TRY(read_msrs(fd, traits.msr_indices));
  kvm_vcpu_events events{};
  SM_TRY(call(fd, KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS"));
  state.events = convert_events(events);
  state.tsc_khz =
      static_cast<std::uint32_t>(SM_TRY(call(fd, KVM_GET_TSC_KHZ, 0ul, "KVM_GET_TSC_KHZ")));
  return state;
}

// The order matters: the APIC base decides how the APIC page is read; the TSC deadline MSR arms a
// timer of an APIC that must be there and counts by a TSC rate that must be right; setting the
// registers drops a pending exception, so events come last.
Status set_state(int fd, const HostTraits& traits, const ResetState& reset, const CpuState& state) {
  SM_TRY_STATUS(set_tsc_khz(fd, traits, state.tsc_khz));
  SM_TRY_STATUS(set_mp_state(fd, state.mp_state));
  SM_TRY_STATUS(set_sregs(fd, traits, reset, state));
  const kvm_regs regs = convert_regs(state);
  SM_TRY(call(fd, KVM_SET_REGS, &regs, "KVM_SET_REGS"));
  SM_TRY_STATUS(set_xstate(fd, traits, state));
  SM_TRY_STATUS(set_debug_registers(fd, state));
  SM_TRY_STATUS(set_lapic(fd, reset, state.lapic));
  SM_TRY_STATUS(write_msrs(fd, state.msrs));
  const kvm_vcpu_events events = convert_events(state.events, traits);
  SM_TRY(call(fd, KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS"));
  return {};
}

}  // namespace sm::kvm
