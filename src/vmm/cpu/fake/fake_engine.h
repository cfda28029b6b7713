// The `fake` engine: vCPUs that follow a script instead of running instructions, for tests of
// everything above the engine. A FakeGuest is the script and the record of one vCPU; it may be used
// from any thread and outlives the machine.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "vmm/cpu/engine.h"

namespace sm {

// What the guest does next. Each access is one instruction: it adds 1 to rip when it is finished.
struct FakeAccess {
  bool mmio = false;
  std::uint64_t address = 0;
  bool is_write = false;
  std::uint64_t value = 0;  // of a write
  std::size_t size = 4;
};
struct FakeHalt {};
struct FakeShutdown {};
struct FakeFault {
  std::string why;
};
using FakeStep = std::variant<FakeAccess, FakeHalt, FakeShutdown, FakeFault>;

class FakeGuest {
 public:
  // Adds to the end of the script. When the script is at its end the guest loops until a kick or
  // until there is more.
  void then(FakeStep step);
  void then_out(std::uint16_t port, std::uint32_t value, std::size_t size = 4);
  void then_in(std::uint16_t port, std::size_t size = 4);
  // Repeats the script for ever.
  void loop();

  std::vector<std::uint64_t> reads() const;  // what the guest got, in order
  std::uint64_t finished_accesses() const;
  bool in_guest() const;  // inside run(), following the script or at its end
  std::uint64_t kicks() const { return kicks_; }
  std::optional<CpuState> state_set() const;
  // Breaches of the contract in vmm/cpu/engine.h; empty = none.
  std::vector<std::string> violations() const;

 private:
  friend class FakeVcpu;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<FakeStep> script_;
  bool loop_ = false;
  bool in_guest_ = false;
  std::uint64_t finished_ = 0;
  std::optional<FakeAccess> pending_;
  std::array<std::byte, 8> data_{};
  CpuState state_;
  std::optional<CpuState> state_set_;
  std::vector<std::uint64_t> reads_;
  std::vector<std::string> violations_;
  std::thread::id runner_;
  std::atomic<bool> kicked_{false};
  std::atomic<std::uint64_t> kicks_{0};
};

// What the machine's other half did, shared like the guests.
struct FakeBoard {
  std::array<std::atomic<std::uint32_t>, 24> edges{};  // per interrupt pin
  struct Ioevent {
    GuestPhysAddr address;
    std::uint32_t value;
    int event_fd;
  };
  std::vector<Ioevent> ioevents;  // filled before the vCPUs run
  bool supports_ioevents = true;
  std::vector<std::shared_ptr<FakeGuest>> guests;  // of vCPU 0, 1, ...
  const GuestMemory* memory = nullptr;
  PlatformState platform;
};

// A board whose machine may have up to `vcpus` vCPUs.
std::shared_ptr<FakeBoard> make_fake_board(std::uint32_t vcpus);
std::unique_ptr<EngineVm> create_fake_vm(std::shared_ptr<FakeBoard> board);

}  // namespace sm
