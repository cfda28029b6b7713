// Locked instructions of all kinds from several threads, on operands that are aligned, lie across two cache lines or across two pages;
// and the orders of memory that x86 promises. Nothing may be lost, nothing may be seen that cannot be.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { kThreads = 4, kTimes = 1000, kPlaces = 3 };

static uint8_t* memory;
// Aligned, across cache lines, across pages.
static const unsigned kPlace[kPlaces] = {1024, 2048 + 61, 4096 - 3};

static pthread_barrier_t barrier;

#define LOCKED(name, text) \
  static void name(uint8_t* at, uint64_t n) { __asm__ volatile(text : : "r"(at), "r"(n) : "memory", "cc", "rax", "rdx"); }
LOCKED(add, "lock addq %1, (%0)")
LOCKED(sub, "lock subq %1, (%0)")
LOCKED(xor, "lock xorq %1, (%0)")
LOCKED(inc, "lock incl (%0)")
LOCKED(dec, "lock decw (%0)")
LOCKED(neg, "lock negq (%0)")
LOCKED(not, "lock notl (%0)")
LOCKED(xadd, "mov %1, %%rax; lock xaddq %%rax, (%0)")
LOCKED(adc, "clc; lock adcl %k1, (%0)")
LOCKED(cmpxchg, "mov (%0), %%rax; 1: lea (%%rax, %1), %%rdx; lock cmpxchgq %%rdx, (%0); jnz 1b")
LOCKED(cmpxchg_byte, "movb (%0), %%al; 1: lea 1(%%rax), %%edx; lock cmpxchgb %%dl, (%0); jnz 1b")
static void btc(uint8_t* at, uint64_t n) { __asm__ volatile("lock btcq %1, (%0)" ::"r"(at), "r"(n & 63) : "memory", "cc"); }
static void cmpxchg8b(uint8_t* at, uint64_t n) {
  uint32_t low = 0, high = 0;
  uint8_t done;
  do {
    uint64_t sum = ((uint64_t)high << 32 | low) + n;
    __asm__ volatile("lock cmpxchg8b (%3); setz %2" : "+a"(low), "+d"(high), "=q"(done) : "r"(at), "b"((uint32_t)sum), "c"((uint32_t)(sum >> 32)) : "memory", "cc");
  } while (!done);
}

static const struct { const char* name; void (*run)(uint8_t*, uint64_t); } kOperations[] = {
    {"add", add}, {"sub", sub}, {"xor", xor}, {"inc", inc}, {"dec", dec}, {"neg", neg}, {"not", not}, {"xadd", xadd}, {"adc", adc},
    {"cmpxchg", cmpxchg}, {"cmpxchg byte", cmpxchg_byte}, {"btc", btc}, {"cmpxchg8b", cmpxchg8b}};
enum { kOperationCount = sizeof kOperations / sizeof *kOperations };

static uint64_t pair[2] __attribute__((aligned(16)));
static void cmpxchg16b(uint64_t n) {
  uint64_t low = 0, high = 0;
  uint8_t done;
  do {
    uint64_t a = low + n, b = high ^ a;
    __asm__ volatile("lock cmpxchg16b (%3); setz %2" : "+a"(low), "+d"(high), "=q"(done) : "r"(pair), "b"(a), "c"(b) : "memory", "cc");
  } while (!done);
}

static uint32_t spin;
static uint64_t guarded[2];
static void under_lock(uint64_t n) {
  uint32_t taken = 1;
  for (;;) {
    __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(spin)::"memory");
    if (!taken) break;
    while (__atomic_load_n(&spin, __ATOMIC_RELAXED)) sched_yield();
  }
  guarded[0] += n;
  guarded[1] = guarded[0] * 3;
  __atomic_store_n(&spin, 0, __ATOMIC_RELEASE);
}

static void* operate(void* argument) {
  uint64_t thread = (uint64_t)argument;
  for (int place = 0; place < kPlaces; place++)
    for (int operation = 0; operation < kOperationCount; operation++) {
      pthread_barrier_wait(&barrier);
      uint8_t* at = memory + kPlace[place];
      for (uint64_t i = 0; i < kTimes; i++) kOperations[operation].run(at, i * 0x10001 + thread);
      if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
        uint64_t value;
        memcpy(&value, at, 8);
        printf("%s %d: %llx\n", kOperations[operation].name, place, (unsigned long long)value);
      }
    }
  for (uint64_t i = 0; i < kTimes; i++) cmpxchg16b(i);
  for (uint64_t i = 0; i < kTimes; i++) under_lock(i + thread);
  return 0;
}

// Orders: rounds in which two threads do one thing each and look at what they have seen.
static volatile int x, y, seen[2];
static int kind;
static void* ordered(void* argument) {
  long thread = (long)argument;
  for (int round = 0; round < 4000; round++) {
    pthread_barrier_wait(&barrier);
    if (thread == 0) x = y = 0;
    pthread_barrier_wait(&barrier);
    if (kind == 0) {  // each stores, a fence, loads the other's: not both old
      if (thread == 0) {
        x = 1;
        __asm__ volatile("mfence" ::: "memory");
        seen[0] = y;
      } else {
        y = 1;
        __asm__ volatile("lock orl $0, (%%rsp)" ::: "memory", "cc");
        seen[1] = x;
      }
    } else {  // one stores twice, the other loads in the other order: not new and then old
      if (thread == 0) {
        x = 1;
        y = 1;
      } else {
        seen[0] = y;
        seen[1] = x;
      }
    }
    pthread_barrier_wait(&barrier);
    if (thread == 0 && (kind == 0 ? !seen[0] && !seen[1] : seen[0] && !seen[1])) printf("order %d broken in round %d\n", kind, round);
  }
  return 0;
}

static void together(int count, void* (*function)(void*)) {
  pthread_t threads[kThreads];
  pthread_barrier_init(&barrier, 0, (unsigned)count);
  for (long i = 0; i < count; i++) pthread_create(&threads[i], 0, function, (void*)i);
  for (int i = 0; i < count; i++) pthread_join(threads[i], 0);
  pthread_barrier_destroy(&barrier);
}

int main(void) {
  memory = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  together(kThreads, operate);
  printf("pair %llx lock %llu %llu\n", (unsigned long long)pair[0], (unsigned long long)guarded[0], (unsigned long long)guarded[1]);
  for (kind = 0; kind < 2; kind++) together(2, ordered);
  printf("done\n");
}
