// ConsoleInput: feeds a descriptor's bytes to the UART as fast as the guest takes them. Nothing is
// interpreted: what a terminal sends is what the guest reads.
#pragma once

#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "vmm/platform/uart16550.h"

namespace sm {

class ConsoleInput {
 public:
  // Reads from `file` (a pipe, socket or terminal, made non-blocking by the caller) until it ends.
  // Becomes the UART's room callback. Loop and UART outlive it. Created and destroyed on the loop's
  // thread or while the loop does not run, and before the guest runs or after it has stopped.
  static Result<std::unique_ptr<ConsoleInput>> create(EventLoop& loop, Uart16550& uart,
                                                      UniqueFd file);
  ~ConsoleInput();
  ConsoleInput(const ConsoleInput&) = delete;
  ConsoleInput& operator=(const ConsoleInput&) = delete;
  ConsoleInput(ConsoleInput&&) = delete;
  ConsoleInput& operator=(ConsoleInput&&) = delete;

 private:
  struct State;
  explicit ConsoleInput(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
};

}  // namespace sm
