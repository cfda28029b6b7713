// The hand-made guests of micro_guests.S and hostile_guests.S: position-independent machine code,
// each between two labels.
#pragma once

#include <cstddef>
#include <span>

#define SM_MICRO_GUEST(name)                                                   \
  extern "C" const char guest_##name##_begin[];                                \
  extern "C" const char guest_##name##_end[];                                  \
  inline std::span<const std::byte> guest_##name() {                           \
    return std::as_bytes(std::span(guest_##name##_begin, guest_##name##_end)); \
  }

SM_MICRO_GUEST(pio_out)
SM_MICRO_GUEST(pio_in)
SM_MICRO_GUEST(pio_string_out)
SM_MICRO_GUEST(pio_string_in)
SM_MICRO_GUEST(mmio_write)
SM_MICRO_GUEST(mmio_read)
SM_MICRO_GUEST(interrupt)
SM_MICRO_GUEST(notify)
SM_MICRO_GUEST(spin)
SM_MICRO_GUEST(count)
SM_MICRO_GUEST(triple_fault)
SM_MICRO_GUEST(registers)
SM_MICRO_GUEST(cpuid)
SM_MICRO_GUEST(high_memory)
SM_MICRO_GUEST(start_ap)
SM_MICRO_GUEST(ap_real_mode)
SM_MICRO_GUEST(halt)
SM_MICRO_GUEST(out_then_spin)
SM_MICRO_GUEST(fpu)
SM_MICRO_GUEST(cross_modify)
SM_MICRO_GUEST(locked_add)
SM_MICRO_GUEST(tiny_kernel)
SM_MICRO_GUEST(touch)
SM_MICRO_GUEST(msr_storm)
SM_MICRO_GUEST(jump)
SM_MICRO_GUEST(endless_faults)
SM_MICRO_GUEST(tables)
SM_MICRO_GUEST(stack_on)
SM_MICRO_GUEST(strings)
SM_MICRO_GUEST(storm)
SM_MICRO_GUEST(victim)
SM_MICRO_GUEST(startup_storm)
SM_MICRO_GUEST(code_storm)
SM_MICRO_GUEST(contention)

#undef SM_MICRO_GUEST
