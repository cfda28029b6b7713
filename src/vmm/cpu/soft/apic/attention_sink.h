// AttentionSink: how the platform tells a vCPU that there is something to do. The machine of the
// software CPU implements it; tests record what is posted.
#pragma once

#include <cstdint>

namespace sm::soft {

class AttentionSink {
 public:
  virtual ~AttentionSink() = default;
  // Sets bits of Cpu::attention (enum Attention) of vCPU `vcpu` and wakes it if it waits in HLT.
  // Any thread; never blocks. What was written before the call is visible to the vCPU that sees the
  // bits.
  virtual void post(std::uint32_t vcpu, std::uint32_t attention_bits) = 0;
};

}  // namespace sm::soft
