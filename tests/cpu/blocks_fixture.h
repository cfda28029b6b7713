// A machine with a page of code and another one behind it, the first one also at a second address,
// and a page of data; for tests of blocks.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/cpu/flat_machine.h"

namespace sm::cpu_test {

using soft::Cpu;
using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint64_t kMemory = 8ull << 20;
inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kCode = 0x400000, kOtherCode = 0x401000, kData = 0x500000;
inline constexpr std::uint64_t kAlias = 0x600000;                       // of kCode
inline constexpr std::uint64_t kCodeAt = 0x100000, kDataAt = 0x200000;  // physical
inline constexpr std::uint64_t kAll = kPresent | kWritable | kUser;

class BlocksTest : public testing::Test {
 protected:
  BlocksTest() {
    machine_.map(kCode, kCodeAt, kAll);
    machine_.map(kOtherCode, kCodeAt + kPage, kAll);
    machine_.map(kAlias, kCodeAt, kAll);
    machine_.map(kData, kDataAt, kAll);
    cpu().gpr[soft::kRsp] = kData + 0x800;
    cpu().gpr[soft::kRbx] = kData;
  }
  Cpu& cpu() { return machine_.cpu(); }
  // Bytes at an offset from kCode.
  void place(std::uint64_t offset, const Bytes& bytes) { machine_.write(kCodeAt + offset, bytes); }
  Ran run_at(std::uint64_t rip, std::int64_t budget = 1000) {
    cpu().rip = rip;
    return machine_.run(Way::kBlocks, budget);
  }
  std::uint64_t reg(soft::Gpr which) { return cpu().gpr[which]; }

  FlatMachine machine_{kMemory};
};

}  // namespace sm::cpu_test
