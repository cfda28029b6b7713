// primitives: what the operations cost that programs consist of. The same static program runs on
// the host, and as PID 1 of a guest, where it takes the place of everything else:
//
//   [primitives=NAME,...] primitives   prints a line "NAME NANOSECONDS" for each operation, the
//                                      best of some slices of `slice_ms` (12)
//
// As PID 1 it also starts the Python of /dev/vda twice, writes to the console when all is done, and
// ends the machine by the doorbell. One thread, one processor.
#include <fcntl.h>
#include <sched.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bench/cpu/mixed_code.h"

// Of guest.c.
extern "C" unsigned long entry(unsigned long which, unsigned long count);

namespace sm::cpu_bench {

namespace {

using Nanoseconds = double;

Nanoseconds now() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return static_cast<double>(at.tv_sec) * 1e9 + static_cast<double>(at.tv_nsec);
}

[[noreturn]] void stop(const char* what) {
  std::perror(what);
  std::exit(1);
}
void check(bool good, const char* what) {
  if (!good) stop(what);
}

// ---- Computation

template <unsigned kWhich>
void compute(std::uint64_t count) {
  [[maybe_unused]] volatile unsigned long kept = entry(kWhich, count);
}

// A sum of products that each step waits for.
void scalar_double(std::uint64_t count) {
  double sum = 1;
  for (std::uint64_t i = 0; i < count * 1000; ++i) {
    sum = sum * 0.5 + 1.25;
    asm volatile("" : "+x"(sum));
  }
}
void packed_integer(std::uint64_t count) {
  using Vector = int __attribute__((vector_size(16)));
  Vector a{1, 2, 3, 4}, b{5, 6, 7, 8};
  for (std::uint64_t i = 0; i < count * 1000; ++i) {
    a = (a + b) ^ (a << 3);
    b = b - a;
    asm volatile("" : "+x"(a), "+x"(b));
  }
}
void mandelbrot(std::uint64_t count) {
  for (std::uint64_t n = 0; n < count; ++n) {
    int inside = 0;
    for (int y = 0; y < 16; ++y) {
      for (int x = 0; x < 16; ++x) {
        const double cr = x / 8.0 - 1.5, ci = y / 8.0 - 1.0;
        double r = 0, i = 0;
        for (int k = 0; k < 64 && r * r + i * i < 4; ++k) {
          const double next = r * r - i * i + cr;
          i = 2 * r * i + ci;
          r = next;
          ++inside;
        }
      }
    }
    asm volatile("" : : "r"(inside));
  }
}

constexpr std::size_t kBlock = 64 << 10;
alignas(64) std::array<char, kBlock> g_from, g_to;

void copy(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memcpy(g_to.data(), g_from.data(), kBlock);
    asm volatile("" : : : "memory");
  }
}
void copy_small(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memcpy(g_to.data() + i % 64, g_from.data() + i % 32, 256);
    asm volatile("" : : : "memory");
  }
}
void fill(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memset(g_to.data(), static_cast<int>(i), kBlock);
    asm volatile("" : : : "memory");
  }
}
void length(std::uint64_t count) {
  std::memset(g_from.data(), 'x', 4095);
  g_from[4095] = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    [[maybe_unused]] volatile std::size_t kept = std::strlen(g_from.data());
  }
}

// Instructions longer than any predictor's memory; see mixed_code.h.
template <std::size_t kInstructions>
void mixed(std::uint64_t count) {
  static void* const code = [] {
    const std::vector<std::uint8_t> bytes = mixed_code(kInstructions, kInstructions);
    void* at = mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(at != MAP_FAILED, "mmap");
    std::memcpy(at, bytes.data(), bytes.size());
    return at;
  }();
  static std::array<std::uint64_t, 512> data{};
  for (std::uint64_t i = 0; i < count; ++i) {
    asm volatile("lea -128(%%rsp), %%rsp\n\tcall *%[code]\n\tlea 128(%%rsp), %%rsp"
                 :
                 : [code] "r"(code), "b"(data.data())
                 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "cc", "memory");
  }
}

// ---- The kernel

void get_pid(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) syscall(SYS_getpid);
}
void clock_time(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) now();
}

constexpr std::size_t kPage = 4096, kTouched = 256;
void touch(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    auto* at = static_cast<char*>(mmap(nullptr, kTouched * kPage, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    check(at != MAP_FAILED, "mmap");
    for (std::size_t page = 0; page < kTouched; ++page) at[page * kPage] = 1;
    munmap(at, kTouched * kPage);
  }
}
void map(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    void* at =
        mmap(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(at != MAP_FAILED, "mmap");
    munmap(at, 16 * kPage);
  }
}

void fork_wait(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    check(child > 0 && waitpid(child, nullptr, 0) == child, "fork");
  }
}
void run_program(char* const* words, const char* root) {
  const pid_t child = fork();
  if (child == 0) {
    if (root != nullptr && (chroot(root) != 0 || chdir("/") != 0)) _exit(126);
    execv(words[0], words);
    _exit(127);
  }
  int status = 0;
  check(child > 0 && waitpid(child, &status, 0) == child && status == 0, words[0]);
}
const char* g_self = nullptr;
void fork_exec(std::uint64_t count) {
  std::string self = g_self, nothing = "nothing";
  std::array<char*, 3> words{self.data(), nothing.data(), nullptr};
  for (std::uint64_t i = 0; i < count; ++i) run_program(words.data(), nullptr);
}

