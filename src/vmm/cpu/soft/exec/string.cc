// MOVS, STOS, LODS, SCAS, CMPS with their repetitions. Where the TLB knows the pages, a run of
// elements inside one page (of each operand) is done at once with the host's own routines;
// otherwise, backwards, across page ends and on devices it goes element by element.
#include <array>
#include <bit>

#include "vmm/cpu/soft/exec/block_ops.h"
#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/string_registers.h"

namespace sm::soft {

namespace {

constexpr std::uint64_t kPageMask = 4095;
// What load_linear and store_linear take at most.
constexpr std::uint32_t kMaxPiece = 512;
constexpr std::uint64_t kNoPage = 1;  // no page address

std::uint32_t bytes_in_page(std::uint64_t linear) {
  return 4096 - static_cast<std::uint32_t>(linear & kPageMask);
}

// A run of whole elements at both operands.
struct Run {
  std::uint32_t bytes = 0;  // 0: not even one
  std::uint64_t source = 0;
  std::uint64_t destination = 0;
};

// The run ahead of [rsi] (and) or [rdi], of at most `limit` bytes, or an empty one when elements
// have to be done one by one. A fault noted on the way is of no consequence: the element raises it.
class RunFinder {
 public:
  RunFinder(StringRegisters& registers, std::uint32_t size, std::uint32_t limit)
      : registers_(registers), size_(size) {
    run_.bytes = registers.backwards() ? 0 : limit;
  }
  RunFinder& source() {
    std::uint32_t bytes = registers_.bytes_before_wrap(registers_.source_offset(), run_.bytes);
    if (bytes >= size_ && registers_.source(size_, run_.source)) {
      bytes = whole(std::min(bytes, bytes_in_page(run_.source)));
      if (bytes != 0 && registers_.source(bytes, run_.source)) {
        run_.bytes = bytes;
        return *this;
      }
    }
    run_.bytes = 0;
    return *this;
  }
  RunFinder& destination(bool is_write) {
    std::uint32_t bytes = registers_.bytes_before_wrap(registers_.destination_offset(), run_.bytes);
    if (bytes >= size_ && registers_.destination(size_, is_write, run_.destination)) {
      bytes = whole(std::min(bytes, bytes_in_page(run_.destination)));
      if (bytes != 0 && registers_.destination(bytes, is_write, run_.destination)) {
        run_.bytes = bytes;
        return *this;
      }
    }
    run_.bytes = 0;
    return *this;
  }
  const Run& run() const { return run_; }

 private:
  std::uint32_t whole(std::uint32_t bytes) const { return bytes & ~(size_ - 1); }

