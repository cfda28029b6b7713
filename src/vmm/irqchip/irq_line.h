// IrqLine: one edge-triggered interrupt input of the guest's IOAPIC.
#pragma once

namespace sm {

class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Delivers one edge. Any thread; never blocks.
  virtual void trigger() = 0;
};

}  // namespace sm
