// The frame of the engine tests: one body, run on every engine this program knows. See
// docs/reference/cpu.md.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"
#include "vmm/memory/guest_memory.h"

namespace sm::engine_test {

// What a test expects of the engine beyond running a few simple instructions at ring 0.
enum class Needs : std::uint8_t {
  kSimpleRing0,  // also a KVM that only emulates ring 0 can do it
  kFullRing0,    // interrupts, real mode, mode switches
  kNative,       // FPU, fixed CPU models
};

struct EngineUnderTest {
  std::string name;
  // An empty machine; kNotFound or kPermission when this host has none.
  std::function<Result<std::unique_ptr<EngineVm>>(CpuModel)> create;
  // Why this host cannot do kNative, or empty.
  std::function<std::string()> limits;
};
const std::vector<EngineUnderTest>& engines();
inline void PrintTo(const EngineUnderTest& engine, std::ostream* out) { *out << engine.name; }
inline std::string param_name(const testing::TestParamInfo<EngineUnderTest>& instance) {
  return instance.param.name;
}

// Where things are in a micro guest's memory.
inline constexpr std::uint64_t kCode = 0x10000;
inline constexpr std::uint64_t kStackTop = 0x20000;
inline constexpr std::uint64_t kData = 0x30000;
inline constexpr std::uint64_t kIdt = 0x2000;
inline constexpr std::uint16_t kDonePort = 0x99;

// A machine with a micro guest in it.
struct Machine {
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<EngineVm> vm;
  std::vector<std::unique_ptr<EngineVcpu>> vcpus;

  EngineVcpu& cpu() { return *vcpus.front(); }
};

struct MachineOptions {
  std::uint64_t memory_bytes = 2u << 20;
  std::uint32_t vcpus = 1;
  CpuModel model = CpuModel::kHost;
  std::function<void(CpuState&)> adjust = {};
};

// The state in which a micro guest starts.
CpuState start_state();

// One access of a guest as the test saw it.
struct Access {
  bool mmio = false;
  std::uint64_t address = 0;
  bool is_write = false;
  std::uint64_t value = 0;
  std::size_t size = 0;
  bool operator==(const Access&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Access& access);

// Kicks a vCPU when a test hangs, so that run() returns and the test can fail.
class Watchdog {
 public:
  Watchdog(EngineVcpu& vcpu, std::chrono::milliseconds limit);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  Watchdog(Watchdog&&) = delete;
  Watchdog& operator=(Watchdog&&) = delete;

  bool fired() const { return fired_; }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool over_ = false;
  std::atomic<bool> fired_{false};
  std::thread thread_;
};

class EngineTest : public testing::TestWithParam<EngineUnderTest> {
 protected:
  // Skips the test, with the reason, when the engine is not to be had here or cannot do enough.
  // Use as: if (!available(Needs::kFullRing0)) GTEST_SKIP() << why_not();
  bool available(Needs needs);
  const std::string& why_not() const { return why_not_; }

  // A machine with `code` at kCode; fails the test when that is not possible.
  Machine make(std::span<const std::byte> code, const MachineOptions& options = {}) {
    return make_on(GetParam(), code, options);
  }
  static Machine make_on(const EngineUnderTest& engine, std::span<const std::byte> code,
                         const MachineOptions& options = {});

  // Runs until the guest writes to kDonePort and returns every access before it. Reads get their
  // value from `answer`.
  std::vector<Access> run_to_done(Machine& machine,
                                  const std::function<std::uint64_t(const Access&)>& answer = {});

 private:
  std::string why_not_;
};

inline Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }

}  // namespace sm::engine_test
