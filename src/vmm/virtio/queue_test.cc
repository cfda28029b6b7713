#include "vmm/virtio/queue.h"

#include <gtest/gtest.h>

#include "support/chain_builder.h"

namespace sm {
namespace {

using test::BuiltChain;
using test::ChainBuilder;
using test::GuestArena;
using test::must;
using test::RingFake;

constexpr std::uint16_t kSize = 8;
constexpr std::uint16_t kMax = 16;

class QueueTest : public ::testing::Test {
 protected:
  Queue make(bool event_idx = false, bool indirect = true) {
    return must(Queue::create(*memory_, ring_.config(event_idx, indirect), kMax));
  }
  // The error of the next pop(), which must fail, and fail again.
  std::string pop_error(Queue& queue) {
    Chain chain;
    const auto popped = queue.pop(chain);
    if (popped) return "";
    EXPECT_EQ(popped.error().code(), Code::kGuest);
    EXPECT_FALSE(queue.pop(chain)) << "a broken queue must stay broken";
    return popped.error().cause();
  }
  std::string error_of(const ring::Descriptor& d) {
    ring_.set_descriptor(0, d);
    ring_.offer(0);
    Queue queue = make();
    return pop_error(queue);
  }
  // The error of a chain whose only direct descriptor refers to `table`.
  std::string error_of_table(std::span<const ring::Descriptor> table) {
    const GuestPhysAddr at = arena_.put(std::as_bytes(table));
    return error_of({at.raw(), static_cast<std::uint32_t>(table.size_bytes()), ring::kIndirect, 0});
  }

