#include "runtime/standard_streams.h"

#include <unistd.h>

#include <utility>

namespace sm {

StandardStreams::StandardStreams(EventLoop& loop, Callbacks callbacks)
    : loop_(loop), callbacks_(std::move(callbacks)) {}

Status StandardStreams::start(bool input, bool tty) {
  for (int i = 0; i < 2; ++i) {
    const auto stream = i == 0 ? agent::Stream::kStdout : agent::Stream::kStderr;
    output_[i] = std::make_unique<OutputStream>(
        loop_, i + 1, [this, stream](std::size_t n) { callbacks_.on_written(stream, n); },
        [this](const Error&) { callbacks_.on_broken(); });
  }
  if (!input) return {};
  if (tty && ::isatty(STDIN_FILENO) == 1) {
    terminal_.emplace(SM_TRY(RawTerminal::enter(STDIN_FILENO)));
  }
  input_ = std::make_unique<InputStream>(
      loop_, STDIN_FILENO, [this] { return callbacks_.input_room(); },
      [this](std::span<const std::byte> bytes) { callbacks_.on_input(bytes); });
  return {};
}

void StandardStreams::write(agent::Stream stream, std::span<const std::byte> bytes) {
  const auto& out = output_[stream == agent::Stream::kStdout ? 0 : 1];
  if (out && !bytes.empty()) out->write(bytes);
}

bool StandardStreams::drained() const {
  for (const auto& out : output_) {
    if (out && !out->empty()) return false;
  }
  return true;
}

void StandardStreams::resume_input() {
  if (input_) input_->resume();
}

void StandardStreams::stop_input() {
  if (input_) input_->stop();
}

void StandardStreams::release() {
  terminal_.reset();
  input_.reset();
}

}  // namespace sm
