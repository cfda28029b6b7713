// The fields of each section of state.bin, in order: one list for both directions, so that reading
// and writing cannot disagree. Each struct is taken apart with as many names as it has members: a
// new member does not compile until it has a place here, and with it a new section version.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/snapshot/machine_state.h"

namespace sm::state_fields {

// Limits of what has no fixed size, in bytes or elements. XSAVE areas end below 12 KiB with every
// feature that exists; a local APIC has 1 KiB.
inline constexpr std::uint32_t kMaxXsave = 64u << 10;
inline constexpr std::uint32_t kMaxLapic = 4096;
inline constexpr std::uint32_t kMaxMsrs = 4096;
inline constexpr std::uint32_t kMaxFifo = 16;
inline constexpr std::uint32_t kMaxQueues = 64;
inline constexpr std::uint32_t kMaxDeviceBytes = 1u << 20;

// `Archive` has: operator()(fields...) for numbers, booleans and arrays of numbers;
// enumeration(value, last); bytes(vector, limit); list(vector, limit, visitor).

template <class Archive, class Segment>
void segment(Archive& a, Segment& s) {
  auto& [base, limit, selector, type, dpl, present, code_or_data, long_mode, default_big,
         granularity, available, unusable] = s;
  a(base, limit, selector, type, dpl, present, code_or_data, long_mode, default_big, granularity,
    available, unusable);
}

template <class Archive, class Table>
void table(Archive& a, Table& t) {
  auto& [base, limit] = t;
  a(base, limit);
}

template <class Archive, class Events>
void events(Archive& a, Events& e) {
  auto& [exception_injected, exception_pending, exception_vector, exception_has_error_code,
         exception_error_code, exception_has_payload, exception_payload, interrupt_injected,
         interrupt_vector, interrupt_soft, interrupt_shadow, nmi_injected, nmi_pending, nmi_masked,
         sipi_vector, smi_smm, smi_pending] = e;
  a(exception_injected, exception_pending, exception_vector, exception_has_error_code,
    exception_error_code, exception_has_payload, exception_payload, interrupt_injected,
    interrupt_vector, interrupt_soft, interrupt_shadow, nmi_injected, nmi_pending, nmi_masked,
    sipi_vector, smi_smm, smi_pending);
}

template <class Archive, class Cpu>
void vcpu(Archive& a, Cpu& cpu) {
  auto& [gpr, rip, rflags, cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer,
         apic_base, xcr0, dr, dr6, dr7, xsave, msrs, lapic, event_state, mp_state, tsc_khz] = cpu;
  a(gpr, rip, rflags);
  segment(a, cs);
  segment(a, ds);
  segment(a, es);
  segment(a, fs);
  segment(a, gs);
  segment(a, ss);
  segment(a, tr);
  segment(a, ldt);
  table(a, gdt);
  table(a, idt);
  a(cr0, cr2, cr3, cr4, cr8, efer, apic_base, xcr0, dr, dr6, dr7);
  a.bytes(xsave, kMaxXsave);
  a.list(msrs, kMaxMsrs, [](auto& archive, auto& msr) {
    auto& [index, value] = msr;
    archive(index, value);
  });
  a.bytes(lapic, kMaxLapic);
  events(a, event_state);
  a.enumeration(mp_state, MpState::kSipiReceived);
  a(tsc_khz);
}

template <class Archive, class Platform>
void platform(Archive& a, Platform& p) {
  auto& [io_apic, clock_ns] = p;
  auto& [id, select, lines, redirection] = io_apic;
  a(id, select, lines, redirection, clock_ns);
}

template <class Archive, class Uart>
void uart(Archive& a, Uart& u) {
  auto& [interrupt_enable, fifo_control, line_control, modem_control, modem_delta, scratch,
         divisor_low, divisor_high, overrun, transmit_pending, fifo] = u;
  a(interrupt_enable, fifo_control, line_control, modem_control, modem_delta, scratch, divisor_low,
    divisor_high, overrun, transmit_pending);
  a.bytes(fifo, kMaxFifo);
}

template <class Archive, class Device>
void device(Archive& a, Device& d) {
  auto& [device_type, status, device_features_select, driver_features_select, driver_features,
         queue_select, interrupt_status, config_generation, config_change_pending, active, queues,
         own] = d;
  a(device_type, status, device_features_select, driver_features_select, driver_features,
    queue_select, interrupt_status, config_generation, config_change_pending, active);
  a.list(queues, kMaxQueues, [](auto& archive, auto& queue) {
    auto& [size, descriptors, available, used, ready, position] = queue;
    auto& [next_available, next_used, signalled_used] = position;
    archive(size, descriptors, available, used, ready, next_available, next_used, signalled_used);
  });
  a.bytes(own, kMaxDeviceBytes);
}

}  // namespace sm::state_fields
