#include "vmm/cpu/soft/machine.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "vmm/cpu/soft/mmu/mmu.h"

namespace sm::soft {

namespace {

// Another vCPU needs no longer than an instruction, unless the host does not run its thread.
template <class Condition>
void wait_briefly(Condition done) {
  constexpr int kSpins = 200;
  for (int i = 0; !done(); ++i) {
    if (i < kSpins) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

bool Machine::map(const GuestMemory& memory) {
  memory_ = PhysicalMemory(memory);
  pages_ = PageMap(memory_.page_count());
  return pages_.valid();
}

void Machine::attach(Cpu& cpu) {
  cpu.machine = this;
  slots_[cpu.index].cpu.store(&cpu, std::memory_order_release);
}

void Machine::detach(Cpu& cpu) { slots_[cpu.index].cpu.store(nullptr, std::memory_order_release); }

// The sleeper raises `asleep` before it looks at the attention word, this sets the word before it
// looks at `asleep`.
void Machine::post(Cpu& cpu, std::uint32_t attention) {
  cpu.attention.fetch_or(attention);
  Slot& slot = slots_[cpu.index];
  if (!slot.asleep.load()) return;
  { const std::lock_guard lock(slot.mutex); }
  slot.wake.notify_one();
}

// The request goes before the flag is raised: one that comes after that look at `stopping_` is for
// this vCPU, which is in the guest by then, and has to stay.
void Machine::enter_guest(Cpu& cpu) {
  Slot& slot = slots_[cpu.index];
  for (;;) {
    cpu.attention.fetch_and(~static_cast<std::uint32_t>(kAttentionPause));
    slot.in_guest.store(true);
    if (!stopping_.load()) return;
    slot.in_guest.store(false);
    const std::lock_guard wait_for_its_end(stop_mutex_);
  }
}

void Machine::leave_guest(Cpu& cpu) { slots_[cpu.index].in_guest.store(false); }

void Machine::sleep(Cpu& cpu, std::uint32_t mask, std::optional<std::uint64_t> deadline_ns) {
  const auto wanted = [&] { return (cpu.attention.load() & mask) != 0; };
  Slot& slot = slots_[cpu.index];
  leave_guest(cpu);
  {
    std::unique_lock lock(slot.mutex);
    slot.asleep.store(true);
    if (deadline_ns) {
      // Limit: a deadline beyond what the clock's type holds is none.
      const auto ns =
          std::min<std::uint64_t>(*deadline_ns, TimePoint::max().time_since_epoch().count());
      slot.wake.wait_until(lock, TimePoint(Duration(ns)), wanted);
    } else {
      slot.wake.wait(lock, wanted);
    }
    slot.asleep.store(false);
  }
  enter_guest(cpu);
}

void Machine::drop_code(std::uint64_t page, VcpuSet holders) {
  for (std::uint32_t i = 0; holders != 0; ++i, holders = static_cast<VcpuSet>(holders >> 1)) {
    if ((holders & 1) == 0) continue;
    if (Cpu* holder = cpu(i)) {
      holder->mmu->mailbox().post_code_drop(page);
      post(*holder, kAttentionMemory);
    }
  }
}

void Machine::code_written(std::uint64_t physical, std::uint64_t length) {
  if (length == 0) return;
  const std::uint64_t first = memory_.page_number(physical);
  const std::uint64_t last = memory_.page_number(physical + length - 1);
  if (first == PhysicalMemory::kNoPage || last == PhysicalMemory::kNoPage) return;
  for (std::uint64_t page = first; page <= last; ++page) {
    const std::uint64_t begin = page == first ? physical & kPageMask : 0;
    const std::uint64_t end = page == last ? ((physical + length - 1) & kPageMask) + 1 : kPageSize;
    if (pages_.code_holders(page) == 0 || !pages_.has_code_lines(page, begin, end)) continue;
    // Told before other vCPUs see that there are no holders and write without a word; and again,
    // since they may have made code of it in between. Who has done that hears of it once this
    // thread goes on.
    drop_code(page, pages_.code_holders(page));
    drop_code(page, pages_.take_code_holders(page));
  }
}

void Machine::wait_for_writers(Cpu& cpu, std::uint64_t page, VcpuSet writers) {
  std::array<std::uint64_t, kMaxSoftVcpus> tickets{};
  for (std::uint32_t i = 0; i < kMaxSoftVcpus; ++i) {
    Cpu* writer = this->cpu(i);
    if ((writers & vcpu_bit(i)) == 0 || writer == nullptr) continue;
    tickets[i] = writer->mmu->mailbox().post_writer_drop(page);
    post(*writer, kAttentionMemory);
  }
  // Out of the guest meanwhile, so that two who wait for each other both go on.
  leave_guest(cpu);
  for (std::uint32_t i = 0; i < kMaxSoftVcpus; ++i) {
    if (tickets[i] == 0) continue;
    const MmuMailbox& mailbox = this->cpu(i)->mmu->mailbox();
    wait_briefly([&] { return !slots_[i].in_guest.load() || mailbox.handled(tickets[i]); });
  }
  enter_guest(cpu);
}

bool Machine::claim_code_page(Cpu& cpu, std::uint64_t page) {
  VcpuSet writers = pages_.add_code_holder(page, cpu.index);
  if ((writers & vcpu_bit(cpu.index)) != 0) cpu.mmu->drop_writer(page);
  writers = static_cast<VcpuSet>(writers & ~vcpu_bit(cpu.index));
  if (writers == 0) return true;
  wait_for_writers(cpu, page, writers);
  cpu.mmu->handle_mail();
  return pages_.is_code_holder(page, cpu.index);
}

Machine::StopOthers::StopOthers(Machine& machine, Cpu& cpu)
    : machine_(machine), lock_(machine.stop_mutex_, std::defer_lock) {
  // Whoever stops the machine now finds this one out of the guest.
  machine_.leave_guest(cpu);
  lock_.lock();
  machine_.stopping_.store(true);
  for (std::uint32_t i = 0; i < kMaxSoftVcpus; ++i) {
    Cpu* other = machine_.cpu(i);
    // Who is outside does not come in before the end; a sleeper need not wake up for this.
    if (other == nullptr || i == cpu.index || !machine_.slots_[i].in_guest.load()) continue;
    machine_.post(*other, kAttentionPause);
    wait_briefly([&] { return !machine_.slots_[i].in_guest.load(); });
  }
  machine_.slots_[cpu.index].in_guest.store(true);
  cpu.mmu->handle_translation_mail();
}

Machine::StopOthers::~StopOthers() { machine_.stopping_.store(false); }

}  // namespace sm::soft
