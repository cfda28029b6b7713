// Little-endian cursors over byte spans: the only way wire formats are read and written.
// Freestanding.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sm {

static_assert(std::endian::native == std::endian::little,
              "wire formats assume a little-endian host");

inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads fixed-width values from the front of a span. After the first failure every read fails.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  std::optional<T> take() {
    T value{};
    if (failed_ || rest_.size() < sizeof(T)) return failed_ = true, std::nullopt;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }
  std::optional<std::span<const std::byte>> take_bytes(std::size_t n) {
    if (failed_ || rest_.size() < n) return failed_ = true, std::nullopt;
    auto out = rest_.first(n);
    rest_ = rest_.subspan(n);
    return out;
  }
  // A u32 length followed by that many bytes; fails when longer than `limit`.
  std::optional<std::string_view> take_string(std::size_t limit) {
    auto n = take<std::uint32_t>();
    if (!n || *n > limit) return failed_ = true, std::nullopt;
    auto bytes = take_bytes(*n);
    if (!bytes) return std::nullopt;
    return as_text(*bytes);
  }
  bool failed() const { return failed_; }
  bool at_end() const { return !failed_ && rest_.empty(); }
  std::span<const std::byte> rest() const { return rest_; }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

// Appends fixed-width values to a growing buffer.
class ByteWriter {
 public:
  template <std::unsigned_integral T>
  void put(T value) {
    const auto at = out_.size();
    out_.resize(at + sizeof(T));
    std::memcpy(out_.data() + at, &value, sizeof(T));
  }
  void put_bytes(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void put_string(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    put_bytes(as_byte_span(text));
  }
  std::size_t size() const { return out_.size(); }
  std::vector<std::byte>& bytes() { return out_; }
  std::vector<std::byte> release() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

}  // namespace sm
