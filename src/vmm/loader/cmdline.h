// CommandLine: the guest kernel's command line, put together from checked parts. Nothing that
// matters to the machine is looked up in it later.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "vmm/memory/guest_memory.h"

namespace sm {

class CommandLine {
 public:
  // `max_length` without the final NUL.
  explicit CommandLine(std::uint32_t max_length) : max_length_(max_length) {}

  // Appends one or more arguments, separated from what is there by a blank. Refuses anything but
  // printable ASCII, an open double quote, and text behind a lone "--" (which would reach init
  // instead of the kernel). `what` names the text in errors, as in "--cmdline".
  Status append(std::string_view text, std::string_view what);
  // Announces a virtio-mmio device: Linux's virtio_mmio.device=.
  Status add_virtio_mmio(GuestPhysAddr base, std::uint64_t size, std::uint32_t gsi);

  const std::string& text() const { return text_; }
  // Puts the text and a NUL at addr_map::kCommandLine.
  Status write(GuestMemory& memory) const;

 private:
  std::uint32_t max_length_;
  std::string text_;
  bool ended_ = false;  // a lone "--" was appended
};

}  // namespace sm
