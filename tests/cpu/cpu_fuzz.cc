// cpu_fuzz: single instructions on the real CPU and in the software CPU, compared in everything.
//
//   cpu_fuzz [--cases N] [--seed S] [--only LIST] [--epoch E] [--mismatches N] [--way
//   semantic|block]
//
// The cases of one epoch depend on the seed, the list and the epoch's number alone; a mismatch
// tells how to run its epoch again. --only takes mnemonics and the groups integer, vector, x87.
// Exit status: 0 nothing differed, 1 something did, 2 the test could not run.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/cpu/compare.h"
#include "tests/cpu/generator.h"
#include "tests/cpu/model.h"
#include "tests/cpu/native.h"
#include "vmm/cpu/soft/decode/disassemble.h"

namespace sm::cpu_fuzz {

namespace {

constexpr std::uint64_t kCasesPerEpoch = 256;

struct Options {
  std::uint64_t cases = 1000000;
  std::uint64_t seed = 1;
  std::string only;
  std::int64_t epoch = -1;  // all
  std::uint64_t mismatches = 10;
  Way way = Way::kSemantic;
};

// What the process that runs the instructions tells the one that watches it.
struct Progress {
  std::atomic<std::uint64_t> cases{0};
  std::atomic<std::uint64_t> epoch{0};
  std::uint64_t left_out = 0;
  std::uint64_t faults = 0;
  std::uint64_t mismatches = 0;
  Case current;
};

std::string code_text(const Case& test) {
  std::string text;
  for (std::size_t i = 0; i < test.insn.length; ++i) {
    char digits[4];
    std::snprintf(digits, sizeof(digits), "%02x ", test.code[i]);
    text += digits;
  }
  return text + " " + soft::disassemble(test.insn);
}

void print_case(const Options& options, const Progress& progress) {
  std::printf("%s\n  again: cpu_fuzz --seed %llu%s%s --epoch %llu%s\n",
              code_text(progress.current).c_str(), static_cast<unsigned long long>(options.seed),
              options.only.empty() ? "" : " --only ", options.only.c_str(),
              static_cast<unsigned long long>(progress.epoch.load()),
              options.way == Way::kBlock ? " --way block" : "");
}

// Memory that differs, 16 bytes of it; both sides are made the same again.
std::string memory_difference() {
  const std::uint64_t at = Model::first_difference();
  if (at == 0) return {};
  const std::uint64_t line = at & ~std::uint64_t{15};
  std::string text;
  const void* sides[] = {reinterpret_cast<const void*>(line), Model::bytes(line, 16)};
  for (const void* side : sides) {
    text += side == sides[0] ? "  cpu  " : "  model";
    for (int i = 0; i < 16; ++i) {
      char digits[4];
      std::snprintf(digits, sizeof(digits), " %02x", static_cast<const std::uint8_t*>(side)[i]);
      text += digits;
    }
    text += "\n";
  }
  char head[64];
  std::snprintf(head, sizeof(head), "  memory at %llx:\n", static_cast<unsigned long long>(line));
  Model::copy_from_native();
  return head + text;
}

void run_case(const Options& options, Generator& generator, Progress& progress) {
  Case& test = progress.current;
  generator.next(test);
  static Outcome native, model;
  Native::place({test.code.data(), test.insn.length}, test.slot);
  if (!Model::run(test.insn, test.slot, test.before, options.way, model)) {
    ++progress.left_out;
    Model::copy_from_native();
    return;
  }
  Native::run(test.insn.length, test.slot, test.before, native);
  progress.faults += native.faulted ? 1 : 0;
  if (!memory_counts(test, native)) Model::copy_from_native();
  const bool same_memory = Model::first_difference() == 0;
  if (same_memory && same(test, native, model)) return;
  if (++progress.mismatches > options.mismatches) return;
  print_case(options, progress);
  std::printf("%s%s", differences(test, native, model).c_str(), memory_difference().c_str());
  std::fflush(stdout);
}

std::uint64_t epoch_seed(const Options& options, std::uint64_t epoch) {
  return Random(options.seed ^ epoch << 32).next();
}

int run_cases(const Options& options, Progress& progress) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!Native::prepare()) {
    std::perror("cpu_fuzz: the sandbox");
    return 2;
  }
  Model::prepare(Native::fs_base(), Native::gs_base());
  Generator generator(options.only, options.seed);
  if (generator.operations() == 0) {
    std::fprintf(stderr, "cpu_fuzz: nothing to test\n");
    return 2;
  }
  std::printf("%zu operations, seed %llu\n", generator.operations(),
              static_cast<unsigned long long>(options.seed));
  const bool one_epoch = options.epoch >= 0;
  std::uint64_t epoch = one_epoch ? static_cast<std::uint64_t>(options.epoch) : 0;
  for (std::uint64_t done = 0; done < options.cases; ++epoch) {
    progress.epoch = epoch;
    generator.begin(epoch_seed(options, epoch));
    for (std::uint64_t i = 0; i < kCasesPerEpoch && done < options.cases; ++i, ++done) {
      progress.cases = done + 1;
      run_case(options, generator, progress);
    }
    if (one_epoch || progress.mismatches > options.mismatches) break;
  }
  std::fflush(stdout);
  return progress.mismatches == 0 ? 0 : 1;
}

