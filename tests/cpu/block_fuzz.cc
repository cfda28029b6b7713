// block_fuzz: random programs, executed by single instructions and by blocks, compared in
// everything: registers, flags, memory, faults and how many instructions it were.
//
//   block_fuzz [--cases N] [--seed S] [--epoch E] [--mismatches N]
//
// The cases of one epoch depend on the seed and the epoch's number alone.
// Exit status: 0 nothing differed, 1 something did, 2 usage.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/cpu/block_generator.h"
#include "tests/cpu/flat_machine.h"
#include "tests/cpu/values.h"
#include "vmm/cpu/soft/decode/decoder.h"
#include "vmm/cpu/soft/decode/disassemble.h"

namespace sm::cpu_test {

namespace {

constexpr std::uint64_t kMemory = 8ull << 20;
constexpr std::uint64_t kCasesPerEpoch = 64;
constexpr std::uint64_t kCodeAt = 0x100000, kDataAt = 0x200000;  // physical

struct Options {
  std::uint64_t cases = 100000;
  std::uint64_t seed = 1;
  std::int64_t epoch = -1;
  std::uint64_t mismatches = 5;
};

// Two are writable, one is read-only, one absent, and so on: a program's data.
std::uint64_t data_flags(std::uint64_t page) {
  constexpr std::uint64_t kFull = kPresent | kWritable | kUser | kNoExecute;
  return page == 6 ? 0 : page == 4 ? kFull & ~kWritable : kFull;
}

struct Side {
  Way way;
  FlatMachine machine{kMemory};

  explicit Side(Way which) : way(which) {
    for (std::uint64_t i = 0; i < kCodePages; ++i) {
      const std::uint64_t page = i * kPageBytes;
      machine.map(kCodeBase + page, kCodeAt + page, kPresent | kWritable | kUser);
      machine.map(kCodeAlias + page, kCodeAt + page, kPresent | kWritable | kUser);
    }
    for (std::uint64_t i = 0; i < kDataPages; ++i) {
      machine.map(kDataBase + i * kPageBytes, kDataAt + i * kPageBytes, data_flags(i));
    }
  }
  std::byte* code() { return machine.ram(kCodeAt); }
  std::byte* data() { return machine.ram(kDataAt); }
};

class BlockFuzz {
 public:
  explicit BlockFuzz(const Options& options) : options_(options), random_(options.seed) {}

  int run();

 private:
  void begin_epoch(std::uint64_t epoch);
  void run_case();
  void place_program();
  void copy_state();
  std::string difference(const Ran& reference, const Ran& blocks);
  void report(const std::string& what);

