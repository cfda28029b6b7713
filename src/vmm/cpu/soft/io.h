// IoReplay: how an instruction reaches a device. The engine's run() hands one access at a time to
// its caller, so an instruction that needs one stops before it has changed anything and is executed
// again from its start when the answer is there; answers it already has are played back.
#pragma once

#include <array>
#include <cstdint>

namespace sm::soft {

struct IoAccess {
  bool is_port = false;
  bool is_write = false;
  std::uint8_t size = 0;  // 1, 2, 4 or 8
  std::uint64_t address = 0;
  std::array<std::uint8_t, 8> data{};
};

class IoReplay {
 public:
  // Called by an instruction for each of its accesses, in order. True: it is done and, of a read,
  // `data` filled in. False: the instruction must stop (Next::kAborted) and be executed again.
  bool access(IoAccess& wanted) {
    if (cursor_ < done_) {
      wanted.data = log_[cursor_++].data;
      return true;
    }
    if (done_ == log_.size()) {  // no instruction of a sane guest does that: nobody answers
      wanted.data.fill(0xFF);
      return true;
    }
    log_[done_] = wanted;
    waiting_ = true;
    return false;
  }
  bool waiting() const { return waiting_; }
  bool active() const { return waiting_ || done_ != 0; }
  IoAccess& current() { return log_[done_]; }

  // The waiting access was carried out.
  void complete() {
    waiting_ = false;
    ++done_;
  }
  // An instruction starts (again); it has ended.
  void rewind() { cursor_ = 0; }
  void clear() {
    cursor_ = done_ = 0;
    waiting_ = false;
  }

 private:
  std::array<IoAccess, 16> log_{};
  std::uint32_t cursor_ = 0;
  std::uint32_t done_ = 0;
  bool waiting_ = false;
};

}  // namespace sm::soft
