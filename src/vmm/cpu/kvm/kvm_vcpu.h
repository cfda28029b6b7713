// One vCPU of the `kvm` engine. run(), finish_pending_exit() and set_state() on its own thread;
// kick() from any.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/unique_fd.h"
#include "vmm/cpu/cpuid_model.h"
#include "vmm/cpu/engine.h"
#include "vmm/cpu/kvm/kvm_state.h"
#include "vmm/cpu/kvm/kvm_sys.h"

namespace sm::kvm {

// How a kick is never lost. A kick first raises kicked_, then immediate_exit, then signals the
// thread if running_ says it is in (or on its way into, or out of) KVM_RUN. KVM_RUN looks at
// immediate_exit after the system call began, so a signal that came before it did no harm, and one
// that comes later interrupts it. Both flags stay up until run() returns ExitKicked.
class KvmVcpu final : public EngineVcpu {
 public:
  static Result<std::unique_ptr<EngineVcpu>> create(int vm_fd, std::uint32_t index,
                                                    const HostTraits& traits,
                                                    std::span<const CpuidLeaf> cpuid);

  VcpuExit run() override;
  void kick() override;
  Status finish_pending_exit() override;
  Result<CpuState> state() const override;
  Status set_state(const CpuState& state) override;

 private:
  // A string instruction's elements, handed out one by one from the run area.
  struct StringCursor {
    std::size_t offset = 0;
    std::size_t element_size = 0;
    std::uint32_t remaining = 0;
    std::uint16_t port = 0;
    bool is_write = false;
  };

  KvmVcpu(UniqueFd fd, RunMapping mapping, const HostTraits& traits)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), traits_(&traits) {}

  kvm_run* run_area() const { return mapping_.run(); }
  std::atomic_ref<std::uint8_t> immediate_exit() const;
  int enter();
  void clear_kick();
  VcpuExit next_element();
  VcpuExit translate();
  VcpuExit start_string();
  VcpuExit fault(int error) const;

  UniqueFd fd_;
  RunMapping mapping_;
  const HostTraits* traits_;  // the machine's; it outlives its vCPUs
  ResetState reset_;
  StringCursor string_;
  bool pending_ = false;      // an exit was handed out whose instruction KVM has not finished
  bool undelivered_ = false;  // the run area holds an exit that run() has yet to hand out
  pid_t thread_ = 0;          // of run(); 0 before the first
  std::atomic<pid_t> running_{0};
  std::atomic<bool> kicked_{false};
};

}  // namespace sm::kvm
