// GuestPhysAddr: an address in the guest's physical memory. Comparable, nothing else; the only way
// forward is checked_add.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "base/checked.h"

namespace sm {

class GuestPhysAddr {
 public:
  constexpr GuestPhysAddr() = default;
  constexpr explicit GuestPhysAddr(std::uint64_t raw) : raw_(raw) {}

  constexpr std::uint64_t raw() const { return raw_; }
  constexpr auto operator<=>(const GuestPhysAddr&) const = default;

  constexpr std::optional<GuestPhysAddr> checked_add(std::uint64_t n) const {
    const auto sum = sm::checked_add(raw_, n);
    if (!sum) return std::nullopt;
    return GuestPhysAddr(*sum);
  }
  constexpr std::optional<std::uint64_t> offset_from(GuestPhysAddr base) const {
    if (raw_ < base.raw_) return std::nullopt;
    return raw_ - base.raw_;
  }
  constexpr bool is_aligned(std::uint64_t power_of_two) const {
    return (raw_ & (power_of_two - 1)) == 0;
  }

 private:
  std::uint64_t raw_ = 0;
};

static_assert(!std::is_convertible_v<std::uint64_t, GuestPhysAddr>);
static_assert(!GuestPhysAddr(~0ull).checked_add(1));

}  // namespace sm
