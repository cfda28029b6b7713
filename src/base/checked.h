// Arithmetic on sizes that come from outside: every result is checked. Freestanding.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace sm {

template <std::unsigned_integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T out{};
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

template <std::unsigned_integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T out{};
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// The value as To, or nothing when To cannot hold it.
template <std::integral To, std::integral From>
constexpr std::optional<To> narrow(From value) {
  To out = static_cast<To>(value);
  if (static_cast<From>(out) != value || (out < To{}) != (value < From{})) return std::nullopt;
  return out;
}

constexpr bool is_power_of_two(std::uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }

// Rounds up to a multiple of a power of two; nothing on overflow.
constexpr std::optional<std::uint64_t> align_up(std::uint64_t v, std::uint64_t alignment) {
  auto sum = checked_add(v, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

// True when [offset, offset+length) lies in [0, limit).
constexpr bool fits(std::uint64_t offset, std::uint64_t length, std::uint64_t limit) {
  return offset <= limit && length <= limit - offset;
}

}  // namespace sm
