// ConsoleLog: the newest bytes of the guest's console, kept for diagnostics. Any thread. It never
// blocks and never grows: a guest that prints without end overwrites its own oldest output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace sm {

// Where the UART's output goes. Called on vCPU threads, several at once; must not block.
class ConsoleSink {
 public:
  virtual ~ConsoleSink() = default;
  virtual void console_output(std::span<const std::byte> bytes) = 0;
};

class ConsoleLog final : public ConsoleSink {
 public:
  static constexpr std::size_t kDefaultCapacity = 64u << 10;

  explicit ConsoleLog(std::size_t capacity = kDefaultCapacity);

  void console_output(std::span<const std::byte> bytes) override;

  // Bytes ever written, kept or not.
  std::uint64_t total() const;

  struct Chunk {
    std::uint64_t position;        // of the first byte; larger than asked for when some are gone
    std::vector<std::byte> bytes;  // empty: nothing new
  };
  // Up to `max` bytes from position `from` (a count of bytes ever written) on.
  Chunk read(std::uint64_t from, std::size_t max) const;

  // The last `max` bytes for people: line feeds, tabs and printable ASCII stay, carriage returns
  // vanish, everything else becomes '?'. Starts at a line's beginning where there is one.
  std::string tail(std::size_t max) const;

  // `listener` is called (on any thread, no lock held) when there is output after the last read()
  // that returned nothing new, and then not again before the next such read(). Set before the guest
  // runs; clear only after it has stopped.
  void set_listener(std::function<void()> listener);

 private:
  std::vector<std::byte> copy_locked(std::uint64_t from, std::uint64_t to) const;

  mutable std::mutex mutex_;
  std::vector<std::byte> ring_;
  std::uint64_t total_ = 0;
  mutable bool armed_ = true;
  std::function<void()> listener_;
};

}  // namespace sm
