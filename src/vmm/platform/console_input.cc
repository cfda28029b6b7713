#include "vmm/platform/console_input.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

namespace sm {

// Thread: the loop's. Tasks that are still posted when the input is gone find it expired.
struct ConsoleInput::State : std::enable_shared_from_this<ConsoleInput::State> {
  State(EventLoop& event_loop, Uart16550& target, UniqueFd source)
      : loop(event_loop), uart(target), file(std::move(source)) {}

  // Reading goes on only once the guest has taken everything: at most one piece is held.
  Status watch_file() {
    if (watch != WatchId::kNone) return {};
    watch = SM_TRY(loop.add(file.get(), EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
      if (const auto state = weak.lock()) state->readable();
    }));
    return {};
  }

  void unwatch() {
    if (watch != WatchId::kNone) loop.remove(std::exchange(watch, WatchId::kNone));
  }

  void readable() {
    std::array<std::byte, 1024> piece;
    const ssize_t n = ::read(file.get(), piece.data(), piece.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return unwatch();  // the end of the input is not the end of the guest
    pending.assign(piece.begin(), piece.begin() + n);
    feed();
  }

  void feed() {
    const std::size_t taken = uart.offer_input(pending);
    pending.erase(pending.begin(), pending.begin() + static_cast<std::ptrdiff_t>(taken));
    if (!pending.empty()) return unwatch();  // the UART calls when there is room
    if (!watch_file()) file.reset();
  }

  void room() {
    if (!pending.empty()) feed();
  }

  EventLoop& loop;
  Uart16550& uart;
  UniqueFd file;
  std::vector<std::byte> pending;  // read, not yet taken by the UART
  WatchId watch = WatchId::kNone;
};

Result<std::unique_ptr<ConsoleInput>> ConsoleInput::create(EventLoop& loop, Uart16550& uart,
                                                           UniqueFd file) {
  auto state = std::make_shared<State>(loop, uart, std::move(file));
  SM_TRY_STATUS(state->watch_file());
  uart.on_input_room([&loop, weak = std::weak_ptr(state)] {
    loop.post([weak] {
      if (const auto alive = weak.lock()) alive->room();
    });
  });
  return std::unique_ptr<ConsoleInput>(new ConsoleInput(std::move(state)));
}

ConsoleInput::~ConsoleInput() {
  state_->uart.on_input_room({});
  state_->unwatch();
}

}  // namespace sm
