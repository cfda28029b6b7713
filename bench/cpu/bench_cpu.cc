// bench_cpu: how many instructions a second the software CPU executes, by single instructions and
// by blocks.
//
//   bench_cpu IMAGE [--only NAME] [--way reference|blocks] [--times N]
//
// IMAGE is guest.c, linked flat at 0x400000. Times are those of the thread
// (CLOCK_THREAD_CPUTIME_ID), so that other load on the machine counts as little as possible.
#include <time.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "bench/cpu/mixed_code.h"
#include "tests/cpu/flat_machine.h"

namespace sm::cpu_bench {

namespace {

using cpu_test::FlatMachine;
using cpu_test::Way;

constexpr std::uint64_t kMemory = 64ull << 20, kMapped = 32ull << 20;
constexpr std::uint64_t kImage = 0x400000, kMixed = 0x800000, kData = 0x300000,
                        kStackTop = 0x3FF000;
constexpr std::uint64_t kEnd = 0x3FF800;  // where programs return to: UD2

struct Kernel {
  const char* name;
  std::uint64_t which;
  std::uint64_t count;  // for a tenth of a second of blocks, about
};
constexpr std::array<Kernel, 9> kKernels{{{"alu", 0, 10000},
                                          {"load", 1, 10000},
                                          {"store", 2, 10000},
                                          {"fib", 3, 28},
                                          {"collatz", 4, 5000},
                                          {"qsort", 5, 20},
                                          {"sha256", 6, 60},
                                          {"bytecode", 7, 1000},
                                          {"strings", 8, 500}}};
constexpr std::array<std::size_t, 4> kMixedSizes{350, 3500, 14000, 200000};

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Result {
  double mips = 0;
  std::uint64_t value = 0;
};

class Bench {
 public:
  explicit Bench(const std::vector<std::uint8_t>& image) {
    constexpr std::uint64_t kFlags = cpu_test::kPresent | cpu_test::kWritable | cpu_test::kUser;
    for (std::uint64_t page = 0; page < kMapped; page += 4096) machine_.map(page, page, kFlags);
    machine_.write(kImage, image);
    static constexpr std::array<std::uint8_t, 2> kUd2{0x0F, 0x0B};
    machine_.write(kEnd, kUd2);
  }
  void place(std::uint64_t at, const std::vector<std::uint8_t>& bytes) {
    machine_.write(at, bytes);
  }

  // Calls a function of the image.
  Result call(Way way, std::uint64_t at, std::uint64_t first, std::uint64_t second) {
    soft::Cpu& cpu = machine_.cpu();
    cpu.rip = at;
    cpu.gpr[soft::kRdi] = first;
    cpu.gpr[soft::kRsi] = second;
    cpu.gpr[soft::kRbx] = kData;
    cpu.gpr[soft::kRsp] = kStackTop - 8;
    std::memcpy(machine_.ram(kStackTop - 8), &kEnd, sizeof(kEnd));
    const double start = thread_seconds();
    const cpu_test::Ran ran = machine_.run_until(way, kEnd);
    const double seconds = thread_seconds() - start;
    if (cpu.rip != kEnd) {
      std::fprintf(stderr, "stopped at %llx, vector %u\n", static_cast<unsigned long long>(cpu.rip),
                   cpu.fault.vector);
      std::exit(1);
    }
    return {static_cast<double>(ran.instructions) / seconds * 1e-6, cpu.gpr[soft::kRax]};
  }

 private:
  FlatMachine machine_{kMemory};
};

struct Options {
  std::string image, only, way;
  int times = 3;
};

class Report {
 public:
  explicit Report(const Options& options) : options_(options) {
    std::printf("%-14s %10s %10s   (million instructions a second)\n", "", "reference", "blocks");
  }
  // The best of several runs; `run` gives one.
  template <class Run>
  void row(const std::string& name, Run&& run) {
    if (!options_.only.empty() && options_.only != name) return;
    std::printf("%-14s", name.c_str());
    std::array<std::uint64_t, 2> values{};
    for (const Way way : {Way::kReference, Way::kBlocks}) {
      const bool wanted =
          options_.way.empty() || (options_.way == "blocks") == (way == Way::kBlocks);
      double best = 0;
      for (int i = 0; wanted && i < options_.times; ++i) {
        const Result result = run(way);
        best = result.mips > best ? result.mips : best;
        values[static_cast<std::size_t>(way)] = result.value;
      }
      std::printf(" %10.0f", best);
      std::fflush(stdout);
    }
    const bool differ = options_.way.empty() && values[0] != values[1];
    std::printf("%s\n", differ ? "   RESULTS DIFFER" : "");
  }

 private:
  const Options& options_;
};

bool parse(int argc, char** argv, Options& options) {
  if (argc < 2) return false;
  options.image = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--only") options.only = argv[i + 1];
    if (name == "--way") options.way = argv[i + 1];
    if (name == "--times") options.times = std::atoi(argv[i + 1]);
  }
  return true;
}

int run(const Options& options) {
  std::ifstream file(options.image, std::ios::binary);
  const std::vector<std::uint8_t> image{std::istreambuf_iterator<char>(file), {}};
  if (image.empty()) {
    std::fprintf(stderr, "cannot read %s\n", options.image.c_str());
    return 1;
  }
  Bench bench(image);
  Report report(options);
  for (const Kernel& kernel : kKernels) {
    report.row(kernel.name, [&](Way way) {
      // Without blocks everything takes longer than anyone wants to wait.
      const std::uint64_t count = kernel.which == 3         ? kernel.count
                                  : options.way == "blocks" ? kernel.count
                                                            : kernel.count / 5;
      return bench.call(way, kImage, kernel.which, count);
    });
  }
  for (const std::size_t size : kMixedSizes) {
    bench.place(kMixed, mixed_code(size, size));
    report.row("mixed " + std::to_string(size), [&](Way way) {
      Result result = bench.call(way, kMixed, 0, 0);
      double sum = 0;
      constexpr std::size_t kInstructions = 4'000'000;
      const std::size_t rounds = kInstructions / size;
      for (std::size_t i = 0; i < rounds; ++i) sum += 1 / bench.call(way, kMixed, 0, 0).mips;
      result.mips = static_cast<double>(rounds) / sum;
      return result;
    });
  }
  return 0;
}

}  // namespace

}  // namespace sm::cpu_bench

int main(int argc, char** argv) {
  sm::cpu_bench::Options options;
  if (!sm::cpu_bench::parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: bench_cpu IMAGE [--only NAME] [--way reference|blocks] [--times N]\n");
    return 2;
  }
  return sm::cpu_bench::run(options);
}
