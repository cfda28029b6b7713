#include "vmm/cpu/kvm/exit_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace sm::kvm {

namespace {

std::string_view suberror_name(std::uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "an instruction that KVM cannot emulate";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "two exceptions at once";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "an exit while an event was being delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "an exit reason that KVM does not know";
    default:
      return "of a kind this program does not know";
  }
}

// Spec: KVM API, KVM_EXIT_INTERNAL_ERROR: for emulation errors data[0] may be flags that announce
// the instruction's bytes.
std::string instruction_bytes(const kvm_run& run) {
  const auto& failure = run.emulation_failure;
  constexpr std::uint32_t kWordsWithBytes = 3;
  const bool present = failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
                       failure.ndata >= kWordsWithBytes &&
                       (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
  if (!present) return "";
  std::string text = ", bytes";
  const std::size_t count = std::min<std::size_t>(failure.insn_size, sizeof(failure.insn_bytes));
  for (std::size_t i = 0; i < count; ++i) text += fmt::format(" {:02x}", failure.insn_bytes[i]);
  return text;
}

std::string internal_data(const kvm_run& run) {
  std::string text;
  const std::size_t count = std::min<std::size_t>(run.internal.ndata, std::size(run.internal.data));
  for (std::size_t i = 0; i < count; ++i) {
    text += fmt::format("{} {:#x}", i == 0 ? ", data" : "", run.internal.data[i]);
  }
  return text;
}

}  // namespace

std::string exit_text(const kvm_run& run) {
  switch (run.exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR: {
      const std::string bytes = instruction_bytes(run);
      return fmt::format("KVM_EXIT_INTERNAL_ERROR, suberror {}: {}{}", run.internal.suberror,
                         suberror_name(run.internal.suberror),
                         bytes.empty() ? internal_data(run) : bytes);
    }
    case KVM_EXIT_FAIL_ENTRY:
      return fmt::format(
          "KVM_EXIT_FAIL_ENTRY: the processor refused the guest's state, hardware reason {:#x}",
          run.fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_UNKNOWN:
      return fmt::format("KVM_EXIT_UNKNOWN, hardware reason {:#x}", run.hw.hardware_exit_reason);
    case KVM_EXIT_SYSTEM_EVENT:
      return fmt::format("KVM_EXIT_SYSTEM_EVENT, type {}", run.system_event.type);
    case KVM_EXIT_EXCEPTION:
      return fmt::format("KVM_EXIT_EXCEPTION {}, error code {:#x}", run.ex.exception,
                         run.ex.error_code);
    default:
      return fmt::format("KVM exit reason {}, which this engine does not handle", run.exit_reason);
  }
}

std::string run_error_text(int error) {
  std::string text = fmt::format("KVM_RUN failed: {}", std::strerror(error));
  if (error == EFAULT || error == EHWPOISON || error == ENOMEM) {
    text += " (the host cannot provide a page of guest memory)";
  }
  return text;
}

}  // namespace sm::kvm
