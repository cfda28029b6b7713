// The platform around a vCPU that runs no instructions: registers, hypercalls, state.
#include "vmm/cpu/soft/apic/platform.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "vmm/cpu/soft/apic/cpuid_table.h"
#include "vmm/cpu/soft/event/platform_calls.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/memory/guest_memory.h"

namespace sm::soft {
namespace {

constexpr std::uint64_t kX2apicBase = 0xFEE00C00;
constexpr std::uint64_t kClockPage = 0x5000, kWallPage = 0x6000, kStealArea = 0x7040,
                        kEoiWord = 0x8004, kBeyondRam = 0xC0000000, kRamEnd = 4u << 20;

// A machine whose time is counted by hand: 2 ticks are 1 ns.
// While it is restless, every look at it takes 100 microseconds, as on a host that has other work.
class TestClock final : public VirtualClock {
 public:
  using VirtualClock::VirtualClock;
  std::uint64_t tsc() const override {
    if (restless) const_cast<TestClock*>(this)->advance(200'000);
    return VirtualClock::tsc();
  }
  bool restless = false;
};

struct Guest {
  explicit Guest(std::uint32_t count = 2) {
    memory = *GuestMemory::create(4u << 20);
    EXPECT_TRUE(machine.map(*memory));
    platform = std::make_unique<Platform>(machine, clock, timers);
    for (std::uint32_t i = 0; i < count; ++i) {
      cpus.push_back(std::make_unique<Cpu>());
      cpus.back()->index = i;
      machine.attach(*cpus.back());
      vcpus.push_back(std::make_unique<VcpuPlatform>(
          *platform, *cpus.back(),
          *build_cpuid(CpuModel::kX86_64V2Plus, soft_supported_cpuid(2'000'000),
                       CpuPlace{i, count})));
    }
  }
  ~Guest() {
    vcpus.clear();
    for (auto& cpu : cpus) machine.detach(*cpu);
  }
  Cpu& cpu(std::uint32_t i = 0) { return *cpus.at(i); }
  VcpuPlatform& vcpu(std::uint32_t i = 0) { return *vcpus.at(i); }
  std::uint64_t rdmsr(std::uint32_t index, std::uint32_t i = 0) {
    std::uint64_t value = 0;
    EXPECT_TRUE(platform_read_msr(cpu(i), index, value)) << std::hex << index;
    return value;
  }
  bool wrmsr(std::uint32_t index, std::uint64_t value, std::uint32_t i = 0) {
    return platform_write_msr(cpu(i), index, value);
  }
  template <class T>
  T load(std::uint64_t at) {
    return *memory->read_object<T>(GuestPhysAddr(at));
  }
  template <class T>
  void store(std::uint64_t at, T value) {
    EXPECT_TRUE(memory->write_object(GuestPhysAddr(at), value));
  }
  void leave() {
    for (auto& vcpu : vcpus) vcpu->left_guest();
  }
  std::uint32_t take_attention(std::uint32_t i) { return cpu(i).attention.exchange(0); }
  void enable_x2apic() {
    for (std::uint32_t i = 0; i < cpus.size(); ++i) {
      EXPECT_TRUE(wrmsr(0x1B, kX2apicBase, i));
      EXPECT_TRUE(wrmsr(0x80F, 0x1FF, i));
    }
  }

