#include "vmm/memory/guest_memory.h"

#include <gtest/gtest.h>

#include "vmm/memory/addr_map.h"

namespace sm {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;

static_assert(GuestPhysAddr(5) < GuestPhysAddr(6));
static_assert(GuestPhysAddr(5) == GuestPhysAddr(5));
static_assert(GuestPhysAddr(5).checked_add(3)->raw() == 8);
static_assert(GuestPhysAddr(5).offset_from(GuestPhysAddr(2)) == 3u);
static_assert(!GuestPhysAddr(2).offset_from(GuestPhysAddr(5)));
static_assert(GuestPhysAddr(0x2000).is_aligned(0x1000) && !GuestPhysAddr(0x2001).is_aligned(2));

TEST(GuestMemory, refuses_sizes_that_cannot_be_laid_out) {
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, kMiB - 4096, kMiB + 1, ~std::uint64_t{4095}}) {
    EXPECT_EQ(GuestMemory::create(bytes).error().code(), Code::kInvalidArgument) << bytes;
  }
}

TEST(GuestMemory, starts_zeroed_and_keeps_what_is_written) {
  auto memory = GuestMemory::create(kMiB).value();
  EXPECT_EQ(memory->read_object<std::uint64_t>(GuestPhysAddr(0x1234)).value(), 0u);
  ASSERT_TRUE(memory->write_object(GuestPhysAddr(0x1234), std::uint64_t{0x1122334455667788}));
  EXPECT_EQ(memory->read_object<std::uint32_t>(GuestPhysAddr(0x1238)).value(), 0x11223344u);
}

TEST(GuestMemory, accesses_outside_are_faults_of_the_guest) {
  auto memory = GuestMemory::create(kMiB).value();
  std::byte bytes[16] = {};
  EXPECT_TRUE(memory->read(GuestPhysAddr(kMiB - 16), bytes));
  EXPECT_EQ(memory->read(GuestPhysAddr(kMiB - 15), bytes).error().code(), Code::kGuest);
  EXPECT_FALSE(memory->write(GuestPhysAddr(kMiB), bytes));
  EXPECT_FALSE(memory->write(GuestPhysAddr(~0ull), bytes));
  EXPECT_FALSE(memory->contains(GuestPhysAddr(0), kMiB + 1));
  EXPECT_FALSE(memory->contains(GuestPhysAddr(8), ~0ull));
  std::vector<iovec> iov;
  EXPECT_FALSE(memory->append_iovecs(GuestPhysAddr(kMiB - 1), 2, iov));
  EXPECT_TRUE(iov.empty());
}

TEST(GuestMemory, observer_hears_of_every_write_and_of_no_read) {
  struct Recorder final : MemoryObserver {
    void on_device_write(GuestPhysAddr at, std::uint64_t length) override {
      writes.emplace_back(at.raw(), length);
    }
    std::vector<std::pair<std::uint64_t, std::uint64_t>> writes;
  };
  auto memory = GuestMemory::create(kMiB).value();
  const auto recorder = std::make_shared<Recorder>();
  memory->set_observer(recorder);
  std::byte bytes[16] = {};
  std::vector<iovec> iov;
  ASSERT_TRUE(memory->read(GuestPhysAddr(0x10), bytes));
  ASSERT_TRUE(memory->append_iovecs(GuestPhysAddr(0x20), 5, iov));
  EXPECT_FALSE(memory->write(GuestPhysAddr(kMiB), bytes));
  EXPECT_FALSE(memory->append_writable_iovecs(GuestPhysAddr(kMiB), 1, iov));
  EXPECT_TRUE(recorder->writes.empty());
  ASSERT_TRUE(memory->write(GuestPhysAddr(0x30), bytes));
  ASSERT_TRUE(memory->store_release_u16(GuestPhysAddr(0x40), 1));
  ASSERT_TRUE(memory->append_writable_iovecs(GuestPhysAddr(0x50), 7, iov));
  const decltype(recorder->writes) expected = {{0x30, 16}, {0x40, 2}, {0x50, 7}};
  EXPECT_EQ(recorder->writes, expected);
}

TEST(GuestMemory, ring_indices_must_be_aligned) {
  auto memory = GuestMemory::create(kMiB).value();
  ASSERT_TRUE(memory->store_release_u16(GuestPhysAddr(0x10), 0xabcd));
  EXPECT_EQ(memory->load_acquire_u16(GuestPhysAddr(0x10)).value(), 0xabcd);
  EXPECT_FALSE(memory->load_acquire_u16(GuestPhysAddr(0x11)));
  EXPECT_FALSE(memory->store_release_u16(GuestPhysAddr(kMiB), 1));
}

TEST(GuestMemory, more_than_the_low_region_continues_above_four_gib) {
  auto memory = GuestMemory::create(addr_map::kLowRamEnd + kMiB).value();
  EXPECT_TRUE(memory->contains(GuestPhysAddr(addr_map::kHighRamStart), kMiB));
  EXPECT_FALSE(memory->contains(GuestPhysAddr(addr_map::kLowRamEnd - 1), 2));
  EXPECT_FALSE(memory->contains(GuestPhysAddr(addr_map::kHighRamStart - 1), 1));
  EXPECT_FALSE(memory->contains(GuestPhysAddr(addr_map::kHighRamStart), kMiB + 1));
}

TEST(GuestMemory, guest_and_host_addresses_agree_within_a_huge_page) {
  for (const std::uint64_t size : {kMiB, 64 * kMiB, addr_map::kLowRamEnd + kMiB}) {
    const auto memory = GuestMemory::create(size).value();
    for (const MemoryRegion& region : memory->regions()) {
      const auto host = reinterpret_cast<std::uintptr_t>(region.host);
      EXPECT_EQ(host % (2 * kMiB), region.start.raw() % (2 * kMiB)) << size;
    }
  }
}

}  // namespace
}  // namespace sm