  std::unique_ptr<GuestMemory> memory_ = must(GuestMemory::create(4 << 20));
  GuestArena arena_{*memory_};
  RingFake ring_{arena_, kSize};
  const std::uint64_t end_ = memory_->size();
};

// --- set-up ---

TEST_F(QueueTest, create_left_off_is_not_ready_and_pops_nothing) {
  Queue queue = must(Queue::create(*memory_, QueueConfig{}, kMax));
  Chain chain;
  EXPECT_FALSE(queue.ready());
  EXPECT_FALSE(must(queue.pop(chain)));
  EXPECT_FALSE(must(queue.should_interrupt()));
}

TEST_F(QueueTest, create_bad_size_fails) {
  for (const std::uint16_t size :
       std::initializer_list<std::uint16_t>{0, 3, 5, 12, 32, 0x8000, 0xffff}) {
    QueueConfig config = ring_.config();
    config.size = size;
    EXPECT_FALSE(Queue::create(*memory_, config, kMax)) << size;
  }
}

TEST_F(QueueTest, create_misaligned_ring_fails) {
  for (const std::uint64_t off : {1u, 2u, 4u, 8u}) {
    QueueConfig config = ring_.config();
    config.descriptors = GuestPhysAddr(config.descriptors.raw() + off);
    EXPECT_FALSE(Queue::create(*memory_, config, kMax)) << off;
  }
  QueueConfig config = ring_.config();
  config.available = GuestPhysAddr(config.available.raw() + 1);
  EXPECT_FALSE(Queue::create(*memory_, config, kMax));
  config = ring_.config();
  config.used = GuestPhysAddr(config.used.raw() + 2);
  EXPECT_FALSE(Queue::create(*memory_, config, kMax));
}

TEST_F(QueueTest, create_ring_outside_ram_fails) {
  const std::uint64_t bad[] = {end_, end_ - 16, ~0ull & ~15ull, 0xd000'0000, 1ull << 63};
  for (const std::uint64_t address : bad) {
    QueueConfig config = ring_.config();
    config.descriptors = GuestPhysAddr(address);
    EXPECT_FALSE(Queue::create(*memory_, config, kMax)) << address;
    config = ring_.config();
    config.available = GuestPhysAddr(address);
    EXPECT_FALSE(Queue::create(*memory_, config, kMax)) << address;
    config = ring_.config();
    config.used = GuestPhysAddr(address);
    EXPECT_FALSE(Queue::create(*memory_, config, kMax)) << address;
  }
}

TEST_F(QueueTest, create_rings_that_just_fit_succeeds) {
  QueueConfig config = ring_.config();
  config.used = GuestPhysAddr((end_ - ring::used_bytes(kSize)) & ~3ull);
  EXPECT_TRUE(Queue::create(*memory_, config, kMax));
  config.used = GuestPhysAddr(config.used.raw() + 4);
  EXPECT_FALSE(Queue::create(*memory_, config, kMax));
}

// --- good chains ---

TEST_F(QueueTest, pop_empty_ring_says_nothing) {
  Queue queue = make();
  Chain chain;
  EXPECT_FALSE(must(queue.pop(chain)));
  EXPECT_FALSE(must(queue.pop()).has_value());
}

TEST_F(QueueTest, pop_gives_buffers_in_order) {
  Queue queue = make();
  const BuiltChain built =
      ChainBuilder(ring_).readable("head").readable("body").writable(100).writable(1).offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.head, built.head);
  ASSERT_EQ(chain.readable.size(), 2u);
  ASSERT_EQ(chain.writable.size(), 2u);
  EXPECT_EQ(chain.readable[1].address, built.readable[1].address);
  EXPECT_EQ(chain.writable[0].length, 100u);
  EXPECT_FALSE(must(queue.pop(chain)));
  EXPECT_TRUE(chain.readable.empty());
}

TEST_F(QueueTest, pop_indirect_chain_gives_the_table) {
  Queue queue = make();
  ChainBuilder(ring_).readable("abc").writable(7).indirect().offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  ASSERT_EQ(chain.readable.size(), 1u);
  ASSERT_EQ(chain.writable.size(), 1u);
  EXPECT_EQ(chain.writable[0].length, 7u);
}

TEST_F(QueueTest, pop_direct_descriptors_before_an_indirect_one_are_accepted) {
  Queue queue = make();
  const ring::Descriptor table[] = {{arena_.take(4).raw(), 4, ring::kWrite, 0}};
  const GuestPhysAddr at = arena_.put(std::as_bytes(std::span(table)));
  ring_.set_descriptor(0, {arena_.take(8).raw(), 8, ring::kNext, 1});
  // The write flag of the descriptor that refers to a table means nothing.
  ring_.set_descriptor(1, {at.raw(), 16, ring::kIndirect | ring::kWrite, 0});
  ring_.offer(0);
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(total_length(chain.readable), 8u);
  EXPECT_EQ(total_length(chain.writable), 4u);
}

TEST_F(QueueTest, pop_indirect_table_larger_than_the_queue_is_accepted_up_to_the_maximum) {
  Queue queue = make();
  ChainBuilder builder(ring_);
  for (int i = 0; i < kMax; ++i) builder.writable(1);
  builder.indirect().offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.writable.size(), kMax);
}

TEST_F(QueueTest, pop_zero_length_descriptors_do_not_exist) {
  Queue queue = make();
  ChainBuilder(ring_)
      .buffer(GuestPhysAddr(~0ull), 0, 0)
      .readable("x")
      .buffer(GuestPhysAddr(0), 0, ring::kWrite)
      .writable(1)
      .offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.readable.size(), 1u);
  EXPECT_EQ(chain.writable.size(), 1u);
}

TEST_F(QueueTest, pop_whole_queue_as_one_chain_is_accepted) {
  Queue queue = make();
  ChainBuilder builder(ring_);
  for (int i = 0; i < kSize; ++i) builder.writable(1);
  builder.offer();
  Chain chain;
  EXPECT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.writable.size(), kSize);
}

TEST_F(QueueTest, push_publishes_head_and_length) {
  Queue queue = make();
  const BuiltChain built = ChainBuilder(ring_).writable(100).offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  ASSERT_TRUE(queue.push(chain, 42));
  const auto used = ring_.take_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->id, built.head);
  EXPECT_EQ(used->length, 42u);
  EXPECT_FALSE(ring_.take_used());
}

TEST_F(QueueTest, undo_pop_gives_the_same_chain_again) {
  Queue queue = make(true);
  const BuiltChain first = ChainBuilder(ring_).writable(1).offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  queue.undo_pop();
  const BuiltChain second = ChainBuilder(ring_).writable(2).offer();
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.head, first.head);
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_EQ(chain.head, second.head);
}

