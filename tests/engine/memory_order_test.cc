// Memory order: the usual litmus programs on several vCPUs, many times each. What the x86 model
// forbids must never be seen. Spec: SDM vol. 3, 8.2.3; Owens, Sarkar, Sewell: A better x86 memory
// model, x86-TSO (2009).
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/engine_test.h"
#include "engine/micro_guests.h"

namespace sm::engine_test {
namespace {

using Code = std::vector<std::uint8_t>;

// rdi is X, rbp is Y. Results go to r8 and r9.
const Code kStoreX1{0xC7, 0x07, 1, 0, 0, 0}, kStoreX2{0xC7, 0x07, 2, 0, 0, 0};
const Code kStoreY1{0xC7, 0x45, 0, 1, 0, 0, 0}, kStoreY2{0xC7, 0x45, 0, 2, 0, 0, 0};
const Code kLoadX8{0x44, 0x8B, 0x07}, kLoadX9{0x44, 0x8B, 0x0F};
const Code kLoadY8{0x44, 0x8B, 0x45, 0}, kLoadY9{0x44, 0x8B, 0x4D, 0};
const Code kXchgX1{0xB8, 1, 0, 0, 0, 0x87, 0x07}, kXchgY1{0xB8, 1, 0, 0, 0, 0x87, 0x45, 0};
const Code kXchgY2{0xB8, 2, 0, 0, 0, 0x87, 0x45, 0};
const Code kMfence{0x0F, 0xAE, 0xF0};
const Code kLocked{0xF0, 0x83, 0x0C, 0x24, 0};  // lock or dword [rsp], 0

struct Outcome {
  std::array<std::array<std::uint32_t, 2>, 4> result{};  // of each vCPU r8 and r9
  std::uint32_t x = 0, y = 0;                            // in the end
};

struct Litmus {
  const char* name;
  std::vector<std::vector<Code>> threads;
  bool (*forbidden)(const Outcome&);
};

bool never(const Outcome& /*outcome*/) { return false; }
bool store_buffering(const Outcome& o) { return o.result[0][0] == 0 && o.result[1][0] == 0; }
bool message_passing(const Outcome& o) { return o.result[1][0] == 1 && o.result[1][1] == 0; }
bool load_buffering(const Outcome& o) { return o.result[0][0] == 1 && o.result[1][0] == 1; }
bool independent_reads(const Outcome& o) {
  return o.result[2][0] == 1 && o.result[2][1] == 0 && o.result[3][0] == 1 && o.result[3][1] == 0;
}
bool two_writes(const Outcome& o) { return o.x == 1 && o.y == 1; }
bool write_then_read(const Outcome& o) { return o.y == 2 && o.result[1][0] == 0; }
bool read_then_write(const Outcome& o) { return o.result[1][0] == 1 && o.x == 2; }
bool causality(const Outcome& o) {
  return o.result[1][0] == 1 && o.result[2][0] == 1 && o.result[2][1] == 0;
}
bool coherence(const Outcome& o) { return o.result[1][0] == 1 && o.result[1][1] == 0; }

const std::vector<Litmus>& litmus_tests() {
  static const std::vector<Litmus> tests = {
      {"SB", {{kStoreX1, kLoadY8}, {kStoreY1, kLoadX8}}, never},
      {"SB_mfence", {{kStoreX1, kMfence, kLoadY8}, {kStoreY1, kMfence, kLoadX8}}, store_buffering},
      {"SB_locked", {{kStoreX1, kLocked, kLoadY8}, {kStoreY1, kLocked, kLoadX8}}, store_buffering},
      {"SB_xchg", {{kXchgX1, kLoadY8}, {kXchgY1, kLoadX8}}, store_buffering},
      {"SB_mixed", {{kXchgX1, kLoadY8}, {kStoreY1, kMfence, kLoadX8}}, store_buffering},
      {"MP", {{kStoreX1, kStoreY1}, {kLoadY8, kLoadX9}}, message_passing},
      {"MP_xchg", {{kXchgX1, kStoreY1}, {kLoadY8, kLoadX9}}, message_passing},
      {"LB", {{kLoadX8, kStoreY1}, {kLoadY8, kStoreX1}}, load_buffering},
      {"LB_xchg", {{kLoadX8, kXchgY1}, {kLoadY8, kXchgX1}}, load_buffering},
      {"IRIW", {{kStoreX1}, {kStoreY1}, {kLoadX8, kLoadY9}, {kLoadY8, kLoadX9}}, independent_reads},
      {"IRIW_xchg",
       {{kXchgX1}, {kXchgY1}, {kLoadX8, kLoadY9}, {kLoadY8, kLoadX9}},
       independent_reads},
      {"2+2W", {{kStoreX1, kStoreY2}, {kStoreY1, kStoreX2}}, two_writes},
      {"2+2W_xchg", {{kXchgX1, kStoreY2}, {kXchgY1, kStoreX2}}, two_writes},
      {"R_mfence", {{kStoreX1, kStoreY1}, {kStoreY2, kMfence, kLoadX8}}, write_then_read},
      {"R_xchg", {{kStoreX1, kStoreY1}, {kXchgY2, kLoadX8}}, write_then_read},
      {"S", {{kStoreX2, kStoreY1}, {kLoadY8, kStoreX1}}, read_then_write},
      {"WRC", {{kStoreX1}, {kLoadX8, kStoreY1}, {kLoadY8, kLoadX9}}, causality},
      {"CoRR", {{kStoreX1}, {kLoadX8, kLoadX9}}, coherence},
  };
  return tests;
}

// Each iteration has an X and a Y of its own, in two cache lines.
constexpr std::uint64_t kVariables = 0x100000, kStride = 128, kResults = 0x130000;
constexpr std::uint32_t kIterations = 1024;
constexpr std::uint64_t kProgress = 0x30000;  // of each vCPU, a cache line apart
constexpr std::uint64_t kResultsOfOne = kIterations * 8;

void append(Code& code, const Code& more) { code.insert(code.end(), more.begin(), more.end()); }

// For each iteration: says that it is there, waits a while for the others, does its part, keeps
// what it read. rbx: where its progress stands, r10: where its results go, r12d: the vCPUs.
Code program(const std::vector<Code>& body) {
  Code code = {
      0xBF, 0x00, 0x00, 0x10, 0x00,  // mov edi, kVariables
      0x45, 0x31, 0xFF,              // xor r15d, r15d
      // next:
      0x41, 0xFF, 0xC7,                    // inc r15d
      0x48, 0x8D, 0x6F, 0x40,              // lea rbp, [rdi + 64]
      0x44, 0x89, 0x3B,                    // mov [rbx], r15d
      0x41, 0xBD, 0xC8, 0x00, 0x00, 0x00,  // mov r13d, 200
      // wait:
      0x31, 0xC0,                    // xor eax, eax
      0xB9, 0x00, 0x00, 0x03, 0x00,  // mov ecx, kProgress
      0x44, 0x89, 0xE2,              // mov edx, r12d
      // each:
      0x44, 0x39, 0x39,  // cmp [ecx], r15d
      0x83, 0xD0, 0x00,  // adc eax, 0
      0x83, 0xC1, 0x40,  // add ecx, 64
      0xFF, 0xCA,        // dec edx
      0x75, 0xF3,        // jnz each
      0x85, 0xC0,        // test eax, eax
      0x74, 0x05,        // jz go
      0x41, 0xFF, 0xCD,  // dec r13d
      0x75, 0xDE,        // jnz wait
      // go:
      0x45, 0x31, 0xC0,  // xor r8d, r8d
      0x45, 0x31, 0xC9,  // xor r9d, r9d
  };
  constexpr std::size_t kNext = 8;
  for (const Code& part : body) append(code, part);
  append(code, {
                   0x45, 0x89, 0x02,                          // mov [r10], r8d
                   0x45, 0x89, 0x4A, 0x04,                    // mov [r10 + 4], r9d
                   0x49, 0x83, 0xC2, 0x08,                    // add r10, 8
                   0x48, 0x81, 0xC7, 0x80, 0x00, 0x00, 0x00,  // add rdi, kStride
                   0x41, 0x81, 0xFF, 0x00, 0x04, 0x00, 0x00,  // cmp r15d, kIterations
                   0x0F, 0x82, 0,    0,    0,    0,           // jb next
               });
  const auto distance = static_cast<std::int32_t>(kNext) - static_cast<std::int32_t>(code.size());
  std::memcpy(&code[code.size() - 4], &distance, sizeof(distance));
  append(code, {0xE6, 0x99, 0xEB, 0xFE});  // out 0x99, al; jmp to itself
  return code;
}

class MemoryOrderTest : public EngineTest {
 protected:
  static std::uint64_t code_of(std::size_t vcpu) { return kCode + vcpu * 0x1000; }

