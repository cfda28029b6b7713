// Fuzzes Queue: the input is a list of steps of a hostile driver and of the device.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>
#include <optional>

#include "base/check.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/ring_layout.h"

namespace sm {
namespace {

constexpr std::uint64_t kBytes = 1 << 20;
constexpr GuestPhysAddr kDescriptors(0x1000), kAvailable(0x2000), kUsed(0x3000);
constexpr std::uint64_t kTables = 0x4000;  // two pages of indirect tables
constexpr std::uint16_t kMax = 64;

struct Fixture {
  Fixture() {
    auto created = GuestMemory::create(kBytes);
    SM_CHECK(created.has_value());
    memory = std::move(*created);
  }
  std::unique_ptr<GuestMemory> memory;
};

class Session {
 public:
  Session(GuestMemory& memory, FuzzedDataProvider& input) : memory_(memory), input_(input) {
    const std::vector<std::byte> zeros(0x5000);
    SM_CHECK(memory_.write(kDescriptors, zeros).has_value());
    restart();
  }

  void run() {
    // Limit: enough to wrap small rings many times.
    for (int steps = 0; steps < 2000 && input_.remaining_bytes() != 0; ++steps) step();
  }

 private:
  void restart() {
    size_ = static_cast<std::uint16_t>(1u << input_.ConsumeIntegralInRange<unsigned>(0, 6));
    const QueueConfig config{.size = size_,
                             .descriptors = kDescriptors,
                             .available = kAvailable,
                             .used = kUsed,
                             .ready = true,
                             .event_idx = input_.ConsumeBool(),
                             .indirect = input_.ConsumeBool()};
    auto queue = Queue::create(memory_, config, kMax);
    SM_CHECK(queue.has_value());
    queue_ = std::move(*queue);
    held_.clear();
    can_undo_ = false;
  }

  void step() {
    switch (input_.ConsumeIntegralInRange<int>(0, 8)) {
      case 0:
        return put(kDescriptors.raw() + 16 * input_.ConsumeIntegralInRange<std::uint64_t>(0, 63),
                   descriptor());
      case 1:
        return put(kTables + 16 * input_.ConsumeIntegralInRange<std::uint64_t>(0, 511),
                   descriptor());
      case 2:
        return put(kAvailable.raw() + 4 + 2 * input_.ConsumeIntegralInRange<std::uint64_t>(0, 64),
                   input_.ConsumeBool() ? input_.ConsumeIntegralInRange<std::uint16_t>(0, 63)
                                        : input_.ConsumeIntegral<std::uint16_t>());
      case 3:
        index_ = input_.ConsumeBool()
                     ? static_cast<std::uint16_t>(index_ + input_.ConsumeIntegralInRange(0, 8))
                     : input_.ConsumeIntegral<std::uint16_t>();
        return put(kAvailable.raw() + 2, index_);
      case 4:
      case 5:
        return pop();
      case 6:
        if (can_undo_) {
          queue_->undo_pop();
          held_.pop_back();
          can_undo_ = false;
        }
        return;
      case 7:
        return push();
      default:
        if (input_.ConsumeIntegralInRange<int>(0, 15) == 0) restart();
    }
  }

  ring::Descriptor descriptor() {
    ring::Descriptor d{};
    d.address = input_.ConsumeBool() ? input_.ConsumeIntegralInRange<std::uint64_t>(0, kBytes)
                                     : input_.ConsumeIntegral<std::uint64_t>();
    if (input_.ConsumeBool()) {
      d.address = kTables + 16 * input_.ConsumeIntegralInRange<std::uint64_t>(0, 511);
    }
    d.length = input_.ConsumeBool() ? 16 * input_.ConsumeIntegralInRange<std::uint32_t>(0, kMax + 1)
                                    : input_.ConsumeIntegral<std::uint32_t>();
    d.flags = input_.ConsumeBool() ? input_.ConsumeIntegralInRange<std::uint16_t>(0, 7)
                                   : input_.ConsumeIntegral<std::uint16_t>();
    d.next = input_.ConsumeBool() ? input_.ConsumeIntegralInRange<std::uint16_t>(0, kMax)
                                  : input_.ConsumeIntegral<std::uint16_t>();
    return d;
  }

  template <class T>
  void put(std::uint64_t address, const T& value) {
    SM_CHECK(memory_.write_object(GuestPhysAddr(address), value).has_value());
  }

  void pop() {
    Chain chain;
    const auto popped = queue_->pop(chain);
    can_undo_ = false;
    if (!popped) {
      SM_CHECK(!queue_->pop(chain).has_value());
      return restart();
    }
    if (!*popped) return;
    SM_CHECK(chain.head < size_);
    SM_CHECK(chain.readable.size() + chain.writable.size() <= kMax);
    SM_CHECK(total_length(chain.readable) + total_length(chain.writable) <= 1ull << 32);
    for (const auto* list : {&chain.readable, &chain.writable}) {
      for (const GuestBuffer& b : *list) {
        SM_CHECK(b.length != 0 && memory_.contains(b.address, b.length));
      }
    }
    held_.push_back(std::move(chain));
    if (held_.size() > 200) held_.erase(held_.begin());
    can_undo_ = true;
  }

  void push() {
    if (held_.empty()) return;
    can_undo_ = false;
    SM_CHECK(queue_->push(held_.back(), input_.ConsumeIntegral<std::uint32_t>()).has_value());
    held_.pop_back();
    SM_CHECK(queue_->should_interrupt().has_value());
    const auto again = queue_->should_interrupt();
    SM_CHECK(again.has_value() && !*again);
  }

  GuestMemory& memory_;
  FuzzedDataProvider& input_;
  std::optional<Queue> queue_;
  std::vector<Chain> held_;
  std::uint16_t size_ = 0;
  std::uint16_t index_ = 0;
  bool can_undo_ = false;
};

}  // namespace
}  // namespace sm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const sm::Fixture fixture;
  FuzzedDataProvider input(data, size);
  sm::Session(*fixture.memory, input).run();
  return 0;
}
