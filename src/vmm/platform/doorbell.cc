#include "vmm/platform/doorbell.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace sm {

namespace {

constexpr std::uint64_t kEventOffset = doorbell::kPortEvent - doorbell::kPortBase;
constexpr std::uint64_t kGenerationOffset = doorbell::kPortGeneration - doorbell::kPortBase;
constexpr std::uint64_t kMagicOffset = doorbell::kPortMagic - doorbell::kPortBase;
constexpr std::uint64_t kBoundDisksOffset = doorbell::kPortBoundDisks - doorbell::kPortBase;

std::optional<doorbell::Event> known_event(std::uint8_t id) {
  const auto event = static_cast<doorbell::Event>(id);
  switch (event) {
    case doorbell::Event::kBooted:
    case doorbell::Event::kAgentReady:
    case doorbell::Event::kWorkloadStart:
    case doorbell::Event::kWorkloadExit:
    case doorbell::Event::kFatal:
    case doorbell::Event::kImageAwaited:
      return event;
  }
  return std::nullopt;
}

}  // namespace

void Doorbell::read(std::uint64_t offset, std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  std::uint32_t value = 0;
  if (out.size() != sizeof(value)) return;
  if (offset == kEventOffset) value = held_;
  if (offset == kGenerationOffset) value = generation_;
  if (offset == kMagicOffset) value = doorbell::kMagic;
  if (offset == kBoundDisksOffset) value = bound_disks_;
  std::memcpy(out.data(), &value, sizeof(value));
}

void Doorbell::write(std::uint64_t offset, std::span<const std::byte> in) {
  std::uint32_t word = 0;
  if (offset != kEventOffset || in.size() != sizeof(word)) return;
  std::memcpy(&word, in.data(), sizeof(word));
  const auto event = known_event(doorbell::event_of(word));
  if (!event) {
    ++unknown_events_;
    log_->guest_warning("doorbell: unknown event {}", doorbell::event_of(word));
    return;
  }
  sink_->on_event(*event, doorbell::argument_of(word));
}

}  // namespace sm