  void start(Machine& machine, std::size_t vcpu) {
    CpuState state = start_state();
    state.rip = code_of(vcpu);
    state.gpr[3] = kProgress + vcpu * 64;
    state.gpr[4] = kStackTop + vcpu * 0x1000;
    state.gpr[10] = kResults + vcpu * kResultsOfOne;
    state.gpr[12] = machine.vcpus.size();
    ASSERT_TRUE(machine.vcpus[vcpu]->finish_pending_exit());
    ASSERT_TRUE(machine.vcpus[vcpu]->set_state(state));
  }
  void run_batch(Machine& machine) {
    const std::vector<std::byte> zeros(kVariables == 0 ? 0 : kIterations * kStride);
    ASSERT_TRUE(machine.memory->write(GuestPhysAddr(kVariables), zeros));
    ASSERT_TRUE(machine.memory->write(GuestPhysAddr(kProgress), std::span(zeros).first(256)));
    for (std::size_t i = 0; i < machine.vcpus.size(); ++i) start(machine, i);
    std::vector<std::thread> threads;
    for (const auto& vcpu : machine.vcpus) {
      threads.emplace_back([&cpu = *vcpu] {
        Watchdog watchdog(cpu, std::chrono::seconds(60));
        const VcpuExit exit = cpu.run();
        const auto* pio = std::get_if<ExitPio>(&exit);
        EXPECT_TRUE(pio != nullptr && pio->port == kDonePort) << "exit " << exit.index();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::uint32_t word(Machine& machine, std::uint64_t at) {
    return machine.memory->read_object<std::uint32_t>(GuestPhysAddr(at)).value_or(~0u);
  }
  Outcome outcome(Machine& machine, std::uint64_t iteration) {
    Outcome seen;
    for (std::size_t i = 0; i < machine.vcpus.size(); ++i) {
      const std::uint64_t at = kResults + i * kResultsOfOne + iteration * 8;
      seen.result[i] = {word(machine, at), word(machine, at + 4)};
    }
    seen.x = word(machine, kVariables + iteration * kStride);
    seen.y = word(machine, kVariables + iteration * kStride + 64);
    return seen;
  }
};

TEST_P(MemoryOrderTest, ForbiddenOutcomesAreNeverSeen) {
  if (!available(Needs::kNative)) GTEST_SKIP() << why_not();
  const int batches = GetParam().name == "kvm" ? 1 : 8;  // the lab is slow
  for (const Litmus& litmus : litmus_tests()) {
    const auto vcpus = static_cast<std::uint32_t>(litmus.threads.size());
    Machine machine = make(guest_spin(), {.vcpus = vcpus});
    for (std::size_t i = 0; i < vcpus; ++i) {
      const Code code = program(litmus.threads[i]);
      ASSERT_TRUE(machine.memory->write(GuestPhysAddr(code_of(i)), std::as_bytes(std::span(code))));
    }
    for (int batch = 0; batch < batches; ++batch) {
      run_batch(machine);
      int forbidden = 0;
      for (std::uint64_t i = 0; i < kIterations; ++i) {
        forbidden += litmus.forbidden(outcome(machine, i)) ? 1 : 0;
      }
      EXPECT_EQ(forbidden, 0) << litmus.name;
    }
  }
}

TEST_P(MemoryOrderTest, LockedOperationsOfFourVcpusAreExact) {
  if (!available(Needs::kNative)) GTEST_SKIP() << why_not();
  constexpr std::uint64_t kVcpus = 4;
  const std::uint64_t rounds = GetParam().name == "kvm" ? 100 : 1000;
  Machine machine = make(guest_contention(), {.vcpus = kVcpus});
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kVcpus; ++i) {
    CpuState state = start_state();
    state.gpr[4] -= i * 0x1000;
    state.gpr[5] = rounds;
    ASSERT_TRUE(machine.vcpus[i]->set_state(state));
  }
  for (const auto& vcpu : machine.vcpus) {
    threads.emplace_back([&cpu = *vcpu] {
      Watchdog watchdog(cpu, std::chrono::seconds(100));
      const VcpuExit exit = cpu.run();
      const auto* pio = std::get_if<ExitPio>(&exit);
      EXPECT_TRUE(pio != nullptr && pio->port == kDonePort) << "exit " << exit.index();
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::uint64_t all = kVcpus * rounds;
  const auto at = [&](std::uint64_t offset) {
    return machine.memory->read_object<std::uint64_t>(GuestPhysAddr(kData + offset)).value_or(0);
  };
  EXPECT_EQ(at(0x00), all) << "inc";
  EXPECT_EQ(at(0x40), all) << "xadd";
  EXPECT_EQ(at(0x80), all) << "cmpxchg";
  EXPECT_EQ(at(0xC0), all) << "cmpxchg16b, low half";
  EXPECT_EQ(at(0xC8), all) << "cmpxchg16b, high half";
  EXPECT_EQ(at(0x140), all) << "a lock made of bts";
  EXPECT_EQ(at(0x1C0), all) << "a lock made of xchg";
  EXPECT_EQ(at(0x200), (0 - all) & 0xFFFF'FFFF) << "dec";
  EXPECT_EQ(at(0x240), 0u) << "not";
  EXPECT_EQ(at(0x280), 0u) << "xor";
}

INSTANTIATE_TEST_SUITE_P(Engines, MemoryOrderTest, testing::ValuesIn(engines()), param_name);

}  // namespace
}  // namespace sm::engine_test
