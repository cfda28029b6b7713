// Overwrites memory that held a secret, in a way that the optimiser does not remove. Freestanding.
#pragma once

#include <string.h>  // explicit_bzero

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sm {

inline void wipe(std::span<std::byte> bytes) { ::explicit_bzero(bytes.data(), bytes.size()); }

// The whole capacity: what a string was before it became shorter counts too.
inline void wipe(std::string& text) {
  text.resize(text.capacity());
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

inline void wipe(std::vector<std::string>& words) {
  for (std::string& word : words) wipe(word);
  words.clear();
}

// Wipes each block before it goes back to the heap, also when a container grows.
template <class T>
struct WipingAllocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = WipingAllocator<U>;
  };
  void deallocate(T* block, std::size_t n) {
    ::explicit_bzero(static_cast<void*>(block), n * sizeof(T));
    std::allocator<T>::deallocate(block, n);
  }
};

using SecretBytes = std::vector<std::byte, WipingAllocator<std::byte>>;

}  // namespace sm
