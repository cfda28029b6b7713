// The registers a string instruction works on: rsi, rdi and the counter in the address size, and
// the direction. Every change is made when elements are done, so that an instruction can stop
// between any two elements.
// Thread: the vCPU's own. Spec: SDM vol. 2, REP.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "vmm/cpu/soft/exec/operand.h"

namespace sm::soft {

class StringRegisters {
 public:
  enum Uses : std::uint8_t { kSource = 1, kDestination = 2, kBoth = 3 };
  StringRegisters(Cpu& cpu, const Insn& insn, Uses uses) : cpu_(cpu), insn_(insn), uses_(uses) {
    // A repetition clears the counter's upper half as soon as it begins, even one of no element or
    // one that faults.
    if (repeated()) write_sized(cpu_, kRcx, width(), cpu_.gpr[kRcx]);
  }
  // Processors do that to the addresses of MOVS and STOS as well.
  void normalise_addresses() {
    if (repeated()) move(0);
  }

  // Elements left to do.
  std::uint64_t count() const { return repeated() ? read_sized(cpu_, kRcx, width()) : 1 - done_; }
  bool repeated() const { return insn_.repeat != Repeat::kNone; }
  bool backwards() const { return (cpu_.other_flags & eflags::kDf) != 0; }

  // Linear address of [segment:rsi] to read, [es:rdi] to read or write; `bytes` on from there.
  bool source(std::uint32_t bytes, std::uint64_t& linear) {
    return linear_address(cpu_, insn_.segment, source_offset(), bytes, false, linear);
  }
  bool destination(std::uint32_t bytes, bool is_write, std::uint64_t& linear) {
    return linear_address(cpu_, Segment::kEs, destination_offset(), bytes, is_write, linear);
  }
  std::uint64_t source_offset() const { return read_sized(cpu_, kRsi, width()); }
  std::uint64_t destination_offset() const { return read_sized(cpu_, kRdi, width()); }

  // Of `limit` bytes those that lie before `offset` wraps and are of elements still to do.
  std::uint32_t bytes_before_wrap(std::uint64_t offset, std::uint32_t limit) const {
    const std::uint64_t last = address_mask(width()) - offset;
    const int shift = std::countr_zero(unsigned{insn_.operand_size});
    const std::uint64_t elements = std::min<std::uint64_t>(count(), limit >> shift);
    return static_cast<std::uint32_t>(std::min(elements << shift, last < limit ? last + 1 : limit));
  }

  // `elements` are done.
  void advance(std::uint64_t elements) {
    move(elements);
    done_ = 1;
  }

  // The end of this execution: over, or to be continued after a look at interrupts.
  Next finish(bool over) const { return over || count() == 0 ? Next::kNext : Next::kRepeat; }

  // Bytes to do before that look; one element when the guest single-steps.
  std::uint32_t budget() const {
    constexpr std::uint32_t kChunk = 16384;
    return (cpu_.other_flags & eflags::kTf) != 0 ? insn_.operand_size : kChunk;
  }

 private:
  std::uint8_t width() const { return insn_.address_size; }

  void move(std::uint64_t elements) {
    std::uint64_t distance = elements * insn_.operand_size;
    if (backwards()) distance = 0 - distance;
    if ((uses_ & kSource) != 0) write_sized(cpu_, kRsi, width(), cpu_.gpr[kRsi] + distance);
    if ((uses_ & kDestination) != 0) write_sized(cpu_, kRdi, width(), cpu_.gpr[kRdi] + distance);
    if (repeated()) write_sized(cpu_, kRcx, width(), cpu_.gpr[kRcx] - elements);
  }

  Cpu& cpu_;
  const Insn& insn_;
  Uses uses_;
  std::uint64_t done_ = 0;  // without REP: 1 after the one element
};

}  // namespace sm::soft