  std::unique_ptr<GuestMemory> memory;
  Machine machine;
  TestClock clock{2'000'000, 1'700'000'000'000'000'000};
  PolledTimers timers;
  std::unique_ptr<Platform> platform;
  std::vector<std::unique_ptr<Cpu>> cpus;
  std::vector<std::unique_ptr<VcpuPlatform>> vcpus;
};

TEST(Platform, puts_itself_into_the_cpu_and_out_again) {
  Guest g(1);
  EXPECT_EQ(g.cpu().platform, &g.vcpu());
  EXPECT_EQ(g.cpu().apic, &g.vcpu().apic());
  EXPECT_EQ(g.cpu().clock, &g.clock);
  g.vcpus.clear();
  EXPECT_EQ(g.cpu().platform, nullptr);
  EXPECT_EQ(g.platform->vcpu(0), nullptr);
  EXPECT_EQ(g.platform->bus().deliver({.vector = 0x40}), 0u);
}

// ---- Registers

TEST(PlatformMsr, unknown_registers_are_refused) {
  Guest g;
  std::uint64_t value = 0;
  for (const std::uint32_t index : {0u, 0x48u, 0x17Bu, 0x404u, 0x7FFu, 0x900u, 0x4B564D02u,
                                    0x4B564D06u, 0x40000000u, 0xFFFFFFFFu}) {
    EXPECT_FALSE(platform_read_msr(g.cpu(), index, value)) << std::hex << index;
    EXPECT_FALSE(g.wrmsr(index, 0)) << std::hex << index;
  }
}

TEST(PlatformMsr, the_apic_by_both_ways) {
  Guest g;
  std::array<std::byte, 4> data{};
  EXPECT_TRUE(g.vcpu(1).mmio(0xFEE00020, false, data));
  EXPECT_EQ(data[3], std::byte{1});
  EXPECT_FALSE(g.wrmsr(0x808, 0x20));
  EXPECT_FALSE(g.wrmsr(0x1B, 0xFEE00400));
  EXPECT_TRUE(g.wrmsr(0x1B, kX2apicBase, 1));
  EXPECT_FALSE(g.vcpu(1).mmio(0xFEE00020, false, data));
  EXPECT_EQ(g.rdmsr(0x802, 1), 1u);
  platform_set_cr8(g.cpu(1), 5);
  EXPECT_EQ(g.rdmsr(0x808, 1), 0x50u);
  EXPECT_EQ(platform_cr8(g.cpu(1)), 5u);
}

TEST(PlatformMsr, cpuid_follows_the_apic_s_enable_bit) {
  Guest g;
  std::uint32_t out[4] = {};
  platform_cpuid(g.cpu(), 1, 0, out);
  EXPECT_NE(out[3] & 1u << 9, 0u);
  EXPECT_TRUE(g.wrmsr(0x1B, 0xFEE00000));
  platform_cpuid(g.cpu(), 1, 0, out);
  EXPECT_EQ(out[3] & 1u << 9, 0u);
}

TEST(PlatformMsr, the_counter_and_its_adjustment_follow_each_other) {
  Guest g;
  g.clock.advance(1000);
  EXPECT_EQ(platform_tsc(g.cpu()), 1000u);
  EXPECT_TRUE(g.wrmsr(0x10, 5000));
  EXPECT_EQ(g.rdmsr(0x10), 5000u);
  EXPECT_EQ(g.rdmsr(0x3B), 4000u);
  EXPECT_TRUE(g.wrmsr(0x3B, 0));
  EXPECT_EQ(g.rdmsr(0x10), 1000u);
  g.clock.advance(10);
  EXPECT_EQ(platform_tsc(g.cpu()), 1010u);
  EXPECT_EQ(platform_tsc(g.cpu(1)), 1010u);
}

TEST(PlatformMsr, the_deadline_is_in_the_guest_s_counter) {
  Guest g;
  g.enable_x2apic();
  EXPECT_TRUE(g.wrmsr(0x10, 1'000'000));
  EXPECT_TRUE(g.wrmsr(0x832, 0x40040));
  EXPECT_TRUE(g.wrmsr(0x6E0, 1'002'000));
  EXPECT_EQ(g.timers.next(), g.clock.ns() + 1000);
  EXPECT_EQ(g.rdmsr(0x6E0), 1'002'000u);
  g.clock.advance(2000);
  g.vcpu().apic().poll_timer();
  EXPECT_EQ(g.vcpu().apic().highest_deliverable(), 0x40);
  EXPECT_EQ(g.rdmsr(0x6E0), 0u);
}

TEST(PlatformMsr, the_machine_check_bank_takes_what_the_manual_allows) {
  Guest g;
  EXPECT_EQ(g.rdmsr(0x179), 1u);
  EXPECT_TRUE(g.wrmsr(0x400, ~0ull));
  EXPECT_EQ(g.rdmsr(0x400), ~0ull);
  EXPECT_FALSE(g.wrmsr(0x400, 5));
  EXPECT_FALSE(g.wrmsr(0x401, ~0ull));
  EXPECT_TRUE(g.wrmsr(0x401, 0));
}

// ---- Devices

TEST(Platform, lines_reach_the_vcpu_that_the_ioapic_names) {
  Guest g;
  g.enable_x2apic();
  const auto out = [&](std::uint64_t at, std::uint32_t value) {
    std::array<std::byte, 4> data{};
    std::memcpy(data.data(), &value, 4);
    EXPECT_TRUE(g.vcpu().mmio(0xFEC00000 + at, true, data));
  };
  out(0, 0x10 + 2 * 5 + 1);
  out(0x10, 1u << 24);
  out(0, 0x10 + 2 * 5);
  out(0x10, 0x55);
  auto line = g.platform->irq_line(5);
  ASSERT_TRUE(line.has_value());
  g.take_attention(1);
  (*line)->trigger();
  EXPECT_EQ(g.take_attention(1), kAttentionInterrupt);
  EXPECT_EQ(g.vcpu(1).apic().highest_deliverable(), 0x55);
  EXPECT_FALSE(g.platform->irq_line(24));
}

TEST(Platform, leaves_other_accesses_to_the_outside) {
  Guest g;
  std::array<std::byte, 4> four{};
  std::array<std::byte, 1> one{};
  EXPECT_FALSE(g.vcpu().mmio(0xD0000000, false, four));
  EXPECT_FALSE(g.vcpu().mmio(0xFEC00100, false, four));
  EXPECT_FALSE(g.vcpu().port(0x3F8, false, one));
  EXPECT_TRUE(g.vcpu().port(0x21, false, one));
}

// ---- Paravirtual registers

TEST(Pv, clock_pages_agree_on_all_vcpus_whatever_their_counters_say) {
  Guest g;
  EXPECT_TRUE(g.wrmsr(0x10, 123'456'789, 1));
  EXPECT_TRUE(g.wrmsr(pv_msr::kSystemTime, kClockPage | 1, 0));
  EXPECT_TRUE(g.wrmsr(pv_msr::kSystemTime, kClockPage + 64 + 1, 1));
  g.clock.advance(10'000);
  const auto first = g.load<PvClockTime>(kClockPage), second = g.load<PvClockTime>(kClockPage + 64);
  EXPECT_EQ(first.version % 2, 0u);
  EXPECT_NE(first.version, 0u);
  EXPECT_EQ(first.flags, kPvClockStable);
  EXPECT_EQ(KvmClock::ns_of(first, platform_tsc(g.cpu(0))), 5'000u);
  EXPECT_EQ(KvmClock::ns_of(second, platform_tsc(g.cpu(1))), 5'000u);
  // A counter that is written later takes its page along, with a new version.
  EXPECT_TRUE(g.wrmsr(0x10, 7, 0));
  const auto moved = g.load<PvClockTime>(kClockPage);
  EXPECT_GT(moved.version, first.version);
  EXPECT_EQ(KvmClock::ns_of(moved, platform_tsc(g.cpu(0))), 5'000u);
  EXPECT_EQ(g.rdmsr(pv_msr::kSystemTime), kClockPage | 1);
  EXPECT_EQ(g.rdmsr(pv_msr::kSystemTimeOld), kClockPage | 1);
}

TEST(Pv, wall_clock_plus_clock_is_the_date) {
  Guest g;
  g.clock.advance(2'000'000'000);
  EXPECT_TRUE(g.wrmsr(pv_msr::kWallClock, kWallPage));
  const auto wall = g.load<PvWallClock>(kWallPage);
  EXPECT_EQ(wall.version % 2, 0u);
  EXPECT_EQ(wall.seconds * 1'000'000'000ull + wall.nanoseconds, 1'700'000'000'000'000'000u);
}

TEST(Pv, addresses_that_are_not_ram_do_no_harm) {
  Guest g;
  for (const std::uint64_t at : {kBeyondRam, kRamEnd - 4, ~std::uint64_t{0x3F}}) {
    g.wrmsr(pv_msr::kSystemTime, at | 1);
    g.wrmsr(pv_msr::kWallClock, at);
    if (at != kRamEnd - 4) {
      EXPECT_FALSE(g.wrmsr(pv_msr::kStealTime, at | 1));
      EXPECT_FALSE(g.wrmsr(pv_msr::kPvEoi, at | 1));
    }
    EXPECT_NE(platform_hypercall(g.cpu(), 9, at, 0, 0, 0), 0u);
  }
  EXPECT_FALSE(g.wrmsr(pv_msr::kStealTime, kStealArea | 3));
  EXPECT_FALSE(g.wrmsr(pv_msr::kPvEoi, kEoiWord | 3));
  EXPECT_EQ(g.rdmsr(pv_msr::kStealTime), 0u);
}

TEST(Pv, a_halted_vcpu_flushes_when_it_goes_on) {
  Guest g;
  g.store<std::uint8_t>(kStealArea + 16, 0xFF);
  EXPECT_TRUE(g.wrmsr(pv_msr::kStealTime, kStealArea | 1));
  EXPECT_EQ(g.load<std::uint8_t>(kStealArea + 16), 0);
  g.vcpu().begin_halt();
  EXPECT_EQ(g.load<std::uint8_t>(kStealArea + 16), 1);
  EXPECT_FALSE(g.vcpu().end_halt());
  EXPECT_EQ(g.load<std::uint8_t>(kStealArea + 16), 0);
  g.vcpu().begin_halt();
  g.store<std::uint8_t>(kStealArea + 16, 3);  // another vCPU asks for the flush
  EXPECT_TRUE(g.vcpu().end_halt());
  EXPECT_TRUE(g.wrmsr(pv_msr::kStealTime, 0));
  g.vcpu().begin_halt();
  EXPECT_EQ(g.load<std::uint8_t>(kStealArea + 16), 0);
  EXPECT_FALSE(g.vcpu().end_halt());
}

TEST(Pv, end_of_interrupt_by_memory) {
  Guest g;
  g.enable_x2apic();
  EXPECT_TRUE(g.wrmsr(pv_msr::kPvEoi, kEoiWord | 1));
  EXPECT_TRUE(g.wrmsr(0x83F, 0x60));
  EXPECT_EQ(g.vcpu().apic().highest_deliverable(), 0x60);
  g.vcpu().apic().acknowledge(0x60);
  EXPECT_EQ(g.load<std::uint32_t>(kEoiWord), 1u);
  g.store<std::uint32_t>(kEoiWord, 0);
  EXPECT_EQ(g.rdmsr(0x813), 0u);
}

TEST(Pv, init_gives_the_guest_s_memory_back) {
  Guest g;
  g.enable_x2apic();
  EXPECT_TRUE(g.wrmsr(pv_msr::kSystemTime, kClockPage | 1));
  EXPECT_TRUE(g.wrmsr(pv_msr::kStealTime, kStealArea | 1));
  EXPECT_TRUE(g.wrmsr(pv_msr::kPvEoi, kEoiWord | 1));
  g.vcpu().init_reset();
  for (const std::uint32_t index : {pv_msr::kSystemTime, pv_msr::kStealTime, pv_msr::kPvEoi}) {
    EXPECT_EQ(g.rdmsr(index), 0u);
  }
  g.vcpu().begin_halt();
  EXPECT_EQ(g.load<std::uint8_t>(kStealArea + 16), 0);
  EXPECT_FALSE(g.vcpu().end_halt());
  EXPECT_TRUE(g.wrmsr(0x80F, 0x1FF));
  EXPECT_TRUE(g.wrmsr(0x83F, 0x60));
  g.vcpu().apic().acknowledge(0x60);
  EXPECT_EQ(g.load<std::uint32_t>(kEoiWord), 0u);
  const std::uint32_t version = g.load<std::uint32_t>(kClockPage);
  EXPECT_TRUE(g.wrmsr(0x10, 5));
  EXPECT_EQ(g.load<std::uint32_t>(kClockPage), version);
}

// ---- Hypercalls

TEST(Hypercall, unknown_numbers_are_refused) {
  Guest g;
  for (const std::uint64_t number : {0ull, 2ull, 12ull, ~0ull}) {
    EXPECT_EQ(platform_hypercall(g.cpu(), number, 0, 0, 0, 0), static_cast<std::uint64_t>(-1000));
  }
}

TEST(Hypercall, a_kick_is_kept_for_the_next_halt) {
  Guest g;
  EXPECT_EQ(platform_hypercall(g.cpu(), 5, 0, 1, 0, 0), 0u);
  EXPECT_EQ(g.take_attention(1), kAttentionUnhalt);
  EXPECT_FALSE(g.vcpu(0).take_unhalt());
  EXPECT_TRUE(g.vcpu(1).take_unhalt());
  EXPECT_FALSE(g.vcpu(1).take_unhalt());
  EXPECT_EQ(platform_hypercall(g.cpu(), 5, 0, ~0ull, 0, 0), 0u);
}

TEST(Hypercall, interrupts_to_several_at_once) {
  Guest g(4);
  g.enable_x2apic();
  for (std::uint32_t i = 0; i < 4; ++i) g.take_attention(i);
  EXPECT_EQ(platform_hypercall(g.cpu(), 10, 0b101, 0, 1, 0x45), 2u);
  EXPECT_EQ(g.vcpu(1).apic().highest_deliverable(), 0x45);
  EXPECT_EQ(g.vcpu(3).apic().highest_deliverable(), 0x45);
  EXPECT_EQ(g.vcpu(2).apic().highest_deliverable(), std::nullopt);
  EXPECT_EQ(platform_hypercall(g.cpu(), 10, ~0ull, ~0ull, 0, 0x400), 4u);  // NMI
  EXPECT_EQ(g.take_attention(2), kAttentionNmi);
  EXPECT_EQ(platform_hypercall(g.cpu(), 10, ~0ull, ~0ull, ~0ull - 3, 0x45), 0u);
  EXPECT_EQ(platform_hypercall(g.cpu(), 10, 1, 0, 0, 0xC0045), static_cast<std::uint64_t>(-22));
}

TEST(Hypercall, clock_pairing) {
  Guest g;
  g.clock.advance(3'000'000'000);
  EXPECT_EQ(platform_hypercall(g.cpu(), 9, kWallPage - 8, 0, 0, 0), 0u);  // over a page's end
  EXPECT_EQ(g.load<std::int64_t>(kWallPage - 8), 1'700'000'001);
  EXPECT_EQ(g.load<std::int64_t>(kWallPage), 500'000'000);
  EXPECT_EQ(g.load<std::uint64_t>(kWallPage + 8), 3'000'000'000u);
  EXPECT_EQ(platform_hypercall(g.cpu(), 9, kWallPage, 1, 0, 0), static_cast<std::uint64_t>(-95));
}

// ---- State

CpuState saved(VcpuPlatform& vcpu) {
  CpuState state;
  vcpu.save(state);
  return state;
}
void prepare(Guest& g, std::uint32_t i) {
  EXPECT_TRUE(g.wrmsr(0x832, 0x40040, i));
  EXPECT_TRUE(g.wrmsr(0x6E0, platform_tsc(g.cpu(i)) + 10'000'000'000, i));
  EXPECT_TRUE(g.wrmsr(pv_msr::kSystemTime, kClockPage + i * 64 + 1, i));
  EXPECT_TRUE(g.wrmsr(pv_msr::kStealTime, kStealArea + i * 64 + 1, i));
  EXPECT_TRUE(g.wrmsr(pv_msr::kPvEoi, kEoiWord + i * 64 + 1, i));
  EXPECT_TRUE(g.wrmsr(pv_msr::kWallClock, kWallPage, i));
  EXPECT_TRUE(g.wrmsr(0x400, ~0ull, i));
}

TEST(PlatformState, round_trip_at_one_moment) {
  Guest g;
  g.enable_x2apic();
  prepare(g, 1);
  g.leave();
  const CpuState state = saved(g.vcpu(1));
  EXPECT_TRUE(
      std::is_sorted(state.msrs.begin(), state.msrs.end(),
                     [](const MsrValue& a, const MsrValue& b) { return a.index < b.index; }));
  EXPECT_EQ(state.apic_base, kX2apicBase);
  EXPECT_EQ(state.tsc_khz, 2'000'000u);
  Guest other;
  // The guest's memory comes along.
  other.store(kClockPage + 64, g.load<PvClockTime>(kClockPage + 64));
  ASSERT_TRUE(other.vcpu(1).load(state));
  EXPECT_EQ(saved(other.vcpu(1)), state);
}

// `save_delay`, `restore_delay`: how much later, in ticks of 2 GHz, the second vCPU's turn comes.
void check_equal_counters(std::uint64_t save_delay, std::uint64_t restore_delay) {
  Guest from, to;
  from.enable_x2apic();
  from.clock.advance(60'000'000'000);
  prepare(from, 0);
  prepare(from, 1);
  from.leave();
  const CpuState first = saved(from.vcpu(0));
  from.clock.advance(save_delay);
  const CpuState second = saved(from.vcpu(1));
  for (std::uint64_t i = 0; i < 2; ++i) {
    to.store(kClockPage + i * 64, from.load<PvClockTime>(kClockPage + i * 64));
  }
  to.clock.advance(100);
  ASSERT_TRUE(to.vcpu(0).load(first));
  to.clock.advance(restore_delay);
  ASSERT_TRUE(to.vcpu(1).load(second));
  for (std::uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(platform_tsc(to.cpu(i)), 60'000'000'000u + restore_delay);
    const auto page = to.load<PvClockTime>(kClockPage + i * 64);
    EXPECT_EQ(KvmClock::ns_of(page, platform_tsc(to.cpu(i))), 30'000'000'000u + restore_delay / 2);
    EXPECT_EQ(to.vcpu(i).apic().next_deadline(), to.clock.ns() + 5'000'000'000 - restore_delay / 2);
  }
}

TEST(PlatformState, time_goes_on_on_another_machine_and_is_equal_on_all_vcpus) {
  check_equal_counters(500'000, 2'000'000);
}

TEST(PlatformState, counters_are_equal_however_long_saving_and_restoring_takes) {
  check_equal_counters(200'000'000, 0);  // 100 ms
  check_equal_counters(0, 200'000'000);
  check_equal_counters(8'000'000'000, 0);  // 4 s
  check_equal_counters(0, 8'000'000'000);
}

// `ns`: the clock as it was saved beside the vCPUs.
void check_one_time(std::uint64_t ns) {
  Guest from, to;
  from.enable_x2apic();
  from.clock.advance(60'000'000'000);
  for (std::uint32_t i = 0; i < 2; ++i) prepare(from, i);
  from.leave();
  const CpuState states[] = {saved(from.vcpu(0)), saved(from.vcpu(1))};
  to.clock.advance(1'900'000);
  to.platform->kvm_clock().set_ns(ns);
  to.clock.restless = true;
  for (std::uint32_t i = 0; i < 2; ++i) {
    const std::uint64_t page = kClockPage + i * 64;
    to.store(page, from.load<PvClockTime>(page));
    ASSERT_TRUE(to.vcpu(i).load(states[i]));
  }
  to.clock.restless = false;
  const std::uint64_t now = platform_tsc(to.cpu(0));
  const std::uint64_t first = KvmClock::ns_of(to.load<PvClockTime>(kClockPage), now);
  EXPECT_EQ(KvmClock::ns_of(to.load<PvClockTime>(kClockPage + 64), now), first);
  EXPECT_EQ(to.platform->kvm_clock().ns(), first);
  EXPECT_GE(first, 30'000'000'000u);
}

TEST(PlatformState, pages_tell_one_time_on_a_busy_host) {
  constexpr std::uint64_t kNow = 30'000'000'000;
  for (std::uint64_t ns = kNow - 3'000'000; ns < kNow + 3'000'000; ns += 100'000) {
    check_one_time(ns);
    ASSERT_FALSE(HasFailure()) << ns;
  }
}

// As KVM saves: each vCPU's counter at its own moment.
TEST(PlatformState, counters_saved_at_different_moments_are_equal_again) {
  for (const std::uint64_t later : {0u, 200'000'000u, 1'800'000'000u}) {
    Guest from, to;
    from.clock.advance(60'000'000'000);
    from.leave();
    const CpuState first = saved(from.vcpu(0));
    from.clock.advance(later);
    from.leave();
    const CpuState second = saved(from.vcpu(1));
    to.clock.advance(100);
    ASSERT_TRUE(to.vcpu(0).load(first));
    ASSERT_TRUE(to.vcpu(1).load(second));
    EXPECT_EQ(platform_tsc(to.cpu(0)), platform_tsc(to.cpu(1))) << later;
    EXPECT_GE(platform_tsc(to.cpu(0)), 60'000'000'000u);
  }
}

TEST(PlatformState, a_young_saved_machine_does_not_go_back_in_time) {
  Guest from, to;
  from.enable_x2apic();
  from.clock.advance(600'000'000);  // 0.3 s
  prepare(from, 0);
  from.leave();
  const CpuState state = saved(from.vcpu(0));
  to.store(kClockPage, from.load<PvClockTime>(kClockPage));
  to.clock.advance(1000);
  ASSERT_TRUE(to.vcpu(0).load(state));
  EXPECT_GE(platform_tsc(to.cpu(0)), 600'000'000u);
  const auto page = to.load<PvClockTime>(kClockPage);
  EXPECT_GE(KvmClock::ns_of(page, platform_tsc(to.cpu(0))), 300'000'000u);
}

TEST(PlatformState, saving_and_loading_in_place_changes_no_clock) {
  Guest g;
  g.enable_x2apic();
  g.clock.advance(5'000'000);
  prepare(g, 0);
  prepare(g, 1);
  g.leave();
  const CpuState state = saved(g.vcpu(0));
  g.clock.advance(30'000);
  ASSERT_TRUE(g.vcpu(0).load(state));
  EXPECT_EQ(platform_tsc(g.cpu(0)), 5'030'000u);
  EXPECT_EQ(platform_tsc(g.cpu(0)), platform_tsc(g.cpu(1)));
  const auto page = g.load<PvClockTime>(kClockPage);
  EXPECT_EQ(KvmClock::ns_of(page, platform_tsc(g.cpu(0))), 2'515'000u);
}

TEST(PlatformState, a_state_that_leaves_things_out) {
  Guest g;
  g.enable_x2apic();
  g.clock.advance(1000);
  CpuState state;
  state.cr8 = 7;
  ASSERT_TRUE(g.vcpu().load(state));
  EXPECT_EQ(g.rdmsr(0x1B), kX2apicBase | 0x100);
  EXPECT_EQ(platform_cr8(g.cpu()), 7u);
  EXPECT_EQ(g.rdmsr(0x80F), 0xFFu);
  EXPECT_EQ(platform_tsc(g.cpu()), 1000u);
}

TEST(PlatformState, registers_that_are_not_listed_stay) {
  Guest g;
  g.enable_x2apic();
  prepare(g, 0);
  CpuState state;
  ASSERT_TRUE(g.vcpu().load(state));
  EXPECT_EQ(g.rdmsr(pv_msr::kStealTime), kStealArea | 1);
  EXPECT_TRUE(g.wrmsr(0x80F, 0x1FF));
  EXPECT_TRUE(g.wrmsr(0x83F, 0x60));
  g.vcpu().apic().acknowledge(0x60);
  EXPECT_EQ(g.load<std::uint32_t>(kEoiWord), 1u);
}

TEST(PlatformState, foreign_registers_are_taken_when_they_hold_nothing) {
  Guest g;
  CpuState state;
  state.msrs = {{0x48, 0}, {0x10A, 0x1234}, {0x2FF, 0xC06}, {0xDA0, 0}, {0xC0000081, 5}};
  EXPECT_TRUE(g.vcpu().load(state));
  state.msrs.push_back({0xDA0, 1});
  const auto status = g.vcpu().load(state);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code(), Code::kUnsupported);
}

TEST(PlatformState, corrupt_parts_are_refused) {
  Guest g;
  CpuState state;
  state.apic_base = 0xFEE00400;
  EXPECT_FALSE(g.vcpu().load(state));
  state.apic_base = 0;
  state.lapic.resize(1000);
  EXPECT_FALSE(g.vcpu().load(state));
}

// With the host's clock: the timer thread wakes the vCPU.
TEST(PlatformTimer, a_deadline_is_posted_by_the_timer_thread) {
  Machine machine;
  const auto memory = *GuestMemory::create(2u << 20);
  ASSERT_TRUE(machine.map(*memory));
  Platform platform(machine, std::make_unique<HostClock>(HostCounter::detect()));
  Cpu cpu;
  machine.attach(cpu);
  {
    VcpuPlatform vcpu(platform, cpu, {});
    ASSERT_TRUE(vcpu.write_msr(0x1B, kX2apicBase));
    ASSERT_TRUE(vcpu.write_msr(0x80F, 0x1FF));
    ASSERT_TRUE(vcpu.write_msr(0x832, 0x40040));
    const std::uint64_t target = vcpu.tsc() + platform.clock().tsc_khz() * std::uint64_t{2};
    ASSERT_TRUE(vcpu.write_msr(0x6E0, target));
    const Deadline give_up = Deadline::after(std::chrono::seconds(20));
    while (!vcpu.apic().highest_deliverable() && !give_up.passed()) {
      if ((cpu.attention.exchange(0) & kAttentionTimer) != 0) vcpu.apic().poll_timer();
    }
    EXPECT_EQ(vcpu.apic().highest_deliverable(), 0x40);
    EXPECT_GE(vcpu.tsc(), target);
    platform.stop();
  }
  machine.detach(cpu);
}

}  // namespace
}  // namespace sm::soft
