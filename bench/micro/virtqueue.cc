// What one chain costs: Queue alone, then a block request on a file in memory.
#include <benchmark/benchmark.h>

#include "base/file.h"
#include "support/virtio_driver_fake.h"
#include "vmm/virtio/blk/device.h"

namespace sm {
namespace {

using test::BuiltChain;
using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::RingFake;

constexpr std::uint16_t kSize = 256;
constexpr int kBatch = 64;

enum Form { kDirect, kIndirect };

// A batch of kBatch chains of header, data and status: made available again and again, popped,
// pushed, one question for the interrupt.
void queue_pop_push(benchmark::State& state) {
  auto memory = must(GuestMemory::create(16 << 20));
  GuestArena arena(*memory);
  RingFake ring(arena, kSize);
  std::vector<std::uint16_t> heads;
  for (int i = 0; i < kBatch; ++i) {
    ChainBuilder builder(ring);
    builder.readable("sixteen bytes ok").writable(4096).writable(1);
    if (state.range(0) == kIndirect) builder.indirect();
    heads.push_back(builder.build().head);
  }
  Queue queue = must(Queue::create(*memory, ring.config(true, true), kSize));
  Chain chain;
  for (auto _ : state) {
    for (const std::uint16_t head : heads) ring.offer(head);
    while (must(queue.pop(chain))) must(queue.push(chain, 4097));
    benchmark::DoNotOptimize(must(queue.should_interrupt()));
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
}
BENCHMARK(queue_pop_push)->ArgName("indirect")->Arg(kDirect)->Arg(kIndirect);

// Reads of `bytes` each, as the device's loop sees them.
void blk_read(benchmark::State& state) {
  const auto bytes = static_cast<std::uint32_t>(state.range(0));
  auto memory = must(GuestMemory::create(256 << 20));
  GuestArena arena(*memory);
  RingFake ring(arena, kSize);
  std::vector<std::uint16_t> heads;
  for (int i = 0; i < kBatch; ++i) {
    heads.push_back(
        ChainBuilder(ring)
            .readable_object(blk::Header{
                .type = VIRTIO_BLK_T_IN, .ioprio = 0, .sector = static_cast<std::uint64_t>(i) * 8})
            .writable(bytes)
            .writable(1)
            .indirect()
            .build()
            .head);
  }
  auto file = must(memory_file("disk", std::vector<std::byte>(16 << 20)));
  auto device =
      must(BlkDevice::create({.name = "blk", .serial = "", .access = Access::kReadOnly},
                             must(FileBackend::create(std::move(file), Access::kReadOnly))));
  test::InterruptFake interrupt;
  std::mutex lock;
  device->attach(interrupt, lock);
  VirtioActivation activation{.features = device->features(), .queues = {}};
  activation.queues.push_back(must(Queue::create(*memory, ring.config(true, true), kSize)));
  must(device->activate(std::move(activation)));
  for (auto _ : state) {
    for (const std::uint16_t head : heads) ring.offer(head);
    while (must(device->process_queue(0))) {
    }
  }
  state.SetItemsProcessed(state.iterations() * kBatch);
  state.SetBytesProcessed(state.iterations() * kBatch * bytes);
}
BENCHMARK(blk_read)->ArgName("bytes")->Arg(4096)->Arg(65536)->Arg(1 << 20);

}  // namespace
}  // namespace sm

BENCHMARK_MAIN();
