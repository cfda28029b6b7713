#include "vmm/virtio/rng/device.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace sm {

void RngDevice::attach(VirtioInterrupt& interrupt, std::mutex&) { interrupt_ = &interrupt; }

void RngDevice::read_config(std::uint32_t offset, std::span<std::byte> out) const {
  copy_config({}, offset, out);
}

void RngDevice::write_config(std::uint32_t, std::span<const std::byte>) {}

Status RngDevice::activate(VirtioActivation activation) {
  queue_ = std::move(activation.queues.front());
  return {};
}

void RngDevice::reset() { queue_.reset(); }

Result<bool> RngDevice::process_queue(std::uint32_t) {
  bool more = true;
  for (int i = 0; i < kMaxChainsPerTurn; ++i) {
    more = SM_TRY(queue_->pop(chain_));
    if (!more) break;
    SM_TRY_STATUS(queue_->push(chain_, SM_TRY(answer())));
  }
  SM_TRY_STATUS(notify_used(*queue_, *interrupt_));
  return more;
}

// Fills chain_ and says with how many bytes.
Result<std::uint32_t> RngDevice::answer() {
  BufferWriter writer(queue_->memory(), chain_.writable);
  const std::uint64_t wanted = std::min(writer.remaining(), kMaxBytesPerRequest);
  std::array<std::byte, 4096> bytes;
  while (writer.written() < wanted) {
    const auto n =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), wanted - writer.written()));
    const ssize_t got = ::getrandom(bytes.data(), n, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail_errno("getrandom", errno);
    SM_TRY_STATUS(writer.write(std::span(bytes).first(static_cast<std::size_t>(got))));
  }
  return static_cast<std::uint32_t>(writer.written());
}

}  // namespace sm