TEST_F(QueueTest, indices_wrap_after_65536_chains) {
  Queue queue = make(true);
  const std::uint64_t mark = arena_.mark();
  Chain chain;
  for (std::uint32_t i = 0; i < 70'000; ++i) {
    arena_.rewind(mark);
    const BuiltChain built = ChainBuilder(ring_).writable(4).offer();
    ASSERT_TRUE(must(queue.pop(chain))) << i;
    ASSERT_TRUE(queue.push(chain, i));
    const auto used = ring_.take_used();
    ASSERT_TRUE(used) << i;
    ASSERT_EQ(used->id, built.head);
    ASSERT_EQ(used->length, i);
    ASSERT_FALSE(must(queue.pop(chain)));
  }
}

// --- hostile rings ---

TEST_F(QueueTest, pop_head_out_of_range_fails) {
  for (const std::uint16_t head :
       std::initializer_list<std::uint16_t>{kSize, kSize + 1, 0x7fff, 0xffff}) {
    ring_.clear();
    ring_.offer(head);
    Queue queue = make();
    EXPECT_EQ(pop_error(queue), "descriptor index " + std::to_string(head));
  }
}

TEST_F(QueueTest, pop_next_out_of_range_fails) {
  EXPECT_EQ(error_of({arena_.take(4).raw(), 4, ring::kNext, kSize}), "descriptor index 8");
  ring_.clear();
  EXPECT_EQ(error_of({arena_.take(4).raw(), 4, ring::kNext, 0xffff}), "descriptor index 65535");
}

TEST_F(QueueTest, pop_loops_fail) {
  EXPECT_EQ(error_of({arena_.take(4).raw(), 4, ring::kNext, 0}), "descriptor chain longer than 16");
  ring_.clear();
  for (std::uint16_t i = 0; i < kSize; ++i) {
    const auto next = static_cast<std::uint16_t>((i + 1) % kSize);
    ring_.set_descriptor(i, {arena_.take(4).raw(), 4, ring::kNext, next});
  }
  ring_.offer(3);
  Queue queue = make();
  EXPECT_EQ(pop_error(queue), "descriptor chain longer than 16");
}

TEST_F(QueueTest, pop_loop_of_zero_length_descriptors_fails) {
  EXPECT_EQ(error_of({0, 0, ring::kNext, 0}), "descriptor chain longer than 16");
}

TEST_F(QueueTest, pop_direct_and_indirect_descriptors_are_limited_together) {
  for (const std::uint16_t in_table : std::initializer_list<std::uint16_t>{kMax - 7, kMax - 6}) {
    ring_.clear();
    std::vector<ring::Descriptor> table(in_table, ring::Descriptor{0, 1, ring::kNext, 0});
    for (std::uint16_t i = 0; i < in_table; ++i) table[i].next = static_cast<std::uint16_t>(i + 1);
    table.back().flags = 0;
    const GuestPhysAddr at = arena_.put(std::as_bytes(std::span(table)));
    for (std::uint16_t i = 0; i < 7; ++i) {
      ring_.set_descriptor(i, {0, 1, ring::kNext, static_cast<std::uint16_t>(i + 1)});
    }
    ring_.set_descriptor(7, {at.raw(), std::uint32_t{in_table} * 16, ring::kIndirect, 0});
    ring_.offer(0);
    Queue queue = make();
    Chain chain;
    EXPECT_EQ(queue.pop(chain).has_value(), in_table == kMax - 7);
  }
}

TEST_F(QueueTest, pop_broken_queue_stays_broken_when_the_ring_is_repaired) {
  ring_.offer(kSize);
  Queue queue = make();
  Chain chain;
  EXPECT_FALSE(queue.pop(chain));
  ring_.set_descriptor(0, {arena_.take(4).raw(), 4, 0, 0});
  ring_.set_available_entry(0, 0);
  EXPECT_FALSE(queue.pop(chain));
}

TEST_F(QueueTest, pop_loop_inside_an_indirect_table_fails) {
  const ring::Descriptor table[] = {{0, 1, ring::kNext, 1}, {0, 1, ring::kNext, 0}};
  EXPECT_EQ(error_of_table(table), "descriptor chain longer than 16");
}

