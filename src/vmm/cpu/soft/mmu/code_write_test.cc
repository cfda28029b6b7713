// Kept code: where it ends, writes to it, and what vCPUs ask of one another for that.
#include <gtest/gtest.h>

#include <thread>

#include "base/clock.h"
#include "vmm/cpu/soft/mmu/mmu_fixture.h"

namespace sm::soft {
namespace {

class CodeWriteTest : public MmuTest {
 protected:
  static constexpr std::uint8_t kNop = 0x90, kHlt = 0xF4;
  void put(std::uint64_t physical, std::uint8_t byte) {
    *machine_.memory().host(physical) = std::byte{byte};
  }
  Op op_at(Vcpu& vcpu, std::uint64_t linear) {
    vcpu.cpu.rip = linear;
    const Insn* decoded = vcpu.code.fetch();
    return decoded == nullptr ? Op::kInvalid : decoded->op;
  }
  bool mail(Cpu& cpu) { return (cpu.attention.load() & kAttentionMemory) != 0; }
};

// The limit comes before what lies beyond it: no #UD and no #PF of bytes outside of the segment.
TEST_F(CodeWriteTest, code_ends_at_its_segments_limit) {
  constexpr std::uint64_t kCode = 0x7000;
  SegmentRegister& cs = cpu().segment[static_cast<std::size_t>(Segment::kCs)];
  cs.base = 0;
  cs.attributes = static_cast<std::uint16_t>((cs.attributes & ~(1u << 13)) | 1u << 14);
  cpu().mode = code_mode_of(cpu());
  ASSERT_EQ(cpu().mode, CodeMode::k32);
  map(kCode, kPage | kPresent);
  const auto fetch = [&](std::uint64_t rip, std::uint32_t limit) {
    cs.limit = limit;
    cpu().fault = {};
    return op_at(*vcpus_[0], rip);
  };
  for (std::uint8_t i = 0; i < 5; ++i) put(kPage + i, i == 0 ? 0xB8 : i);  // mov eax, imm32
  EXPECT_EQ(fetch(kCode, 0x7002), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_EQ(fetch(kCode, 0xFFFF'FFFF), Op::kMov);
  EXPECT_EQ(fetch(kCode, 0x7003), Op::kInvalid) << "although it is kept";
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_EQ(fetch(kCode, 0x7004), Op::kMov);
  put(kPage + 0xFFF, 0xB8);  // goes on where no page is
  EXPECT_EQ(fetch(kCode + 0xFFF, 0x7FFF), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_EQ(fetch(kCode + 0xFFF, 0xFFFF'FFFF), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kPage);
  EXPECT_EQ(fetch(kCode + 0x1000, 0x7FFF), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  put(kPage + 0x100, 0xFF);
  put(kPage + 0x101, 0xFF);
  EXPECT_EQ(fetch(kCode + 0x100, 0x70FF), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_EQ(fetch(kCode + 0x100, 0x7100), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kProtection);
  EXPECT_EQ(fetch(kCode + 0x100, 0x7101), Op::kInvalid);
  EXPECT_EQ(cpu().fault.vector, vector::kUndefined);
}

TEST_F(CodeWriteTest, own_store_drops_decoded_code) {
  map(kAddress, kPage | kPresent | kWritable);
  EXPECT_EQ(write(kAddress + 64), kFine);  // a write translation that has to go
  put(kPage, kNop);
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kNop);
  EXPECT_EQ(probe(cpu().write_tlb, kAddress, 1), nullptr);
  EXPECT_EQ(host_for_run(cpu(), kAddress, 1, true), nullptr);
  EXPECT_FALSE(mail(cpu()));
  const std::uint8_t hlt = kHlt;
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kHlt);
  // Nobody has code of the page any more after a drop: writes are fast again.
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  mmu().handle_mail();
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_NE(probe(cpu().write_tlb, kAddress, 1), nullptr);
}

TEST_F(CodeWriteTest, device_write_drops_decoded_code) {
  const auto observer = std::shared_ptr<MemoryObserver>(&machine_, [](MemoryObserver*) {});
  memory_->set_observer(observer);
  map(kAddress, kPage | kPresent);
  put(kPage, kNop);
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kNop);
  ASSERT_TRUE(memory_->write_object(GuestPhysAddr(kPage + 0x1000), kHlt));
  EXPECT_FALSE(mail(cpu()));
  ASSERT_TRUE(memory_->write_object(GuestPhysAddr(kPage), kHlt));
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(op_at(*vcpus_[0], kAddress), Op::kHlt);
}

TEST_F(CodeWriteTest, other_vcpus_are_told_and_lose_their_write_translations) {
  map(kAddress, kPage | kPresent | kWritable);
  Vcpu& other = add_vcpu(1);
  other.cpu.cr0 = cpu().cr0;
  other.cpu.cr3 = cpu().cr3;
  other.cpu.cr4 = cpu().cr4;
  other.cpu.efer = cpu().efer;
  other.cpu.mode = CodeMode::k64;
  other.mmu.paging_changed();
  EXPECT_EQ(write(kAddress + 64), kFine);
  ASSERT_NE(probe(cpu().write_tlb, kAddress, 1), nullptr);
  // vCPU 0 is not in the guest, so nobody waits for it; it finds the request when it enters.
  put(kPage, kNop);
  EXPECT_EQ(op_at(other, kAddress), Op::kNop);
  EXPECT_TRUE(mail(cpu()));
  mmu().handle_mail();
  EXPECT_EQ(probe(cpu().write_tlb, kAddress, 1), nullptr);
  const std::uint8_t hlt = kHlt;
  EXPECT_TRUE(store_linear(cpu(), kAddress, &hlt, 1));
  EXPECT_TRUE(mail(other.cpu));
  other.mmu.handle_mail();
  EXPECT_EQ(op_at(other, kAddress), Op::kHlt);
}

TEST_F(CodeWriteTest, more_writes_than_the_mailbox_holds_drop_everything) {
  for (std::uint64_t i = 0; i < 100; ++i) {
    map(kAddress + i * 4096, (kPage + i * 4096) | kPresent | kWritable);
    put(kPage + i * 4096, kNop);
    EXPECT_EQ(op_at(*vcpus_[0], kAddress + i * 4096), Op::kNop);
  }
  for (std::uint64_t i = 0; i < 100; ++i) {
    const std::uint8_t hlt = kHlt;
    EXPECT_TRUE(store_linear(cpu(), kAddress + i * 4096, &hlt, 1));
  }
  mmu().handle_mail();
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(op_at(*vcpus_[0], kAddress + i * 4096), Op::kHlt);
  }
}

TEST_F(CodeWriteTest, instruction_over_two_pages_is_fetched_from_both) {
  map(kAddress, kPage | kPresent);
  map(kAddress + 4096, kOther | kPresent);
  put(kPage + 4095, 0xB8);  // mov eax, imm32
  word(kOther) = 0x1234'5678;
  cpu().rip = kAddress + 4095;
  const Insn* decoded = vcpus_[0]->code.fetch();
  ASSERT_NE(decoded, nullptr);
  EXPECT_EQ(decoded->imm & 0xFFFF'FFFF, 0x1234'5678);
  map(kAddress + 4096, 0);
  mmu().flush_all();
  EXPECT_EQ(vcpus_[0]->code.fetch(), nullptr);
  EXPECT_EQ(cpu().fault.address, kAddress + 4096);
  put(kPage + 4095, kNop);  // needs no second page
  mmu().flush_all();
  EXPECT_NE(vcpus_[0]->code.fetch(), nullptr);
}

// ---- Requests between vCPUs -------------------------------------------------------------------

TEST_F(MmuTest, post_wakes_a_sleeper) {
  for (int i = 0; i < 200; ++i) {
    cpu().attention.store(0);
    std::thread poster([&] { machine_.post(0, kAttentionTimer); });
    machine_.enter_guest(cpu());
    machine_.sleep(cpu(), kAttentionTimer, monotonic_ns() + 20'000'000'000);
    machine_.leave_guest(cpu());
    EXPECT_NE(cpu().attention.load() & kAttentionTimer, 0u) << "the wake-up was lost";
    poster.join();
  }
}

TEST_F(MmuTest, sleep_ends_at_its_deadline) {
  machine_.enter_guest(cpu());
  machine_.sleep(cpu(), kAttentionTimer, monotonic_ns() + 1'000'000);
  machine_.leave_guest(cpu());
  EXPECT_EQ(cpu().attention.load(), 0u);
}

// Two vCPUs add to one counter, each alone in the machine: without that additions would be lost.
TEST_F(MmuTest, stop_others_excludes_the_other) {
  constexpr int kRounds = 3000;
  Vcpu& other = add_vcpu(1);
  volatile std::uint64_t counter = 0;
  const auto work = [&](Cpu& own) {
    machine_.enter_guest(own);
    for (int i = 0; i < kRounds; ++i) {
      if ((own.attention.load() & kAttentionPause) != 0) machine_.give_way(own);
      const Machine::StopOthers alone(machine_, own);
      counter = counter + 1;
    }
    machine_.leave_guest(own);
  };
  std::thread second([&] { work(other.cpu); });
  work(cpu());
  second.join();
  EXPECT_EQ(counter, 2u * kRounds);
}

}  // namespace
}  // namespace sm::soft
