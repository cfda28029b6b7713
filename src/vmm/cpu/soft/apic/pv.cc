#include "vmm/cpu/soft/apic/pv.h"

#include <algorithm>
#include <cstring>

#include "vmm/cpu/soft/machine.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kEnable = 1;

// The guest's steal time structure: 64 bytes at a multiple of 64. Stolen time stays 0: what a host
// takes from its vCPU threads is for the host to report.
constexpr std::uint64_t kStealReserved = 0x3E, kStealSize = 64;
constexpr std::size_t kVersionOffset = 8, kPreemptedOffset = 16;
constexpr std::uint8_t kPreempted = 1, kFlushTlb = 2;

constexpr std::uint64_t kEoiReserved = 2;

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
template <class T>
std::span<std::byte> writable_bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// Calls `copy` with the host's bytes of each page's share of [at, at + size).
template <class Copy>
bool for_each_page(const Machine& machine, std::uint64_t at, std::size_t size, Copy copy) {
  for (std::size_t done = 0; done < size;) {
    std::byte* host = machine.memory().host(at + done);
    if (host == nullptr) return false;
    const std::size_t in_page = kPageSize - ((at + done) & kPageMask);
    const std::size_t length = std::min(size - done, in_page);
    copy(host, done, length);
    done += length;
  }
  return true;
}

// A structure that begins with a version, odd while it is being written. The guest's other vCPUs
// may read at any time. x86 keeps stores in order, so only the compiler has to.
template <class T>
void publish(Machine& machine, std::uint64_t at, T value) {
  std::uint32_t version = 0;
  if (!read_guest(machine, at, writable_bytes_of(version))) return;
  version = (version + 1) | 1;
  write_guest(machine, at, bytes_of(version));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  value.version = version;
  if (!write_guest(machine, at, bytes_of(value))) return;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  ++version;
  write_guest(machine, at, bytes_of(version));
}

}  // namespace

bool read_guest(const Machine& machine, std::uint64_t at, std::span<std::byte> out) {
  return for_each_page(machine, at, out.size(),
                       [&](const std::byte* host, std::size_t done, std::size_t length) {
                         std::memcpy(out.data() + done, host, length);
                       });
}

bool write_guest(Machine& machine, std::uint64_t at, std::span<const std::byte> in) {
  const bool all = for_each_page(machine, at, in.size(),
                                 [&](std::byte* host, std::size_t done, std::size_t length) {
                                   std::memcpy(host, in.data() + done, length);
                                 });
  machine.code_written(at, in.size());
  return all;
}

bool PvVcpu::read_msr(std::uint32_t index, std::uint64_t& value) const {
  switch (index) {
    case pv_msr::kWallClockOld:
    case pv_msr::kWallClock:
      value = wall_clock_msr_;
      return true;
    case pv_msr::kSystemTimeOld:
    case pv_msr::kSystemTime:
      value = system_time_msr_;
      return true;
    case pv_msr::kStealTime:
      value = steal_time_msr_;
      return true;
    case pv_msr::kPvEoi:
      value = pv_eoi_msr_;
      return true;
    default:
      return false;
  }
}

bool PvVcpu::write_msr(std::uint32_t index, std::uint64_t value, std::uint64_t tsc_offset) {
  const bool done = restore_msr(index, value, tsc_offset);
  if (index == pv_msr::kWallClock || index == pv_msr::kWallClockOld) write_wall_clock();
  return done;
}

bool PvVcpu::restore_msr(std::uint32_t index, std::uint64_t value, std::uint64_t tsc_offset) {
  switch (index) {
    case pv_msr::kWallClockOld:
    case pv_msr::kWallClock:
      wall_clock_msr_ = value;
      return true;
    case pv_msr::kSystemTimeOld:
    case pv_msr::kSystemTime:
      system_time_msr_ = value;
      publish_clock(tsc_offset);
      return true;
    case pv_msr::kStealTime:
      return set_steal_time(value);
    case pv_msr::kPvEoi:
      return set_pv_eoi(value);
    default:
      return false;
  }
}

void PvVcpu::reset() {
  wall_clock_msr_ = system_time_msr_ = steal_time_msr_ = pv_eoi_msr_ = 0;
  preempted_ = nullptr;
  unhalt_.store(false);
  apic_.set_pv_eoi(nullptr);
}

void PvVcpu::tsc_offset_changed(std::uint64_t tsc_offset) { publish_clock(tsc_offset); }

// An address that is not RAM gets nothing, as under KVM.
void PvVcpu::publish_clock(std::uint64_t tsc_offset) {
  if ((system_time_msr_ & kEnable) == 0) return;
  publish(machine_, system_time_msr_ & ~kEnable, clock_.time(tsc_offset));
}

void PvVcpu::write_wall_clock() {
  if (wall_clock_msr_ != 0) publish(machine_, wall_clock_msr_, clock_.wall_clock());
}

std::optional<std::uint64_t> PvVcpu::clock_ns(std::uint64_t system_time_msr,
                                              std::uint64_t guest_tsc) const {
  PvClockTime page;
  if ((system_time_msr & kEnable) == 0) return std::nullopt;
  if (!read_guest(machine_, system_time_msr & ~kEnable, writable_bytes_of(page))) {
    return std::nullopt;
  }
  if (page.version == 0 || page.version % 2 != 0 || page.multiplier == 0) return std::nullopt;
  return KvmClock::ns_of(page, guest_tsc);
}

bool PvVcpu::set_steal_time(std::uint64_t value) {
  std::byte* area = nullptr;
  if ((value & kEnable) != 0) {
    if ((value & kStealReserved) != 0) return false;
    area = machine_.memory().host(value & ~(kStealSize - 1));
    if (area == nullptr) return false;
  }
  steal_time_msr_ = value;
  preempted_ = area == nullptr ? nullptr : area + kPreemptedOffset;
  if (area == nullptr) return true;
  area[kPreemptedOffset] = std::byte{0};
  area[kVersionOffset] &= std::byte{0xFE};
  return true;
}

// SAFETY: the word is aligned to 4 and inside of a page of RAM, which outlives every vCPU.
bool PvVcpu::set_pv_eoi(std::uint64_t value) {
  std::byte* word = nullptr;
  if ((value & kEnable) != 0) {
    if ((value & kEoiReserved) != 0) return false;
    word = machine_.memory().host(value & ~std::uint64_t{3});
    if (word == nullptr) return false;
  }
  pv_eoi_msr_ = value;
  apic_.set_pv_eoi(reinterpret_cast<std::uint32_t*>(word));
  return true;
}

// SAFETY (both): a single byte, which the guest's other vCPUs change with locked instructions.
void PvVcpu::begin_halt() {
  if (preempted_ == nullptr) return;
  std::atomic_ref<std::uint8_t>(reinterpret_cast<std::uint8_t&>(*preempted_)).store(kPreempted);
}

bool PvVcpu::end_halt() {
  if (preempted_ == nullptr) return false;
  const std::uint8_t before =
      std::atomic_ref<std::uint8_t>(reinterpret_cast<std::uint8_t&>(*preempted_)).exchange(0);
  return (before & kFlushTlb) != 0;
}

}  // namespace sm::soft
