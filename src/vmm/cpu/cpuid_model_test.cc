// Where a saved guest may go on, as far as the processor is concerned.
#include "vmm/cpu/cpuid_model.h"

#include <gtest/gtest.h>

#include "vmm/snapshot/compatibility.h"

namespace sm {
namespace {

TEST(CpuSignature, equal_texts_are_the_same_processor) {
  EXPECT_TRUE(signature_covers("cpuid-12", "cpuid-12"));
  EXPECT_TRUE(signature_covers("", ""));
  EXPECT_FALSE(signature_covers("cpuid-12", "cpuid-13"));
  EXPECT_FALSE(signature_covers("cpuid-12", ""));
}

TEST(CpuSignature, all_features_of_the_saved_guest_must_be_here) {
  EXPECT_TRUE(signature_covers("vendor-1-f-3", "vendor-1-5-3"));
  EXPECT_TRUE(signature_covers("vendor-1-f-3", "vendor-1-0-0"));
  EXPECT_FALSE(signature_covers("vendor-1-5-3", "vendor-1-f-3"));
  EXPECT_FALSE(signature_covers("vendor-1-f-1", "vendor-1-f-2"));
}

TEST(CpuSignature, nonsense_covers_nothing) {
  for (const char* text : {"vendor", "vendor-", "vendor-1-f", "vendor-1-f-3-0", "vendor-1-x-3",
                           "vendor-1-f-fffffffff", "vendorf3", "vendor-1-f-3-"}) {
    EXPECT_FALSE(signature_covers("vendor-1-f-3", text)) << text;
    EXPECT_FALSE(signature_covers(text, "vendor-1-f-3")) << text;
  }
}

TEST(CpuSignature, another_vendor_covers_nothing) {
  EXPECT_FALSE(signature_covers("vendor-2-f-3", "vendor-1-f-3"));
}

// A processor with all that x86-64-v2 needs, and SHA.
std::vector<CpuidLeaf> processor() {
  return {{.function = 0, .eax = 7, .ebx = 0x756e'6547},
          {.function = 1, .ecx = 0xC3F8'2203, .edx = 0x078B'EBFD},
          {.function = 6, .eax = 4},
          {.function = 7, .indexed = true, .ebx = 0x2018'0281},
          {.function = 0x40000000, .eax = 0x40000001},
          {.function = 0x40000001, .eax = 0x0100'026B},
          {.function = 0x80000000, .eax = 0x80000008},
          {.function = 0x80000001, .ecx = 1, .edx = 0x2810'0800},
          {.function = 0x80000008, .eax = 0x3028}};
}
constexpr std::size_t kLeaf7 = 3;

TEST(CpuModels, the_fixed_one_is_the_same_everywhere) {
  std::vector<CpuidLeaf> leaves = processor();
  const auto with = build_cpuid(CpuModel::kX86_64V2, leaves, {});
  leaves[kLeaf7].ebx &= ~(1u << 29);
  const auto without = build_cpuid(CpuModel::kX86_64V2, leaves, {});
  ASSERT_TRUE(with && without) << with.error().text();
  EXPECT_EQ(*with, *without);
  EXPECT_EQ(describe_cpu(CpuModel::kX86_64V2, leaves).signature, "");
  leaves[kLeaf7].ebx &= ~(1u << 7);
  EXPECT_EQ(build_cpuid(CpuModel::kX86_64V2, leaves, {}).error().code(), Code::kUnsupported);
}

TEST(CpuModels, the_larger_one_says_what_it_shows) {
  std::vector<CpuidLeaf> leaves = processor();
  const EngineCpu with = describe_cpu(CpuModel::kX86_64V2Plus, leaves);
  EXPECT_EQ(with.model, "x86-64-v2-plus");
  leaves[kLeaf7].ebx &= ~(1u << 29);
  const EngineCpu without = describe_cpu(CpuModel::kX86_64V2Plus, leaves);
  EXPECT_TRUE(signature_covers(with.signature, without.signature)) << with.signature;
  EXPECT_FALSE(signature_covers(without.signature, with.signature)) << without.signature;
  EXPECT_TRUE(describe_cpu(CpuModel::kHost, leaves).signature.starts_with("cpuid-"));
}

TEST(CpuModels, none_has_what_a_saved_machine_could_not_go_on_with) {
  constexpr std::uint32_t kFunction = 0x40000001;
  constexpr std::uint32_t kAsyncPageFaults = 1u << 4 | 1u << 10 | 1u << 14;
  std::vector<CpuidLeaf> leaves = processor();
  for (CpuidLeaf& leaf : leaves) {
    if (leaf.function == kFunction) leaf.eax |= kAsyncPageFaults;
  }
  for (const CpuModel model : {CpuModel::kHost, CpuModel::kX86_64V2, CpuModel::kX86_64V2Plus}) {
    const auto shown = build_cpuid(model, leaves, {});
    ASSERT_TRUE(shown) << shown.error().text();
    bool found = false;
    for (const CpuidLeaf& leaf : *shown) {
      if (leaf.function != kFunction) continue;
      found = true;
      EXPECT_EQ(leaf.eax & kAsyncPageFaults, 0u) << cpu_model_name(model);
      EXPECT_NE(leaf.eax & 1u << 3, 0u) << cpu_model_name(model);  // the rest is there
    }
    EXPECT_TRUE(found) << cpu_model_name(model);
  }
}

}  // namespace
}  // namespace sm