  Options options_;
  cpu_fuzz::Random random_;
  BlockGenerator generator_{random_};
  Side reference_{Way::kReference}, blocks_{Way::kBlocks};
  Program program_;
  std::uint64_t start_ = 0;
  bool aborted_ = false;
  std::uint64_t epoch_ = 0, cases_ = 0, mismatches_ = 0, faults_ = 0, instructions_ = 0;
};

void BlockFuzz::begin_epoch(std::uint64_t epoch) {
  epoch_ = epoch;
  random_ = cpu_fuzz::Random(cpu_fuzz::Random(options_.seed ^ epoch << 32).next());
  for (std::uint64_t i = 0; i < kDataPages * kPageBytes; i += 8) {
    const std::uint64_t value = random_.chance(20)
                                    ? kDataBase + random_.below(kDataPages * kPageBytes)
                                    : cpu_fuzz::packed_value(random_);
    std::memcpy(reference_.data() + i, &value, sizeof(value));
  }
  std::memcpy(blocks_.data(), reference_.data(), kDataPages * kPageBytes);
  soft::Cpu& cpu = reference_.machine.cpu();
  cpu_fuzz::fill_fx(random_, cpu.fx);
  if (random_.chance(60)) cpu.fx.mxcsr = 0x1F80;
  const std::uint64_t lazy_fpu = random_.chance(10) ? 8 : 0;  // CR0.TS
  for (Side* side : {&reference_, &blocks_}) {
    side->machine.cpu().cr0 = (side->machine.cpu().cr0 & ~8ull) | lazy_fpu;
    side->machine.mmu().flush_all();
    const std::vector<std::uint8_t> traps(kCodePages * kPageBytes, 0xCC);
    side->machine.write(kCodeAt, traps);
  }
}

void BlockFuzz::place_program() {
  generator_.next(program_);
  const std::uint64_t at = kCodeAt + program_.start - kCodeBase;
  for (Side* side : {&reference_, &blocks_}) side->machine.write(at, program_.bytes);
}

void BlockFuzz::copy_state() {
  soft::Cpu &from = reference_.machine.cpu(), &to = blocks_.machine.cpu();
  std::copy_n(from.gpr.begin(), 16, to.gpr.begin());
  to.status = from.status;
  to.other_flags = from.other_flags;
  to.rip = from.rip;
  to.fx = from.fx;
  to.interrupt_shadow = from.interrupt_shadow;
  to.fault = from.fault = {};
}

std::string BlockFuzz::difference(const Ran& reference, const Ran& blocks) {
  soft::Cpu &a = reference_.machine.cpu(), &b = blocks_.machine.cpu();
  std::string text;
  const auto compare = [&](const char* name, std::uint64_t left, std::uint64_t right) {
    if (left == right) return;
    char line[128];
    std::snprintf(line, sizeof(line), "  %s: reference %llx, blocks %llx\n", name,
                  static_cast<unsigned long long>(left), static_cast<unsigned long long>(right));
    text += line;
  };
  for (std::size_t i = 0; i < 16; ++i) {
    compare(("gpr " + std::to_string(i)).c_str(), a.gpr[i], b.gpr[i]);
  }
  compare("rip", a.rip, b.rip);
  compare("rflags", a.rflags(), b.rflags());
  compare("aborted", reference.aborted, blocks.aborted);
  compare("instructions", static_cast<std::uint64_t>(reference.instructions),
          static_cast<std::uint64_t>(blocks.instructions));
  if (reference.aborted && blocks.aborted) {
    compare("vector", a.fault.vector, b.fault.vector);
    compare("error code", a.fault.error_code, b.fault.error_code);
    compare("address", a.fault.address, b.fault.address);
  }
  if (std::memcmp(&a.fx, &b.fx, sizeof(a.fx)) != 0) text += "  fx differs\n";
  if (std::memcmp(reference_.data(), blocks_.data(), kDataPages * kPageBytes) != 0) {
    text += "  data differs\n";
  }
  if (std::memcmp(reference_.code(), blocks_.code(), kCodePages * kPageBytes) != 0) {
    text += "  code differs\n";
  }
  return text;
}

void BlockFuzz::report(const std::string& what) {
  std::printf("case %llu, start %llx; again: block_fuzz --seed %llu --epoch %llu\n",
              static_cast<unsigned long long>(cases_), static_cast<unsigned long long>(start_),
              static_cast<unsigned long long>(options_.seed),
              static_cast<unsigned long long>(epoch_));
  const soft::Cpu& cpu = reference_.machine.cpu();
  std::printf("ended at %llx%s, vector %u, address %llx\n",
              static_cast<unsigned long long>(cpu.rip), aborted_ ? ", aborted" : "",
              cpu.fault.vector, static_cast<unsigned long long>(cpu.fault.address));
  std::size_t at = 0;
  while (at < program_.bytes.size()) {
    soft::Insn insn;
    std::array<std::uint8_t, soft::kMaxInsnLength> bytes{};
    std::copy_n(program_.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                std::min(bytes.size(), program_.bytes.size() - at), bytes.begin());
    if (soft::decode(bytes, soft::CodeMode::k64, insn) != soft::DecodeResult::kOk) break;
    std::printf("  %llx %s\n", static_cast<unsigned long long>(program_.start + at),
                soft::disassemble(insn).c_str());
    at += insn.length;
  }
  std::printf("%s", what.c_str());
}

void BlockFuzz::run_case() {
  ++cases_;
  if (random_.chance(60) || program_.bytes.empty()) place_program();
  soft::Cpu& cpu = reference_.machine.cpu();
  generator_.fill_registers(cpu);
  start_ = cpu.rip =
      program_.starts[random_.chance(70) ? 0 : random_.below(program_.starts.size())];
  copy_state();
  if (random_.chance(20)) blocks_.machine.mmu().flush_all();
  const std::int64_t budget = 1 + random_.below(100);
  const Ran blocks = blocks_.machine.run(Way::kBlocks, budget);
  Ran reference = reference_.machine.run(Way::kReference, blocks.instructions);
  if (blocks.aborted && !reference.aborted) {
    reference.aborted = reference_.machine.run(Way::kReference, 1).aborted;
  }
  // The last block may have begun a string instruction that is not counted yet.
  const soft::Cpu& other = blocks_.machine.cpu();
  if (!blocks.aborted && other.rip == cpu.rip) {
    reference_.machine.repeat_until(other.gpr[soft::kRcx]);
  }
  aborted_ = reference.aborted;
  faults_ += reference.aborted ? 1 : 0;
  instructions_ += static_cast<std::uint64_t>(reference.instructions);
  const std::string what = difference(reference, blocks);
  if (what.empty()) return;
  // Programs that jump into the middle of instructions execute everything.
  if (!reference.random && ++mismatches_ <= options_.mismatches) report(what);
  // Both go on with the same memory and new code.
  std::memcpy(blocks_.data(), reference_.data(), kDataPages * kPageBytes);
  const std::vector<std::uint8_t> traps(kCodePages * kPageBytes, 0xCC);
  for (Side* side : {&reference_, &blocks_}) side->machine.write(kCodeAt, traps);
  program_.bytes.clear();
}

int BlockFuzz::run() {
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t epoch = options_.epoch < 0 ? 0 : static_cast<std::uint64_t>(options_.epoch);
  while (cases_ < options_.cases && mismatches_ <= options_.mismatches) {
    begin_epoch(epoch++);
    program_.bytes.clear();
    for (std::uint64_t i = 0; i < kCasesPerEpoch && cases_ < options_.cases; ++i) run_case();
    if (options_.epoch >= 0) break;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const soft::BlockState& state = blocks_.machine.cpu().blocks;
  std::printf(
      "%llu cases, %llu faults, %llu instructions, %llu blocks made, %llu semantic calls, "
      "%llu mismatches, %.0f cases/s\n",
      static_cast<unsigned long long>(cases_), static_cast<unsigned long long>(faults_),
      static_cast<unsigned long long>(instructions_),
      static_cast<unsigned long long>(state.blocks_made),
      static_cast<unsigned long long>(state.semantic_calls),
      static_cast<unsigned long long>(mismatches_), static_cast<double>(cases_) / seconds.count());
  return mismatches_ == 0 ? 0 : 1;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::uint64_t number = std::strtoull(argv[i + 1], nullptr, 0);
    if (name == "--cases") {
      options.cases = number;
    } else if (name == "--seed") {
      options.seed = number;
    } else if (name == "--epoch") {
      options.epoch = static_cast<std::int64_t>(number);
    } else if (name == "--mismatches") {
      options.mismatches = number;
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace

}  // namespace sm::cpu_test

int main(int argc, char** argv) {
  sm::cpu_test::Options options;
  if (!sm::cpu_test::parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: block_fuzz [--cases N] [--seed S] [--epoch E] [--mismatches N]\n");
    return 2;
  }
  return sm::cpu_test::BlockFuzz(options).run();
}