TEST_F(QueueTest, pop_buffer_outside_ram_fails) {
  const struct {
    std::uint64_t address;
    std::uint32_t length;
  } bad[] = {
      {end_, 1}, {end_ - 1, 2},    {~0ull, 1},       {~0ull, 2},      {~0ull - 3, 0xff},
      {0, ~0u},  {0xd000'0000, 4}, {1ull << 63, 16}, {end_ - 4, ~0u}, {0xd000'0f00, 0xffffffff}};
  for (const auto& b : bad) {
    for (const std::uint16_t flags : {std::uint16_t{0}, ring::kWrite}) {
      ring_.clear();
      EXPECT_EQ(error_of({b.address, b.length, flags, 0}), "descriptor outside RAM") << b.address;
    }
  }
}

TEST_F(QueueTest, pop_buffer_that_just_fits_succeeds) {
  ring_.set_descriptor(0, {end_ - 16, 16, ring::kWrite, 0});
  ring_.offer(0);
  Queue queue = make();
  Chain chain;
  EXPECT_TRUE(must(queue.pop(chain)));
}

TEST_F(QueueTest, pop_readable_after_writable_fails) {
  ChainBuilder(ring_).writable(4).readable("late").offer();
  Queue queue = make();
  EXPECT_EQ(pop_error(queue), "readable descriptor after a writable");
}

TEST_F(QueueTest, pop_more_than_four_gib_fails) {
  auto big = must(GuestMemory::create(3ull << 30));
  GuestArena arena(*big);
  RingFake ring(arena, kSize);
  constexpr std::uint32_t kGiB = 1u << 30;
  // Four times one GiB is exactly the limit.
  for (const int parts : {4, 5}) {
    ring.clear();
    ChainBuilder builder(ring);
    for (int i = 0; i < parts; ++i) builder.buffer(GuestPhysAddr(0), kGiB, ring::kWrite);
    builder.offer();
    Queue queue = must(Queue::create(*big, ring.config(), kMax));
    Chain chain;
    EXPECT_EQ(queue.pop(chain).has_value(), parts == 4);
  }
}

