#include "vmm/cpu/soft/apic/cpuid_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace sm::soft {
namespace {

constexpr std::uint32_t kKhz = 2'596'000;

std::vector<CpuidLeaf> model(std::uint32_t index = 0, std::uint32_t count = 1,
                             CpuModel which = CpuModel::kX86_64V2Plus) {
  auto leaves = build_cpuid(which, soft_supported_cpuid(kKhz), CpuPlace{index, count});
  EXPECT_TRUE(leaves.has_value());
  return leaves ? *leaves : std::vector<CpuidLeaf>{};
}
bool has(std::uint32_t value, unsigned bit) { return (value >> bit & 1) != 0; }

std::string text(std::initializer_list<std::uint32_t> words) {
  std::string all;
  for (const std::uint32_t word : words) {
    char four[4];
    std::memcpy(four, &word, 4);
    all.append(four, 4);
  }
  return all;
}

TEST(SoftCpuid, is_all_that_the_portable_model_wants) {
  const auto supported = soft_supported_cpuid(kKhz);
  const auto leaves = model();
  for (const std::uint32_t function : {0x1u, 0x6u, 0x7u, 0x80000001u, 0x40000001u}) {
    const CpuidLeaf all = lookup_cpuid(supported, function, 0);
    const CpuidLeaf shown = lookup_cpuid(leaves, function, 0);
    EXPECT_EQ(shown.ecx, all.ecx) << std::hex << function;
    EXPECT_EQ(shown.edx, all.edx) << std::hex << function;
    const std::uint32_t placed = function == 1 ? 0xFFFF'0000 : 0;  // by build_cpuid()
    EXPECT_EQ(shown.ebx & ~placed, all.ebx & ~placed) << std::hex << function;
    EXPECT_EQ(shown.eax, all.eax) << std::hex << function;
  }
}

TEST(SoftCpuid, shows_what_kernels_need_and_hides_what_is_not_there) {
  const auto leaves = model();
  const CpuidLeaf one = lookup_cpuid(leaves, 1, 0);
  for (const unsigned bit : {21u, 24u, 25u, 30u, 31u}) EXPECT_TRUE(has(one.ecx, bit)) << bit;
  // MONITOR VMX FMA XSAVE OSXSAVE AVX F16C
  for (const unsigned bit : {3u, 5u, 12u, 26u, 27u, 28u, 29u}) EXPECT_FALSE(has(one.ecx, bit));
  EXPECT_FALSE(has(one.edx, 12));  // MTRR
  const CpuidLeaf seven = lookup_cpuid(leaves, 7, 0);
  for (const unsigned bit : {0u, 7u, 9u, 10u, 18u, 19u, 20u, 29u}) EXPECT_TRUE(has(seven.ebx, bit));
  // BMI1 HLE AVX2 BMI2 RTM AVX512F
  for (const unsigned bit : {3u, 4u, 5u, 8u, 11u, 16u}) EXPECT_FALSE(has(seven.ebx, bit)) << bit;
  EXPECT_FALSE(has(seven.ecx, 16));  // LA57
  EXPECT_TRUE(has(lookup_cpuid(leaves, 6, 0).eax, 2));
  EXPECT_EQ(lookup_cpuid(leaves, 0xD, 0).eax, 0u);
  EXPECT_EQ(lookup_cpuid(leaves, 0x80000008, 0).eax, 0x3028u);
}

TEST(SoftCpuid, names) {
  const auto leaves = model();
  const CpuidLeaf vendor = lookup_cpuid(leaves, 0, 0);
  EXPECT_EQ(text({vendor.ebx, vendor.edx, vendor.ecx}), "GenuineIntel");
  const CpuidLeaf hypervisor = lookup_cpuid(leaves, 0x40000000, 0);
  EXPECT_EQ(text({hypervisor.ebx, hypervisor.ecx, hypervisor.edx}),
            std::string("KVMKVMKVM\0\0\0", 12));
  const auto supported = soft_supported_cpuid(kKhz);
  const CpuidLeaf brand = lookup_cpuid(supported, 0x80000002, 0);
  EXPECT_EQ(text({brand.eax, brand.ebx, brand.ecx, brand.edx}), "supermachine sof");
}

TEST(SoftCpuid, arch_capabilities_are_shown_and_no_part_of_a_model) {
  auto leaves = model();
  EXPECT_FALSE(has(lookup_cpuid(leaves, 7, 0).edx, 29));
  EXPECT_FALSE(has(lookup_cpuid(soft_supported_cpuid(kKhz), 7, 0).edx, 29));
  show_arch_capabilities(leaves);
  EXPECT_TRUE(has(lookup_cpuid(leaves, 7, 0).edx, 29));
}

TEST(SoftCpuid, paravirtual_features_leave_out_asynchronous_page_faults) {
  const std::uint32_t features = lookup_cpuid(model(), 0x40000001, 0).eax;
  for (const unsigned bit : {1u, 3u, 5u, 6u, 7u, 9u, 11u, 13u, 24u}) {
    EXPECT_TRUE(has(features, bit)) << bit;
  }
  for (const unsigned bit : {4u, 10u, 12u, 14u}) EXPECT_FALSE(has(features, bit)) << bit;
}

TEST(SoftCpuid, caches_and_their_end) {
  const auto leaves = model(0, 4);
  EXPECT_EQ(lookup_cpuid(leaves, 4, 0).eax & 0x1F, 1u);
  EXPECT_EQ(lookup_cpuid(leaves, 4, 1).eax & 0x1F, 2u);
  const CpuidLeaf last = lookup_cpuid(leaves, 4, 3);
  const std::uint64_t bytes = std::uint64_t{(last.ebx >> 22) + 1} * ((last.ebx & 0xFFF) + 1) *
                              (std::uint64_t{last.ecx} + 1);
  EXPECT_EQ(bytes, 32u << 20);
  EXPECT_EQ(last.eax >> 14 & 0xFFF, 3u);  // shared by all four
  EXPECT_EQ(lookup_cpuid(leaves, 4, 4).eax, 0u);
}

TEST(SoftCpuid, topology) {
  const auto leaves = model(5, 8);
  EXPECT_EQ(lookup_cpuid(leaves, 1, 0).ebx >> 24, 5u);
  EXPECT_EQ(lookup_cpuid(leaves, 0xB, 1).eax, 3u);
  EXPECT_EQ(lookup_cpuid(leaves, 0xB, 1).ebx, 8u);
  EXPECT_EQ(lookup_cpuid(leaves, 0xB, 0).edx, 5u);
  const CpuidLeaf beyond = lookup_cpuid(leaves, 0xB, 2);
  EXPECT_EQ(beyond.eax | beyond.ebx, 0u);
  EXPECT_EQ(beyond.ecx, 2u);
  EXPECT_EQ(beyond.edx, 5u);
}

TEST(SoftCpuid, leaves_out_of_range_repeat_the_largest_basic_one) {
  const auto leaves = model(3, 4);
  ASSERT_EQ(lookup_cpuid(leaves, 0, 0).eax, 0xBu);
  const CpuidLeaf largest = lookup_cpuid(leaves, 0xB, 1);
  for (const std::uint32_t function :
       {0xCu, 0x3FFFFFFFu, 0x40000002u, 0x7FFFFFFFu, 0x80000009u, 0xFFFFFFFFu}) {
    EXPECT_EQ(lookup_cpuid(leaves, function, 1).ebx, largest.ebx) << std::hex << function;
    EXPECT_EQ(lookup_cpuid(leaves, function, 0).edx, 3u) << std::hex << function;
  }
  // In range and empty: zero. Leaves without sub-leaves do not look at ECX.
  EXPECT_EQ(lookup_cpuid(leaves, 3, 0), (CpuidLeaf{.function = 3}));
  EXPECT_EQ(lookup_cpuid(leaves, 7, 1).ebx, 0u);
  EXPECT_EQ(lookup_cpuid(leaves, 1, 77), lookup_cpuid(leaves, 1, 0));
}

TEST(SoftCpuid, the_counter_s_rate) {
  const auto supported = soft_supported_cpuid(kKhz);
  const CpuidLeaf leaf = lookup_cpuid(supported, 0x15, 0);
  EXPECT_EQ(std::uint64_t{leaf.ecx} * leaf.ebx / leaf.eax, kKhz * 1000ull);
  EXPECT_EQ(lookup_cpuid(supported, 0x16, 0).eax, 2596u);
}

TEST(SoftCpuid, the_host_model_works_as_well) {
  const auto leaves = model(0, 2, CpuModel::kHost);
  EXPECT_TRUE(has(lookup_cpuid(leaves, 1, 0).ecx, 24));
  EXPECT_EQ(lookup_cpuid(leaves, 0x80000007, 0).edx, 0u);
}

}  // namespace
}  // namespace sm::soft
