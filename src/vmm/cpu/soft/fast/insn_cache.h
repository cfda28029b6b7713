// InsnCache: the instructions of uops, decoded again where a slow case asks. To keep those of all
// uops would take more memory than the uops, and hardly any is ever asked for.
// Thread: the vCPU's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vmm/cpu/soft/fast/uop.h"
#include "vmm/cpu/soft/insn.h"

namespace sm::soft {

class InsnCache {
 public:
  // Null: something else is there by now. Valid until the next call. What is found may differ from
  // what was translated, where others write the page and the vCPU has not heard of it yet; it has
  // the same length, and as a block's last instruction it is of the same operation.
  const Insn* find(const Uop* uop) {
    Entry& entry = entries_[reinterpret_cast<std::uintptr_t>(uop) / sizeof(Uop) % kEntries];
    const bool is_kept = entry.uop == uop && entry.generation == generation_;
    return is_kept || decode_again(uop, entry) ? &entry.insn : nullptr;
  }
  // The memory of uops is about to be used for others.
  void clear() { ++generation_; }

 private:
  static constexpr std::size_t kEntries = 2048;
  struct Entry {
    const Uop* uop = nullptr;
    std::uint64_t generation = 0;
    Insn insn;
  };
  [[gnu::noinline]] bool decode_again(const Uop* uop, Entry& entry);

  std::array<Entry, kEntries> entries_;
  std::uint64_t generation_ = 0;
};

}  // namespace sm::soft
