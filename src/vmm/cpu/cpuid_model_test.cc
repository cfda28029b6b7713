// Where a saved guest may go on, as far as the processor is concerned.
#include "vmm/cpu/cpuid_model.h"

#include <gtest/gtest.h>

namespace sm {
namespace {

TEST(CpuSignature, equal_texts_are_the_same_processor) {
  EXPECT_TRUE(signature_covers("cpuid-12", "cpuid-12"));
  EXPECT_TRUE(signature_covers("", ""));
  EXPECT_FALSE(signature_covers("cpuid-12", "cpuid-13"));
  EXPECT_FALSE(signature_covers("cpuid-12", ""));
}

TEST(CpuSignature, all_features_of_the_saved_guest_must_be_here) {
  EXPECT_TRUE(signature_covers("features-f-3", "features-5-3"));
  EXPECT_TRUE(signature_covers("features-f-3", "features-0-0"));
  EXPECT_FALSE(signature_covers("features-5-3", "features-f-3"));
  EXPECT_FALSE(signature_covers("features-f-1", "features-f-2"));
}

TEST(CpuSignature, nonsense_covers_nothing) {
  for (const char* text : {"features", "features-", "features-f", "features-f-3-0", "features-x-3",
                           "features-f-fffffffff", "featuresf3", "features-f-3-"}) {
    EXPECT_FALSE(signature_covers("features-f-3", text)) << text;
    EXPECT_FALSE(signature_covers(text, "features-f-3")) << text;
  }
}

TEST(CpuSignature, describes_what_a_guest_is_shown) {
  // A processor with the baseline and SMEP.
  constexpr std::uint32_t kBaselineEcx = 0x0098'2201, kBaselineEdx = 0x0781'AB71;
  std::vector<CpuidLeaf> leaves = {{.function = 0, .eax = 7},
                                   {.function = 1, .ecx = kBaselineEcx, .edx = kBaselineEdx},
                                   {.function = 7, .indexed = true, .ebx = 1u << 7},
                                   {.function = 0x80000000, .eax = 0x80000008},
                                   {.function = 0x80000001, .ecx = 1, .edx = 0x2010'0800},
                                   {.function = 0x80000008, .eax = 0x3028}};
  const EngineCpu with = describe_cpu(CpuModel::kX86_64V2, leaves);
  EXPECT_EQ(with.model, "x86-64-v2");
  leaves[2].ebx = 0;
  const EngineCpu without = describe_cpu(CpuModel::kX86_64V2, leaves);
  EXPECT_TRUE(signature_covers(with.signature, without.signature)) << with.signature;
  EXPECT_FALSE(signature_covers(without.signature, with.signature)) << without.signature;
  EXPECT_TRUE(describe_cpu(CpuModel::kHost, leaves).signature.starts_with("cpuid-"));
}

}  // namespace
}  // namespace sm