// The CPU time that a process has had, in seconds.
double cpu_seconds(pid_t process) {
  clockid_t clock = 0;
  timespec time{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// Waits for the child as long as it gets on, which on a busy host is a matter of the time that it
// was given. Its wait status, or -1 when it had to be killed.
int watch(pid_t child, const Progress& progress) {
  constexpr int kLookMs = 1000;
  constexpr double kPatience = 20;
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
  std::uint64_t seen = 0;
  double since = cpu_seconds(child);
  while (poll(&watched, 1, kLookMs) == 0) {
    const std::uint64_t cases = progress.cases;
    const double now = cpu_seconds(child);
    if (cases == seen && now - since > kPatience) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
      return -1;
    }
    if (cases != seen) since = now;
    seen = cases;
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

int fuzz(const Options& options) {
  void* shared =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  auto* progress = new (shared) Progress;
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = fork();
  if (child == 0) {
    // The parent's buffers are not ours to flush, the shared page is not ours to destroy.
    _exit(run_cases(options, *progress));
  }
  const int status = watch(child, *progress);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const bool died = status == -1 || !WIFEXITED(status);
  if (died) {
    std::printf("the process %s at\n", status == -1 ? "hung" : "died");
    print_case(options, *progress);
  }
  const auto cases = static_cast<double>(progress->cases);
  std::printf("%.0f cases (%llu left out, %llu faults), %llu mismatches, %.0f cases/s\n", cases,
              static_cast<unsigned long long>(progress->left_out),
              static_cast<unsigned long long>(progress->faults),
              static_cast<unsigned long long>(progress->mismatches), cases / seconds.count());
  return died ? 1 : WEXITSTATUS(status);
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    char* end = nullptr;
    const std::uint64_t number = std::strtoull(argv[i + 1], &end, 0);
    if (name == "--only") {
      options.only = argv[i + 1];
      continue;
    }
    if (name == "--way") {
      options.way = std::strcmp(argv[i + 1], "block") == 0 ? Way::kBlock : Way::kSemantic;
      continue;
    }
    if (*end != '\0') return false;
    if (name == "--cases")
      options.cases = number;
    else if (name == "--seed")
      options.seed = number;
    else if (name == "--epoch")
      options.epoch = static_cast<std::int64_t>(number);
    else if (name == "--mismatches")
      options.mismatches = number;
    else
      return false;
  }
  return argc % 2 == 1;
}

}  // namespace

}  // namespace sm::cpu_fuzz

int main(int argc, char** argv) {
  sm::cpu_fuzz::Options options;
  if (!sm::cpu_fuzz::parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: cpu_fuzz [--cases N] [--seed S] [--only LIST] [--epoch E] "
                 "[--mismatches N] [--way semantic|block]\n");
    return 2;
  }
  return sm::cpu_fuzz::fuzz(options);
}
