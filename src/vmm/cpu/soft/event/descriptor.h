// Descriptors: entries of the GDT, LDT and IDT, and the conversion to segment registers. Values
// only.
// Spec: SDM vol. 3, 3.4.5 (segments), 3.5 (system), 6.11 and 6.14.1 (gates).
#pragma once

#include <cstdint>

#include "vmm/cpu/soft/cpu.h"

namespace sm::soft {

// Bits of SegmentRegister::attributes.
namespace attribute {
inline constexpr std::uint16_t kType = 0xF, kAccessed = 1u << 0, kReadableOrWritable = 1u << 1,
                               kConformingOrExpandDown = 1u << 2, kCode = 1u << 3,
                               kCodeOrData = 1u << 4, kPresent = 1u << 7, kLong = 1u << 13,
                               kBig = 1u << 14, kGranular = 1u << 15;
inline constexpr unsigned kDplShift = 5;
}  // namespace attribute

// Types of system descriptors. In long mode the ones for 16 bits do not exist and those of TSS,
// LDT and call gate take 16 bytes.
enum class SystemType : std::uint8_t {
  kTss16 = 1,
  kLdt = 2,
  kBusyTss16 = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTss = 9,
  kBusyTss = 11,
  kCallGate = 12,
  kInterruptGate = 14,
  kTrapGate = 15,
};
inline constexpr std::uint16_t kTssBusyBit = 2;  // of the type

// What a descriptor's attributes say; the same questions are asked of segment registers.
struct Attributes {
  std::uint16_t raw = 0;

  bool has(std::uint16_t bits) const { return (raw & bits) == bits; }
  std::uint8_t dpl() const { return (raw >> attribute::kDplShift) & 3; }
  bool present() const { return has(attribute::kPresent); }
  bool is_system() const { return !has(attribute::kCodeOrData); }
  SystemType system_type() const { return static_cast<SystemType>(raw & attribute::kType); }
  bool is_code() const { return has(attribute::kCodeOrData | attribute::kCode); }
  bool is_conforming_code() const { return is_code() && has(attribute::kConformingOrExpandDown); }
  bool is_data() const { return !is_system() && !has(attribute::kCode); }
  bool is_writable_data() const { return is_data() && has(attribute::kReadableOrWritable); }
  bool is_readable() const {
    return is_data() || (is_code() && has(attribute::kReadableOrWritable));
  }
  bool is_expand_down() const { return is_data() && has(attribute::kConformingOrExpandDown); }
  bool is_long() const { return has(attribute::kLong); }
  bool is_big() const { return has(attribute::kBig); }
};
inline Attributes attributes_of(const SegmentRegister& reg) { return {reg.attributes}; }

struct Descriptor {
  std::uint64_t low = 0;
  std::uint64_t high = 0;  // of 16-byte descriptors, else 0

  Attributes attributes() const { return {static_cast<std::uint16_t>((low >> 40) & 0xF0FF)}; }
  std::uint64_t base() const {
    return ((low >> 16) & 0xFFFFFF) | ((low >> 56) << 24) | (high << 32);
  }
  std::uint32_t limit() const {
    const auto raw = static_cast<std::uint32_t>((low & 0xFFFF) | ((low >> 32) & 0xF0000));
    return attributes().has(attribute::kGranular) ? raw << 12 | 0xFFF : raw;
  }
  // Of a 16-byte descriptor: where a second descriptor would have its type.
  bool second_type_clear() const { return ((high >> 40) & 0x1F) == 0; }
  // Of gates.
  std::uint16_t gate_selector() const { return static_cast<std::uint16_t>(low >> 16); }
  std::uint64_t gate_offset() const { return (low & 0xFFFF) | ((low >> 48) << 16) | (high << 32); }
  std::uint8_t gate_stack() const { return (low >> 32) & 7; }        // IST of a 64-bit gate
  std::uint8_t gate_parameters() const { return (low >> 32) & 31; }  // of a call gate
};

inline SegmentRegister segment_register(const Descriptor& descriptor, std::uint16_t selector) {
  return {.base = descriptor.base(),
          .limit = descriptor.limit(),
          .selector = selector,
          .attributes = descriptor.attributes().raw,
          .usable = true};
}
// A register that holds a null selector; SS still says the privilege.
inline SegmentRegister null_register(std::uint16_t selector, std::uint8_t dpl = 0) {
  return {.selector = selector,
          .attributes = static_cast<std::uint16_t>(dpl << attribute::kDplShift)};
}

inline bool is_null_selector(std::uint16_t selector) { return (selector & 0xFFFC) == 0; }
inline std::uint8_t requested_privilege(std::uint16_t selector) { return selector & 3; }
inline std::uint16_t with_privilege(std::uint16_t selector, std::uint8_t cpl) {
  return static_cast<std::uint16_t>((selector & 0xFFFC) | cpl);
}

// 48-bit linear addresses.
inline bool is_canonical_address(std::uint64_t address) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(address << 16) >> 16) == address;
}

}  // namespace sm::soft
