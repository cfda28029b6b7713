// Runs of string elements on host memory, at the host's speed. Pure; `size` is an element's bytes
// and divides the length of a run. Other vCPUs and devices may access the memory meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sm::soft {

// Copies elements in ascending order. A destination inside the source repeats what lies between
// the two, as the guest's CPU does.
inline void move_ascending(std::byte* to, const std::byte* from, std::size_t bytes,
                           std::size_t size) {
  const auto distance = static_cast<std::size_t>(to - from);  // huge when `to` is below
  if (distance >= bytes) {
    std::memmove(to, from, bytes);
    return;
  }
  // An element is whole before the next one is read, so pieces of `distance` bytes do not see
  // their own writes unless they are smaller than an element.
  const std::size_t piece = distance > size ? distance : size;
  std::byte element[8];
  for (std::size_t done = 0; done < bytes; done += piece) {
    const std::size_t n = bytes - done < piece ? bytes - done : piece;
    if (piece == size) {
      std::memcpy(element, from + done, size);
      std::memcpy(to + done, element, size);
    } else {
      std::memcpy(to + done, from + done, n);
    }
  }
}

template <class T>
void fill(std::byte* to, std::size_t bytes, T value) {
  const auto low = static_cast<std::uint8_t>(value);
  if (value == static_cast<T>(T{low} * static_cast<T>(~T{0} / 0xFF))) {
    std::memset(to, low, bytes);
    return;
  }
  for (std::size_t i = 0; i < bytes; i += sizeof(T)) std::memcpy(to + i, &value, sizeof(T));
}

// How many elements from the first on are equal to `value`, or unequal.
template <class T>
std::uint32_t equal_run(const std::byte* bytes, std::uint32_t count, T value, bool equal) {
  if constexpr (sizeof(T) == 1) {
    if (!equal) {
      const void* found = std::memchr(bytes, value, count);
      if (found == nullptr) return count;
      return static_cast<std::uint32_t>(static_cast<const std::byte*>(found) - bytes);
    }
  }
  std::uint32_t i = 0;
  for (; i < count; ++i) {
    T element;
    std::memcpy(&element, bytes + std::size_t{i} * sizeof(T), sizeof(T));
    if ((element == value) != equal) break;
  }
  return i;
}

// How many bytes from the first on are equal.
inline std::uint32_t equal_bytes(const std::byte* a, const std::byte* b, std::uint32_t bytes) {
  std::uint32_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    std::uint64_t x, y;
    std::memcpy(&x, a + i, 8);
    std::memcpy(&y, b + i, 8);
    if (x != y) return i + static_cast<std::uint32_t>(__builtin_ctzll(x ^ y)) / 8;
  }
  while (i < bytes && a[i] == b[i]) ++i;
  return i;
}

template <class T>
std::uint32_t differing_elements(const std::byte* a, const std::byte* b, std::uint32_t count) {
  std::uint32_t i = 0;
  while (i < count && std::memcmp(a + std::size_t{i} * sizeof(T), b + std::size_t{i} * sizeof(T),
                                  sizeof(T)) != 0) {
    ++i;
  }
  return i;
}

}  // namespace sm::soft
