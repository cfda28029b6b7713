// Machine: what the vCPUs of one VM share: RAM, who holds code of which page, who is in the guest,
// requests from one to another, sleep and wake-up, and stopping all others.
//
// Lifetime: the engine, its vCPUs and the guest memory (which tells it of writes by devices) share
// it. Cpu objects attach while they live.
//
// A vCPU is "in the guest" while it may touch guest memory or its translations. Whoever needs a
// vCPU to have seen a request posts it first and then looks at that flag; the vCPU raises the flag
// first and then looks for requests. So one of them sees the other.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

#include "vmm/cpu/soft/cpu.h"
#include "vmm/cpu/soft/mmu/page_map.h"
#include "vmm/cpu/soft/mmu/physical_memory.h"
#include "vmm/memory/guest_memory.h"

namespace sm::soft {

class Machine final : public MemoryObserver {
 public:
  Machine() = default;
  ~Machine() override = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  Machine(Machine&&) = delete;
  Machine& operator=(Machine&&) = delete;

  // Before the first vCPU. False: no memory for the page map.
  bool map(const GuestMemory& memory);
  const PhysicalMemory& memory() const { return memory_; }
  PageMap& pages() { return pages_; }

  // ---- vCPUs. Cpu::index says the place; attach and detach while no vCPU runs.
  void attach(Cpu& cpu);
  void detach(Cpu& cpu);
  // Null when there is no such vCPU. Any thread.
  Cpu* cpu(std::uint32_t index) const {
    return index < kMaxSoftVcpus ? slots_[index].cpu.load(std::memory_order_acquire) : nullptr;
  }

  // Sets `attention` bits and wakes the vCPU when it sleeps. Any thread; never blocks for long.
  void post(Cpu& cpu, std::uint32_t attention);
  void post(std::uint32_t index, std::uint32_t attention) {
    if (Cpu* target = cpu(index)) post(*target, attention);
  }

  // Whether the vCPU may touch guest memory at the moment. Any thread.
  bool in_guest(const Cpu& cpu) const { return slots_[cpu.index].in_guest.load(); }

  // ---- Thread: the vCPU's own.
  // On the way into the guest: returns when no other vCPU wants the machine stopped, with every
  // request that was posted before visible in Cpu::attention.
  void enter_guest(Cpu& cpu);
  void leave_guest(Cpu& cpu);
  // HLT: outside of the guest until one of `mask` is in Cpu::attention or CLOCK_MONOTONIC has come
  // to `deadline_ns`, then in it again.
  void sleep(Cpu& cpu, std::uint32_t mask, std::optional<std::uint64_t> deadline_ns);
  // kAttentionPause: lets the other one do its work. Between two instructions, or where the one at
  // hand has not looked at memory yet.
  void give_way(Cpu& cpu) {
    leave_guest(cpu);
    enter_guest(cpu);
  }

  // ---- Writes to code.
  // The bytes of [physical, physical + length) have just been written: code made of them goes.
  void code_written(std::uint64_t physical, std::uint64_t length);
  void on_device_write(GuestPhysAddr at, std::uint64_t length) override {
    code_written(at.raw(), length);
  }
  // Registers the vCPU as a holder of code of a page and returns when no write translation of it is
  // left anywhere. False: try again or go on without keeping the code. Not while anything of the
  // vCPU's code cache is in use, since requests from others are served meanwhile.
  bool claim_code_page(Cpu& cpu, std::uint64_t page);

  // While one of these exists all other vCPUs are out of the guest. For locked operations that the
  // host cannot do as one. `cpu` is inside an instruction that has not looked at memory yet.
  class StopOthers {
   public:
    StopOthers(Machine& machine, Cpu& cpu);
    ~StopOthers();
    StopOthers(const StopOthers&) = delete;
    StopOthers& operator=(const StopOthers&) = delete;
    StopOthers(StopOthers&&) = delete;
    StopOthers& operator=(StopOthers&&) = delete;

   private:
    Machine& machine_;
    std::unique_lock<std::mutex> lock_;
  };

 private:
  struct Slot {
    std::atomic<Cpu*> cpu{nullptr};
    std::atomic<bool> in_guest{false};
    std::atomic<bool> asleep{false};
    std::mutex mutex;  // guards nothing but the sleep itself
    std::condition_variable wake;
  };
  void drop_code(std::uint64_t page, VcpuSet holders);
  void wait_for_writers(Cpu& cpu, std::uint64_t page, VcpuSet writers);

  PhysicalMemory memory_;
  PageMap pages_;
  std::array<Slot, kMaxSoftVcpus> slots_;
  std::mutex stop_mutex_;  // held while the machine is stopped; lock order: before any Slot's
  std::atomic<bool> stopping_{false};
};

}  // namespace sm::soft