// A byte to another process and back; both on this processor.
void ping_pong(std::uint64_t count) {
  std::array<int, 2> there{}, back{};
  check(pipe(there.data()) == 0 && pipe(back.data()) == 0, "pipe");
  char byte = 0;
  const pid_t child = fork();
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &byte, 1) == 1) check(write(back[1], &byte, 1) == 1, "write");
    _exit(0);
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    check(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "pipe");
  }
  for (const int fd : {there[0], there[1], back[0], back[1]}) close(fd);
  check(waitpid(child, nullptr, 0) == child, "wait");
}
void read_block(std::uint64_t count) {
  static const int fd = [] {
    const int made = static_cast<int>(syscall(SYS_memfd_create, "block", 0));
    check(made >= 0 && write(made, g_from.data(), kBlock) == kBlock, "memfd");
    return made;
  }();
  for (std::uint64_t i = 0; i < count; ++i) {
    check(pread(fd, g_to.data(), kBlock, 0) == kBlock, "pread");
  }
}

struct Primitive {
  const char* name;
  void (*run)(std::uint64_t count);
  double units;  // in one of `count`
};
constexpr std::array kPrimitives = std::to_array<Primitive>({
    {"alu_step", compute<0>, 1000},
    {"load", compute<1>, 4096},
    {"store", compute<2>, 4096},
    {"fib_25",
     [](std::uint64_t n) {
       while (n-- != 0) compute<3>(25);
     },
     1},
    {"qsort_16k", compute<5>, 1},
    {"sha256_16KiB", compute<6>, 1},
    {"bytecode_round", compute<7>, 1000},
    {"double_step", scalar_double, 1000},
    {"mandelbrot", mandelbrot, 1},
    {"sse_integer_step", packed_integer, 1000},
    {"memcpy_64KiB", copy, 1},
    {"memcpy_256B", copy_small, 1},
    {"memset_64KiB", fill, 1},
    {"strlen_4KiB", length, 1},
    {"mixed_350", mixed<350>, 350},
    {"mixed_3500", mixed<3500>, 3500},
    {"mixed_14000", mixed<14000>, 14000},
    {"mixed_200000", mixed<200000>, 200000},
    {"getpid", get_pid, 1},
    {"clock_gettime", clock_time, 1},
    {"touch_page", touch, kTouched},
    {"mmap_munmap", map, 1},
    {"pread_64KiB", read_block, 1},
    {"fork_wait", fork_wait, 1},
    {"fork_exec_wait", fork_exec, 1},
    {"pipe_ping_pong", ping_pong, 1},
});

Nanoseconds time_of(const Primitive& primitive, std::uint64_t count) {
  const Nanoseconds start = now();
  primitive.run(count);
  return now() - start;
}
// The best of some slices, so that what else the machine does counts as little as possible. A slice
// is long against what the operation prepares, and found when everything is warm.
Nanoseconds measure(const Primitive& primitive) {
  const char* milliseconds = std::getenv("slice_ms");
  const Nanoseconds slice = milliseconds == nullptr ? 12e6 : std::atof(milliseconds) * 1e6;
  constexpr int kSlices = 6;
  std::uint64_t count = 1;
  while (std::min(time_of(primitive, count), time_of(primitive, count)) < slice) count *= 2;
  Nanoseconds best = time_of(primitive, count);
  for (int i = 1; i < kSlices; ++i) best = std::min(best, time_of(primitive, count));
  return best / static_cast<double>(count) / primitive.units;
}

void stay_on_one_processor() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int cpu = sched_getcpu();
  CPU_SET(static_cast<unsigned>(cpu < 0 ? 0 : cpu), &set);
  sched_setaffinity(0, sizeof(set), &set);
}

// By the variable `primitives`, which the kernel's command line can set.
bool wanted(const std::string& name) {
  const char* names = std::getenv("primitives");
  return names == nullptr || *names == 0 ||
         ("," + std::string(names) + ",").find("," + name + ",") != std::string::npos;
}
std::string measure_all() {
  std::string result;
  for (const Primitive& primitive : kPrimitives) {
    if (!wanted(primitive.name)) continue;
    result += primitive.name + (' ' + std::to_string(measure(primitive))) + '\n';
  }
  return result;
}

// Tells the host that something begins, and gives it time to look at its clocks.
void mark(const char* name) {
  const std::string line = std::string("mark ") + name + '\n';
  check(write(1, line.data(), line.size()) == static_cast<ssize_t>(line.size()), "write");
  tcdrain(1);
  usleep(100'000);
}

std::string measure_python() {
  std::string result;
  if (mount("/dev/vda", "/root", "squashfs", MS_RDONLY, nullptr) != 0) return result;
  std::string python = "/usr/bin/python3", option = "-c", text = "pass";
  std::array<char*, 4> words{python.data(), option.data(), text.data(), nullptr};
  for (const char* name : {"python_first", "python_second", "python_third"}) {
    if (!wanted(name)) continue;
    mark(name);
    run_program(words.data(), "/root");
  }
  mark("python_end");
  return result;
}

// PID 1 of a machine that has nothing else. Python first: nothing has run that it shares code with.
[[noreturn]] void be_init() {
  mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);
  const int console = open("/dev/ttyS0", O_RDWR);
  dup2(console, 1);
  dup2(console, 2);
  const std::string result = measure_python() + measure_all() + "end 0\n";
  check(write(1, result.data(), result.size()) == static_cast<ssize_t>(result.size()), "write");
  tcdrain(1);
  // The doorbell's word for the end of the workload; where QEMU has its debug exit.
  if (ioperm(0x5350, 16, 1) == 0) outl(4u << 24, 0x5350);
  for (;;) pause();
}

}  // namespace

}  // namespace sm::cpu_bench

int main(int argc, char** argv) {
  using namespace sm::cpu_bench;
  if (argc == 2 && std::string_view(argv[1]) == "nothing") return 0;
  g_self = argv[0];
  if (getpid() == 1) be_init();
  stay_on_one_processor();
  std::fputs(measure_all().c_str(), stdout);
}
