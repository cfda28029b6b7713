// Compares this decoder with Zydis, instruction by instruction. For tests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "vmm/cpu/soft/decode/decoder.h"

namespace sm::soft {

struct ZydisPair;

class ZydisComparison {
 public:
  explicit ZydisComparison(CodeMode mode);
  ~ZydisComparison();
  ZydisComparison(const ZydisComparison&) = delete;
  ZydisComparison& operator=(const ZydisComparison&) = delete;
  ZydisComparison(ZydisComparison&&) = delete;
  ZydisComparison& operator=(ZydisComparison&&) = delete;

  // Decodes the start of `bytes` with both. Returns the length the two agree on, or 1.
  std::size_t compare(std::span<const std::uint8_t> bytes);

  std::uint64_t compared() const { return compared_; }
  std::uint64_t valid() const { return valid_; }  // of those, instructions to both
  // What differed and is in the table of known differences: reason -> times.
  const std::map<std::string, std::uint64_t>& explained() const { return explained_; }
  // What differed otherwise: kind of difference -> the first example.
  const std::map<std::string, std::string>& unexplained() const { return unexplained_; }

 private:
  struct Zydis;
  void report(const ZydisPair& pair, const std::string& difference);

  CodeMode mode_;
  std::unique_ptr<Zydis> zydis_;
  std::uint64_t compared_ = 0;
  std::uint64_t valid_ = 0;
  std::map<std::string, std::uint64_t> explained_;
  std::map<std::string, std::string> unexplained_;
};

}  // namespace sm::soft