TEST_F(QueueTest, pop_bad_indirect_tables_fail) {
  const std::uint64_t at = arena_.take(4096).raw();
  const auto next = static_cast<std::uint16_t>(ring::kIndirect | ring::kNext);
  const struct {
    ring::Descriptor d;
    const char* error;
  } bad[] = {
      {{at, 0, ring::kIndirect, 0}, "indirect table of 0 bytes"},
      {{at, 15, ring::kIndirect, 0}, "indirect table of 15 bytes"},
      {{at, 17, ring::kIndirect, 0}, "indirect table of 17 bytes"},
      {{at, 16 * 17, ring::kIndirect, 0}, "indirect table of 17 descriptors"},
      {{at, 0xffff'fff0, ring::kIndirect, 0}, "indirect table of 268435455 descriptors"},
      {{at, 16, next, 1}, "indirect descriptor with a successor"},
      {{end_ - 8, 16, ring::kIndirect, 0}, "indirect table outside RAM"},
      {{~0ull - 7, 16, ring::kIndirect, 0}, "indirect table outside RAM"},
  };
  for (const auto& b : bad) {
    ring_.clear();
    EXPECT_EQ(error_of(b.d), b.error);
  }
}

TEST_F(QueueTest, pop_nested_indirect_table_fails) {
  const std::uint64_t inner = arena_.take(16).raw();
  const ring::Descriptor first[] = {{inner, 16, ring::kIndirect, 0}};
  EXPECT_EQ(error_of_table(first), "nested indirect descriptor");
  ring_.clear();
  const ring::Descriptor second[] = {{inner, 16, ring::kNext, 1}, {inner, 16, ring::kIndirect, 0}};
  EXPECT_EQ(error_of_table(second), "nested indirect descriptor");
}

TEST_F(QueueTest, pop_indirect_table_index_out_of_range_fails) {
  const ring::Descriptor table[] = {{0, 4, ring::kNext, 1}};
  EXPECT_EQ(error_of_table(table), "descriptor index 1");
}

TEST_F(QueueTest, pop_indirect_not_negotiated_fails) {
  ChainBuilder(ring_).writable(4).indirect().offer();
  Queue queue = make(false, false);
  EXPECT_EQ(pop_error(queue), "indirect descriptor without the feature");
}

TEST_F(QueueTest, pop_impossible_available_index_fails) {
  for (const std::uint16_t index :
       std::initializer_list<std::uint16_t>{kSize + 1, 0x8000, 0xffff}) {
    ring_.clear();
    ring_.set_available_index(index);
    Queue queue = make();
    EXPECT_EQ(pop_error(queue), "available index " + std::to_string(index) + " is " +
                                    std::to_string(index) + " ahead of 0");
  }
}

TEST_F(QueueTest, pop_available_index_that_goes_back_fails) {
  Queue queue = make();
  ChainBuilder(ring_).writable(4).offer();
  Chain chain;
  ASSERT_TRUE(must(queue.pop(chain)));
  ring_.set_available_index(0);
  EXPECT_EQ(pop_error(queue), "available index 0 is 65535 ahead of 1");
}

TEST_F(QueueTest, pop_full_ring_of_the_same_head_is_bounded) {
  // Legal for a queue, whatever the driver means by it: each entry is one chain.
  Queue queue = make();
  const BuiltChain built = ChainBuilder(ring_).writable(4).build();
  for (int i = 0; i < kSize; ++i) ring_.offer(built.head);
  Chain chain;
  for (int i = 0; i < kSize; ++i) ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_FALSE(must(queue.pop(chain)));
}

// --- notifications ---

TEST_F(QueueTest, should_interrupt_without_event_index_follows_the_flag) {
  Queue queue = make();
  Chain chain;
  EXPECT_FALSE(must(queue.should_interrupt()));
  for (const bool suppressed : {false, true}) {
    ring_.set_no_interrupt(suppressed);
    ChainBuilder(ring_).writable(4).offer();
    ASSERT_TRUE(must(queue.pop(chain)));
    ASSERT_TRUE(queue.push(chain, 0));
    EXPECT_EQ(must(queue.should_interrupt()), !suppressed);
    EXPECT_FALSE(must(queue.should_interrupt())) << "nothing new";
  }
}

TEST_F(QueueTest, should_interrupt_with_event_index_waits_for_the_event) {
  Queue queue = make(true);
  Chain chain;
  ring_.set_used_event(2);  // interrupt when the third chain has been used
  std::vector<bool> interrupts;
  for (int i = 0; i < 5; ++i) {
    ChainBuilder(ring_).writable(4).offer();
    ASSERT_TRUE(must(queue.pop(chain)));
    ASSERT_TRUE(queue.push(chain, 0));
    interrupts.push_back(must(queue.should_interrupt()));
  }
  EXPECT_EQ(interrupts, (std::vector<bool>{false, false, true, false, false}));
}

TEST_F(QueueTest, should_interrupt_with_event_index_counts_a_whole_batch) {
  Queue queue = make(true);
  Chain chain;
  ring_.set_used_event(1);
  for (int i = 0; i < 4; ++i) {
    ChainBuilder(ring_).writable(4).offer();
    ASSERT_TRUE(must(queue.pop(chain)));
    ASSERT_TRUE(queue.push(chain, 0));
  }
  EXPECT_TRUE(must(queue.should_interrupt()));
  EXPECT_FALSE(must(queue.should_interrupt()));
}

TEST_F(QueueTest, pop_with_event_index_asks_for_the_next_kick) {
  Queue queue = make(true);
  Chain chain;
  EXPECT_FALSE(must(queue.pop(chain)));
  EXPECT_EQ(ring_.avail_event(), 0);
  ChainBuilder(ring_).writable(4).offer();
  EXPECT_TRUE(ring_.kick_wanted());
  ASSERT_TRUE(must(queue.pop(chain)));
  ChainBuilder(ring_).writable(4).offer();
  EXPECT_FALSE(ring_.kick_wanted()) << "the device is still working";
  ASSERT_TRUE(must(queue.pop(chain)));
  EXPECT_FALSE(must(queue.pop(chain)));
  EXPECT_EQ(ring_.avail_event(), 2);
  ChainBuilder(ring_).writable(4).offer();
  EXPECT_TRUE(ring_.kick_wanted());
}

}  // namespace
}  // namespace sm