  StringRegisters& registers_;
  std::uint32_t size_;
  Run run_;
};

// Pages of which an element was just done without a device: RAM, though not in the TLB (it holds
// code, say), so that larger pieces may go through load_linear and store_linear.
struct KnownRam {
  std::uint64_t source = kNoPage;
  std::uint64_t destination = kNoPage;
};

// Elements move in ascending order, so a piece that is read before it is written must not overlap
// its own destination from below. Two linear addresses of one byte agree in their page offset.
bool may_overlap(const Run& run, std::uint32_t bytes) {
  return ((run.destination - run.source) & kPageMask) < bytes;
}

// Up to 512 bytes through a buffer. The bytes done; 0: element by element.
std::uint32_t move_piece(Cpu& cpu, const Run& run, const KnownRam& ram, std::uint32_t size) {
  const std::uint32_t bytes = std::min(run.bytes, kMaxPiece / size * size);
  if ((run.source & ~kPageMask) != ram.source ||
      (run.destination & ~kPageMask) != ram.destination || may_overlap(run, bytes)) {
    return 0;
  }
  std::array<std::byte, kMaxPiece> buffer;
  const bool ok = load_linear(cpu, run.source, buffer.data(), bytes) &&
                  store_linear(cpu, run.destination, buffer.data(), bytes);
  return ok ? bytes : 0;
}

std::uint32_t move_run(Cpu& cpu, const Run& run, const KnownRam& ram, std::uint32_t size) {
  if (run.bytes == 0) return 0;
  const std::byte* from = host_for_run(cpu, run.source, run.bytes, false);
  std::byte* to = from == nullptr ? nullptr : host_for_run(cpu, run.destination, run.bytes, true);
  if (to == nullptr) return move_piece(cpu, run, ram, size);
  move_ascending(to, from, run.bytes, size);
  return run.bytes;
}

template <class T>
bool move_element(Cpu& cpu, StringRegisters& registers, KnownRam& ram) {
  std::uint64_t source = 0, destination = 0;
  T value = 0;
  if (!registers.source(sizeof(T), source) || !load_linear(cpu, source, &value, sizeof(T)) ||
      !registers.destination(sizeof(T), true, destination) ||
      !store_linear(cpu, destination, &value, sizeof(T))) {
    return false;
  }
  ram = {source & ~kPageMask, destination & ~kPageMask};
  return true;
}

template <class T>
Next movs_sized(Cpu& cpu, const Insn& insn) {
  StringRegisters registers(cpu, insn, StringRegisters::kBoth);
  registers.normalise_addresses();
  KnownRam ram;
  std::uint32_t budget = registers.budget();
  while (budget >= sizeof(T) && registers.count() != 0) {
    const Run run = RunFinder(registers, sizeof(T), budget).source().destination(true).run();
    std::uint32_t bytes = move_run(cpu, run, ram, sizeof(T));
    if (bytes == 0) {
      if (!move_element<T>(cpu, registers, ram)) return Next::kAborted;
      bytes = sizeof(T);
    }
    registers.advance(bytes / sizeof(T));
    budget -= bytes;
    // The answers of a device belong to the element that is over.
    if (cpu.io.active()) break;
  }
  return registers.finish(false);
}

template <class T>
std::uint32_t fill_run(Cpu& cpu, const Run& run, const KnownRam& ram, T value) {
  if (run.bytes == 0) return 0;
  if (std::byte* to = host_for_run(cpu, run.destination, run.bytes, true); to != nullptr) {
    fill(to, run.bytes, value);
    return run.bytes;
  }
  if ((run.destination & ~kPageMask) != ram.destination) return 0;
  std::array<std::byte, kMaxPiece> buffer;
  const std::uint32_t bytes = std::min(run.bytes, kMaxPiece);
  fill(buffer.data(), bytes, value);
  return store_linear(cpu, run.destination, buffer.data(), bytes) ? bytes : 0;
}

template <class T>
Next stos_sized(Cpu& cpu, const Insn& insn) {
  StringRegisters registers(cpu, insn, StringRegisters::kDestination);
  registers.normalise_addresses();
  const T value = read_gpr<T>(cpu, kRax);
  KnownRam ram;
  std::uint32_t budget = registers.budget();
  while (budget >= sizeof(T) && registers.count() != 0) {
    const Run run = RunFinder(registers, sizeof(T), budget).destination(true).run();
    std::uint32_t bytes = fill_run(cpu, run, ram, value);
    if (bytes == 0) {
      std::uint64_t linear = 0;
      if (!registers.destination(sizeof(T), true, linear) ||
          !store_linear(cpu, linear, &value, sizeof(T))) {
        return Next::kAborted;
      }
      ram.destination = linear & ~kPageMask;
      bytes = sizeof(T);
    }
    registers.advance(bytes / sizeof(T));
    budget -= bytes;
    if (cpu.io.active()) break;
  }
  return registers.finish(false);
}

template <class T>
Next lods_sized(Cpu& cpu, const Insn& insn) {
  StringRegisters registers(cpu, insn, StringRegisters::kSource);
  std::uint32_t budget = registers.budget();
  while (budget >= sizeof(T) && registers.count() != 0) {
    std::uint64_t linear = 0;
    T value = 0;
    if (!registers.source(sizeof(T), linear) || !load_linear(cpu, linear, &value, sizeof(T))) {
      return Next::kAborted;
    }
    write_gpr<T>(cpu, kRax, value);
    registers.advance(1);
    budget -= static_cast<std::uint32_t>(sizeof(T));
    if (cpu.io.active()) break;
  }
  return registers.finish(false);
}

// Whether a comparison that has set ZF is the last one.
bool comparison_ends(const Cpu& cpu, const Insn& insn) {
  return insn.repeat != Repeat::kNone && cpu.status.zf() != (insn.repeat == Repeat::kRep);
}

template <class T>
T element_at(const std::byte* bytes, std::uint32_t i) {
  T value;
  std::memcpy(&value, bytes + std::size_t{i} * sizeof(T), sizeof(T));
  return value;
}

// Compares elements of a run until one ends the instruction. The elements done; 0: one by one.
template <class T>
std::uint32_t scan_run(Cpu& cpu, const Insn& insn, const Run& run, T value) {
  if (run.bytes == 0) return 0;
  const std::byte* bytes = host_for_run(cpu, run.destination, run.bytes, false);
  if (bytes == nullptr) return 0;
  const auto count = static_cast<std::uint32_t>(run.bytes / sizeof(T));
  const std::uint32_t last =
      std::min(equal_run(bytes, count, value, insn.repeat != Repeat::kRepne), count - 1);
  host::sub(value, element_at<T>(bytes, last), cpu.status);
  return last + 1;
}

template <class T>
Next scas_sized(Cpu& cpu, const Insn& insn) {
  StringRegisters registers(cpu, insn, StringRegisters::kDestination);
  const T value = read_gpr<T>(cpu, kRax);
  const StatusFlags before = cpu.status;  // a fault restores them
  std::uint32_t budget = registers.budget();
  while (budget >= sizeof(T) && registers.count() != 0) {
    const Run run = RunFinder(registers, sizeof(T), budget).destination(false).run();
    std::uint32_t elements = scan_run(cpu, insn, run, value);
    if (elements == 0) {
      std::uint64_t linear = 0;
      T other = 0;
      if (!registers.destination(sizeof(T), false, linear) ||
          !load_linear(cpu, linear, &other, sizeof(T))) {
        cpu.status = before;
        return Next::kAborted;
      }
      host::sub(value, other, cpu.status);
      elements = 1;
    }
    registers.advance(elements);
    budget -= elements * static_cast<std::uint32_t>(sizeof(T));
    if (comparison_ends(cpu, insn)) return registers.finish(true);
    if (cpu.io.active()) break;
  }
  return registers.finish(false);
}

template <class T>
std::uint32_t compare_run(Cpu& cpu, const Insn& insn, const Run& run) {
  if (run.bytes == 0) return 0;
  const std::byte* a = host_for_run(cpu, run.source, run.bytes, false);
  const std::byte* b = host_for_run(cpu, run.destination, run.bytes, false);
  if (a == nullptr || b == nullptr) return 0;
  const auto count = static_cast<std::uint32_t>(run.bytes / sizeof(T));
  const std::uint32_t agreeing =
      insn.repeat == Repeat::kRepne
          ? differing_elements<T>(a, b, count)
          : equal_bytes(a, b, run.bytes) / static_cast<std::uint32_t>(sizeof(T));
  const std::uint32_t last = std::min(agreeing, count - 1);
  host::sub(element_at<T>(a, last), element_at<T>(b, last), cpu.status);
  return last + 1;
}

template <class T>
Next cmps_sized(Cpu& cpu, const Insn& insn) {
  StringRegisters registers(cpu, insn, StringRegisters::kBoth);
  const StatusFlags before = cpu.status;  // a fault restores them
  std::uint32_t budget = registers.budget();
  while (budget >= sizeof(T) && registers.count() != 0) {
    const Run run = RunFinder(registers, sizeof(T), budget).source().destination(false).run();
    std::uint32_t elements = compare_run<T>(cpu, insn, run);
    if (elements == 0) {
      std::uint64_t source = 0, destination = 0;
      T a = 0, b = 0;
      // Processors read the second operand first.
      if (!registers.destination(sizeof(T), false, destination) ||
          !load_linear(cpu, destination, &b, sizeof(T)) || !registers.source(sizeof(T), source) ||
          !load_linear(cpu, source, &a, sizeof(T))) {
        cpu.status = before;
        return Next::kAborted;
      }
      host::sub(a, b, cpu.status);
      elements = 1;
    }
    registers.advance(elements);
    budget -= elements * static_cast<std::uint32_t>(sizeof(T));
    if (comparison_ends(cpu, insn)) return registers.finish(true);
    if (cpu.io.active()) break;
  }
  return registers.finish(false);
}

#define SM_SOFT_STRING(name)                                                          \
  Next name(Cpu& cpu, const Insn& insn) {                                             \
    return by_size(insn.operand_size,                                                 \
                   [&](auto tag) { return name##_sized<decltype(tag)>(cpu, insn); }); \
  }
SM_SOFT_STRING(movs)
SM_SOFT_STRING(stos)
SM_SOFT_STRING(lods)
SM_SOFT_STRING(scas)
SM_SOFT_STRING(cmps)
#undef SM_SOFT_STRING

}  // namespace

std::span<const SemanticEntry> string_semantics() {
  static constexpr std::array kEntries = std::to_array<SemanticEntry>({
      {Op::kMovs, movs},
      {Op::kStos, stos},
      {Op::kLods, lods},
      {Op::kScas, scas},
      {Op::kCmps, cmps},
  });
  return kEntries;
}

}  // namespace sm::soft
