// This decoder and Zydis agree: on the code of real programs, and on random bytes in all modes.
//   SM_DECODER_CASES  random instructions per mode
//   SM_DECODER_SEED   their seed; a new one by default, and printed
#include <elf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <vector>

#include "vmm/cpu/soft/decode/random_insn.h"
#include "vmm/cpu/soft/decode/zydis_compare.h"

namespace sm::soft {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

void expect_agreement(const ZydisComparison& comparison) {
  std::cout << comparison.compared() << " compared, " << comparison.valid() << " valid to both\n";
  for (const auto& [reason, times] : comparison.explained()) {
    std::cout << "  " << times << " times: " << reason << "\n";
  }
  for (const auto& [kind, example] : comparison.unexplained()) {
    ADD_FAILURE() << kind << ": " << example;
  }
}

template <class T>
std::optional<T> read_at(const Bytes& file, std::uint64_t offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

// The sections of a 64-bit ELF file that hold code.
std::vector<std::span<const std::uint8_t>> code_of(const Bytes& file) {
  std::vector<std::span<const std::uint8_t>> sections;
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return sections;
  for (unsigned i = 0; i < header->e_shnum; ++i) {
    const auto section = read_at<Elf64_Shdr>(file, header->e_shoff + i * sizeof(Elf64_Shdr));
    if (!section || section->sh_type != SHT_PROGBITS) continue;
    if ((section->sh_flags & SHF_EXECINSTR) == 0) continue;
    if (section->sh_offset > file.size() || file.size() - section->sh_offset < section->sh_size) {
      continue;
    }
    sections.push_back(std::span(file).subspan(section->sh_offset, section->sh_size));
  }
  return sections;
}

// The guest kernels that guest/kernel/build has made.
std::vector<std::string> built_kernels() {
  std::vector<std::string> kernels;
  const char* home = std::getenv("HOME");
  if (home == nullptr) return kernels;
  const auto cache = std::filesystem::path(home) / ".cache" / "supermachine" / "kernel";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(cache, error)) {
    const auto kernel = entry.path() / "vmlinux";
    if (std::filesystem::exists(kernel, error)) kernels.push_back(kernel);
  }
  return kernels;
}

void compare_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const Bytes file{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const auto sections = code_of(file);
  ASSERT_FALSE(sections.empty()) << path;
  ZydisComparison comparison(CodeMode::k64);
  for (const auto section : sections) {
    for (std::size_t at = 0; at < section.size();) {
      at += comparison.compare(section.subspan(at, std::min<std::size_t>(section.size() - at, 32)));
    }
  }
  std::cout << path << ": ";
  expect_agreement(comparison);
}

class ZydisFileTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ZydisFileTest, Agrees) {
  if (!std::filesystem::exists(GetParam())) GTEST_SKIP() << GetParam() << " is not there";
  compare_file(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Programs, ZydisFileTest,
                         ::testing::Values("/usr/lib/x86_64-linux-gnu/libc.so.6",
                                           "/usr/lib/x86_64-linux-gnu/libm.so.6",
                                           "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
                                           "/usr/bin/python3.11"));

TEST(ZydisTest, AgreesOnGuestKernels) {
  const auto kernels = built_kernels();
  if (kernels.empty()) GTEST_SKIP() << "no kernel was built";
  compare_file(kernels.front());
}

class ZydisRandomTest : public ::testing::TestWithParam<CodeMode> {};

TEST_P(ZydisRandomTest, Agrees) {
  const auto cases = number_from_environment("SM_DECODER_CASES", 8'000'000);
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  const auto seed = number_from_environment("SM_DECODER_SEED", static_cast<std::uint64_t>(now));
  std::cout << "SM_DECODER_SEED=" << seed << "\n";
  RandomInsn random(seed);
  ZydisComparison comparison(GetParam());
  for (std::uint64_t i = 0; i < cases; ++i) comparison.compare(random.next());
  expect_agreement(comparison);
}

INSTANTIATE_TEST_SUITE_P(Modes, ZydisRandomTest,
                         ::testing::Values(CodeMode::k64, CodeMode::k32, CodeMode::k16));

}  // namespace
}  // namespace sm::soft
