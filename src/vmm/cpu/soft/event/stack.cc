#include "vmm/cpu/soft/event/stack.h"

#include <cstring>

#include "vmm/cpu/soft/event/descriptor.h"
#include "vmm/cpu/soft/event/permission.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kMask16 = 0xFFFF, kMask32 = 0xFFFFFFFF;

const SegmentRegister& stack_segment(const Cpu& cpu) {
  return cpu.segment[static_cast<std::size_t>(Segment::kSs)];
}

std::uint64_t pointer_mask(bool is_64bit, const SegmentRegister& ss) {
  if (is_64bit) return ~std::uint64_t{0};
  return attributes_of(ss).is_big() ? kMask32 : kMask16;
}

// Whether [offset, offset + size) lies in a stack of 16 or 32 bits.
bool within_limit(const SegmentRegister& ss, std::uint64_t offset, std::uint32_t size) {
  const std::uint64_t last = offset + size - 1;
  const Attributes attributes = attributes_of(ss);
  if (!attributes.is_expand_down()) return last <= ss.limit;
  return offset > ss.limit && last <= pointer_mask(false, ss);
}

}  // namespace

StackTarget current_stack(const Cpu& cpu) {
  return {.ss = stack_segment(cpu),
          .pointer = cpu.gpr[kRsp],
          .is_64bit = cpu.mode == CodeMode::k64,
          .cpl = cpu.cpl};
}

void PushFrame::push(std::uint64_t value) {
  if (used_ + value_size_ > kCapacity) return;  // no caller pushes more
  used_ += value_size_;
  std::memcpy(bytes_.data() + kCapacity - used_, &value, value_size_);
}

std::uint64_t PushFrame::mask() const { return pointer_mask(stack_.is_64bit, stack_.ss); }

std::uint64_t PushFrame::pointer() const { return (stack_.pointer - used_) & mask(); }

bool PushFrame::write_run(Cpu& cpu, std::uint64_t offset, std::uint32_t skip, std::uint32_t size,
                          bool only_check) const {
  if (size == 0) return true;
  std::uint64_t linear = offset;
  if (stack_.is_64bit) {
    if (!is_canonical_address(offset) || !is_canonical_address(offset + size - 1)) {
      return refuse(cpu, vector::kStack, stack_.error_code);
    }
  } else {
    if (!within_limit(stack_.ss, offset, size)) {
      return refuse(cpu, vector::kStack, stack_.error_code);
    }
    linear = (stack_.ss.base + offset) & kMask32;
  }
  const Privilege privilege = stack_.cpl == 3 ? Privilege::kCurrent : Privilege::kSystem;
  if (only_check) return check_write(cpu, linear, size, privilege);
  return store_linear(cpu, linear, bytes_.data() + kCapacity - used_ + skip, size, privilege);
}

bool PushFrame::write(Cpu& cpu) const {
  const std::uint64_t top = stack_.pointer & mask();
  if (stack_.is_64bit || top >= used_) return write_run(cpu, top - used_, 0, used_, false);
  // The pointer wraps round inside the frame: the last values stand at the top of the segment.
  const auto low = static_cast<std::uint32_t>(top);
  if (low % value_size_ != 0) return refuse(cpu, vector::kStack, stack_.error_code);
  const std::uint64_t high_offset = pointer();
  const std::uint32_t high = used_ - low;
  return write_run(cpu, 0, high, low, true) && write_run(cpu, high_offset, 0, high, true) &&
         write_run(cpu, 0, high, low, false) && write_run(cpu, high_offset, 0, high, false);
}

bool PopFrame::pop(Cpu& cpu, std::uint64_t* values, std::uint32_t count) {
  std::array<std::uint8_t, 64> bytes{};
  const std::uint32_t total = value_size_ * count;
  const std::uint64_t mask = pointer_mask(cpu.mode == CodeMode::k64, stack_segment(cpu));
  const std::uint64_t offset = pointer_ & mask;
  const bool wraps = mask != ~std::uint64_t{0} && offset + total - 1 > mask;
  const std::uint32_t step = wraps ? value_size_ : total;
  for (std::uint32_t done = 0; done < total; done += step) {
    std::uint64_t linear = 0;
    if (!linear_address(cpu, Segment::kSs, (offset + done) & mask, step, false, linear) ||
        !load_linear(cpu, linear, bytes.data() + done, step)) {
      return false;
    }
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    values[i] = 0;
    std::memcpy(&values[i], bytes.data() + i * value_size_, value_size_);
  }
  pointer_ += total;
  return true;
}

void set_stack_pointer(Cpu& cpu, std::uint64_t value) {
  const std::uint64_t mask = pointer_mask(cpu.mode == CodeMode::k64, stack_segment(cpu));
  std::uint64_t& rsp = cpu.gpr[kRsp];
  rsp = mask == kMask16 ? (rsp & ~kMask16) | (value & kMask16) : value & mask;
}

}  // namespace sm::soft
