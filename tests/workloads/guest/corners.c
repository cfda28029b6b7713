// Corners of the processor that programs meet seldom: faults and traps as signals with their codes, single steps, code that is written
// while it runs (also through another mapping and by another thread), string instructions that fault half-way, rounding modes, the
// state in signal frames, segments, 32-bit system calls.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPage = 4096 };

static sigjmp_buf escape;
static volatile int signal_number, signal_code;
static volatile uint64_t signal_trap, signal_error, signal_address, signal_ip;

static void note(int number, siginfo_t* info, void* context) {
  // The kernel leaves AC set, and printf() need not be aligned.
  __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" ::: "cc");
  const greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  signal_number = number;
  signal_code = info->si_code;
  signal_trap = (uint64_t)registers[REG_TRAPNO];
  signal_error = (uint64_t)registers[REG_ERR];
  signal_address = (uint64_t)info->si_addr;
  signal_ip = (uint64_t)registers[REG_RIP];
  siglongjmp(escape, 1);
}

// Runs a statement and says which signal it gave.
#define TRY(name, ...)                                                                                             \
  do {                                                                                                             \
    signal_number = 0;                                                                                             \
    if (sigsetjmp(escape, 1) == 0) { __VA_ARGS__; }                                                                \
    if (signal_number)                                                                                             \
      printf("%s: signal %d code %d trap %llu error %llx\n", name, signal_number, signal_code,                     \
             (unsigned long long)signal_trap, (unsigned long long)signal_error);                                   \
    else                                                                                                           \
      printf("%s: nothing\n", name);                                                                               \
  } while (0)

static void catch_all(void) {
  static char stack[1 << 16];
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
  const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
    sigaction(signals[i], &(struct sigaction){.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_ONSTACK}, 0);
}

static void* map(size_t pages, int protection) {
  return mmap(0, pages * kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void integer_faults(void) {
  volatile int zero = 0, least = INT32_MIN, minus = -1;
  volatile int64_t least64 = INT64_MIN;
  TRY("divide by zero", zero = least / zero);
  TRY("quotient too large", zero = least / minus);
  TRY("quotient too large, 64 bits", least64 = least64 / minus);
  TRY("div of 128 bits", __asm__ volatile("div %0" ::"r"(2ul), "a"(0ul), "d"(2ul)));
  TRY("ud2", __asm__ volatile("ud2"));
  TRY("int3", __asm__ volatile("int3"));
  TRY("int 3, two bytes", __asm__ volatile(".byte 0xcd, 3"));
  TRY("int 4", __asm__ volatile("int $4"));
  TRY("int 0x50", __asm__ volatile("int $0x50"));
  TRY("icebp", __asm__ volatile(".byte 0xf1"));
  TRY("hlt", __asm__ volatile("hlt"));
  TRY("cli", __asm__ volatile("cli"));
  TRY("in", __asm__ volatile("inb $0x80, %%al" ::: "rax"));
  TRY("rdmsr", __asm__ volatile("rdmsr" ::"c"(0x10) : "rax", "rdx"));
  TRY("mov cr0", __asm__ volatile("mov %%cr0, %%rax" ::: "rax"));
  TRY("wbinvd", __asm__ volatile("wbinvd"));
  TRY("into in 64 bits", __asm__ volatile(".byte 0xce"));
  TRY("lock nop", __asm__ volatile(".byte 0xf0, 0x90"));
  TRY("lock add register", __asm__ volatile(".byte 0xf0, 0x01, 0xc0"));
  TRY("sixteen bytes", __asm__ volatile(".fill 15, 1, 0x66; nop"));
  TRY("segment", __asm__ volatile("mov %0, %%ds" ::"r"(0x1234)));
  TRY("vmcall", __asm__ volatile("mov $0, %%eax; .byte 0x0f, 0x01, 0xc5" ::: "rax"));
}

static void memory_faults(void) {
  volatile char* page = map(2, PROT_READ);
  char* none = map(1, PROT_NONE);
  TRY("write to read-only", page[5] = 1);
  TRY("read of nothing", (void)*(volatile char*)none);
  TRY("null", *(volatile int*)8 = 1);
  printf("address %d\n", signal_address == 8);
  TRY("not canonical", (void)*(volatile char*)0x8000000000000000ul);
  TRY("not canonical, stack", __asm__ volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; mov %%rbx, %%rsp" ::"r"(0x8000000000000000ul) : "rbx"));
  TRY("kernel", (void)*(volatile char*)0xffffffff81000000ul);
  TRY("execute data", ((void (*)(void))page)());
  printf("at %d\n", signal_ip == (uint64_t)page);
  TRY("movaps unaligned", __asm__ volatile("movaps (%0), %%xmm0" ::"r"(page + 1) : "xmm0"));
  TRY("movups unaligned", __asm__ volatile("movups (%0), %%xmm0" ::"r"(page + 1) : "xmm0"));
  TRY("alignment check", __asm__ volatile("pushf; orl $0x40000, (%%rsp); popf; mov 1(%0), %%eax; pushf; andl $~0x40000, (%%rsp); popf" ::"r"(page)
                                          : "rax", "cc"));
  __asm__ volatile("pushf; andl $~0x40000, (%%rsp); popf" ::: "cc");

  char* two = map(2, PROT_READ | PROT_WRITE);
  mprotect(two + kPage, kPage, PROT_NONE);
  TRY("write over the edge", *(volatile uint64_t*)(two + kPage - 3) = ~0ul);
  printf("edge %d %d\n", two[kPage - 1], signal_address == (uint64_t)(two + kPage));
  // A string instruction stops where the fault is, with its registers there.
  for (int i = 0; i < 3; i++) {
    uint64_t count = 100, to = (uint64_t)(two + kPage - 37);
    signal_number = 0;
    static volatile uint64_t left;
    if (sigsetjmp(escape, 1) == 0) {
      if (i == 0) __asm__ volatile("rep stosb" : "+c"(count), "+D"(to) : "a"(7) : "memory");
      if (i == 1) __asm__ volatile("rep movsb" : "+c"(count), "+D"(to) : "S"(page) : "memory");
      if (i == 2) __asm__ volatile("repne scasb" : "+c"(count), "+D"(to) : "a"(9) : "memory");
    }
    left = signal_address - (uint64_t)two;
    printf("string %d: signal %d at %llu, last byte %d\n", i, signal_number, (unsigned long long)left, two[kPage - 1]);
  }
  char* below = map(2, PROT_READ | PROT_WRITE);
  mprotect(below, kPage, PROT_NONE);
  TRY("backwards over the edge", __asm__ volatile("std; rep stosb; cld" ::"c"(100ul), "D"(below + kPage + 20), "a"(5) : "memory"));
  __asm__ volatile("cld");
  printf("edge %d %d\n", below[kPage], below[kPage + 21]);
}

static void float_faults(void) {
  static const struct { const char* name; int bit; } kinds[] = {{"invalid", FE_INVALID}, {"zero", FE_DIVBYZERO}, {"overflow", FE_OVERFLOW},
                                                                 {"underflow", FE_UNDERFLOW}, {"inexact", FE_INEXACT}};
  static const double from[][2] = {{0, 0}, {1, 0}, {1e308, 1e-10}, {1e-308, 1e10}, {1, 3}};
  for (int i = 0; i < 5; i++) {
    volatile double a = from[i][0], b = from[i][1];
    volatile long double la = a, lb = b, lc = 0;
    feclearexcept(FE_ALL_EXCEPT);
    volatile double r = a / b;
    printf("%s: %a flags %x", kinds[i].name, r, fetestexcept(FE_ALL_EXCEPT));
    lc = la / lb;
    printf(" %La\n", lc);
    feclearexcept(FE_ALL_EXCEPT);
    TRY("  SSE", feenableexcept(kinds[i].bit); r = a / b);
    fedisableexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);
    TRY("  x87", feenableexcept(kinds[i].bit); __asm__ volatile("fldl %1; fdivl %2; fstpl %0; fwait" : "=m"(r) : "m"(a), "m"(b)));
    __asm__ volatile("fninit");
    fesetenv(FE_DFL_ENV);
  }
  TRY("reserved MXCSR", __asm__ volatile("ldmxcsr %0" ::"m"((uint32_t){0xffff0000})));
  fesetenv(FE_DFL_ENV);
}

static void rounding(void) {
  static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  for (int i = 0; i < 4; i++) {
    fesetround(modes[i]);
    volatile double a = 1, b = 3, c = -2.5, big = 1e17;
    volatile float f = 1.1f, g = 7;
    volatile long double l = 1, m = 10;
    volatile uint64_t u = 0x8000000000000401ul;
    volatile int64_t n = 0x7ffffffffffffdffl;
    long converted, nearest;
    __asm__("cvtsd2si %1, %0" : "=r"(converted) : "m"(c));
    __asm__("fldl %1; fistpll %0" : "=m"(nearest) : "m"(c));
    printf("mode %d: %a %a %a %La %ld %ld %a %a %a", i, a / b, big + b, (double)(f / g), l / m, converted, nearest, (double)u, (double)n, (double)(float)n);
    for (int precision = 0; precision < 4; precision++) {
      uint16_t control = (uint16_t)(0x37f & ~0x300) | (uint16_t)(precision << 8) | (uint16_t)(i << 10), old;
      long double r;
      __asm__ volatile("fnstcw %1; fldcw %2; fldt %3; fldt %4; fdivrp; fldcw %1; fstpt %0" : "=m"(r), "=m"(old) : "m"(control), "m"(l), "m"(m));
      if (precision != 1) printf(" %La", r);
    }
    printf("\n");
  }
  fesetround(FE_TONEAREST);
  volatile double tiny = 4.9e-324;
  uint32_t flush = 0x1f80 | 0x8040, normal = 0x1f80;
  double flushed, kept;
  __asm__ volatile("ldmxcsr %2; movsd %4, %%xmm0; addsd %4, %%xmm0; movsd %%xmm0, %0; ldmxcsr %3; movsd %4, %%xmm0; addsd %4, %%xmm0; movsd %%xmm0, %1"
                   : "=m"(flushed), "=m"(kept) : "m"(flush), "m"(normal), "m"(tiny) : "xmm0");
  printf("flush %a %a\n", flushed, kept);
}

// mov eax, N; ret
static void write_code(volatile uint8_t* at, uint32_t n) {
  at[0] = 0xb8;
  memcpy((void*)(at + 1), &n, 4);
  at[5] = 0xc3;
}
typedef uint32_t (*Function)(void);

static void* rewrite(void* code) {
  for (uint32_t n = 0; n < 3000; n++) __atomic_store_n((uint32_t*)((uint8_t*)code + 4), n * 0x01000193u, __ATOMIC_SEQ_CST);
  __atomic_store_n((uint32_t*)((uint8_t*)code + 4), 0xffffffffu, __ATOMIC_SEQ_CST);
  return 0;
}

static void code_that_changes(void) {
  volatile uint8_t* code = map(3, PROT_READ | PROT_WRITE | PROT_EXEC);
  uint64_t sum = 0;
  for (uint32_t n = 0; n < 2000; n++) {
    volatile uint8_t* at = code + n * 7 % (2 * kPage);
    write_code(at, n * n);
    sum = sum * 3 + ((Function)at)();
  }
  printf("written and called: %llx\n", (unsigned long long)sum);

  // An instruction that changes the next one, in one block.
  static const uint8_t self[] = {0xc6, 0x05, 1, 0, 0, 0, 42,  // movb $42, 1(%rip): the immediate of the next one
                                 0xb8, 1, 0, 0, 0,            // mov $1, %eax
                                 0xc3};
  for (int i = 0; i < 20; i++) {
    memcpy((void*)(code + 100), self, sizeof self);
    sum += ((Function)(code + 100))();
  }
  // A loop that counts its own immediate up.
  static const uint8_t loop[] = {0x31, 0xc0,                          // xor %eax, %eax
                                 0xb9, 0x40, 0, 0, 0,                 // mov $64, %ecx
                                 0x05, 1, 0, 0, 0,                    // 1: add $1, %eax
                                 0xff, 0x05, 0xf6, 0xff, 0xff, 0xff,  // incl -10(%rip): the 1
                                 0xff, 0xc9, 0x75, 0xf1,              // dec %ecx; jnz 1b
                                 0xc3};
  memcpy((void*)(code + 4000), loop, sizeof loop);
  printf("changes itself: %llx %u\n", (unsigned long long)sum, ((Function)(code + 4000))());
  memcpy((void*)(code + kPage - 10), loop, sizeof loop);  // the same across two pages
  printf("across pages: %u\n", ((Function)(code + kPage - 10))());
  // rep movsb over the code that follows it.
  static const uint8_t copy[] = {0x48, 0x8d, 0x3d, 4, 0, 0, 0,  // lea 4(%rip), %rdi: the immediate
                                 0xf3, 0xa4, 0x90,              // rep movsb; nop
                                 0xb8, 1, 0, 0, 0, 0xc3};
  memcpy((void*)(code + 200), copy, sizeof copy);
  uint32_t value = 0x12345678, got = 0;
  uint64_t from = (uint64_t)&value, count = 4;
  __asm__ volatile("call *%3" : "=a"(got), "+S"(from), "+c"(count) : "r"(code + 200) : "rdi", "memory");
  printf("rep movsb: %x\n", got);

  // Written through another mapping, as JITs do that have no page both writable and executable.
  int file = memfd_create("code", 0);
  if (ftruncate(file, kPage)) perror("ftruncate");
  volatile uint8_t* write = mmap(0, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  volatile uint8_t* run = mmap(0, kPage, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
  sum = 0;
  for (uint32_t n = 0; n < 1000; n++) {
    write_code(write + n % 5 * 8, n ^ 0x5555);
    sum = sum * 3 + ((Function)(run + n % 5 * 8))();
  }
  for (uint32_t n = 0; n < 100; n++) {
    uint8_t bytes[8];
    write_code(bytes, n * 77);
    if (pwrite(file, bytes, 6, 64) != 6) perror("pwrite");
    sum = sum * 3 + ((Function)(run + 64))();
  }
  printf("other mapping: %llx\n", (unsigned long long)sum);
  // Other pages at the same address.
  sum = 0;
  for (uint32_t n = 0; n < 200; n++) {
    uint8_t* page = mmap((void*)code, kPage, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    write_code(page, n * 3);
    mprotect(page, kPage, PROT_READ | PROT_EXEC);
    sum = sum * 3 + ((Function)page)();
  }
  printf("other pages: %llx\n", (unsigned long long)sum);
  mprotect((void*)code, kPage, PROT_READ);
  TRY("no longer executable", ((Function)code)());

  // Written by another thread while this one runs it: each value seen must be one of those written, the last one at the end.
  write = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  write_code(write + 3, 0);  // the immediate is aligned
  pthread_t thread;
  pthread_create(&thread, 0, rewrite, (void*)write);
  uint32_t seen = 0, wrong = 0;
  while (seen != 0xffffffffu) {
    seen = ((Function)(write + 3))();
    wrong += seen != 0xffffffffu && seen * 0x359c449bu >= 3000;  // the inverse of 0x01000193
  }
  pthread_join(thread, 0);
  printf("other thread: %u wrong\n", wrong);
}

static volatile int steps;
static void step(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  steps++;
}

static void single_steps(void) {
  sigaction(SIGTRAP, &(struct sigaction){.sa_sigaction = step, .sa_flags = SA_SIGINFO}, 0);
  char a[64] = "text that is copied", b[64] = "";
  void *from = a, *to = b;
  __asm__ volatile(
      "pushf; orl $0x100, (%%rsp); popf\n"
      "nop; xor %%eax, %%eax; mov $5, %%ecx; rep movsb; cpuid; push %%rax; pop %%rax\n"
      "pushf; andl $~0x100, (%%rsp); popf\n" : "+S"(from), "+D"(to)::"rax", "rbx", "rcx", "rdx", "memory", "cc");
  printf("steps: %d %.5s\n", steps, b);
  catch_all();

  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    static volatile int watched;
    for (int i = 0; i < 3; i++) watched = watched + i;
    _exit(watched);
  }
  int status, count = 0;
  waitpid(child, &status, 0);
  struct user_regs_struct registers;
  uint64_t moved = 0, last = 0;
  while (ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    moved += registers.rip != last;
    last = registers.rip;
    count++;
  }
  printf("traced: %d %d %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, count > 30, moved > 30);
}

static volatile int watched_value;
static void __attribute__((noinline)) target(void) { __asm__ volatile("nop"); }

static void debug_registers(void) {
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 0; i < 4; i++) {
      watched_value = i;
      target();
    }
    _exit(9);
  }
  int status, hits[2] = {0, 0};
  waitpid(child, &status, 0);
  const size_t base = offsetof(struct user, u_debugreg);
  long ok = ptrace(PTRACE_POKEUSER, child, base, &watched_value) | ptrace(PTRACE_POKEUSER, child, base + 8, target) |
            ptrace(PTRACE_POKEUSER, child, base + 7 * 8, 0xd0000 | 1 | 4);  // 0: writes of 4 bytes; 1: execution
  while (ptrace(PTRACE_CONT, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    uint64_t dr6 = (uint64_t)ptrace(PTRACE_PEEKUSER, child, base + 6 * 8, 0);
    hits[0] += dr6 & 1;
    hits[1] += dr6 >> 1 & 1;
    ptrace(PTRACE_POKEUSER, child, base + 6 * 8, 0);
    if (hits[0] + hits[1] > 50) kill(child, SIGKILL);
  }
  printf("debug registers: %ld hits %d %d exit %d\n", ok, hits[0], hits[1], WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static volatile uint64_t frame_sum;
static void look_at_frame(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  struct _libc_fpstate* f = ((ucontext_t*)context)->uc_mcontext.fpregs;
  frame_sum = f->cwd + f->mxcsr + f->_xmm[3].element[1] + f->_st[0].exponent + f->_st[0].significand[3];
  f->_xmm[3].element[1] = 0x600d;  // restored from here
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RBX] = 77;
}

static void frames(void) {
  sigaction(SIGUSR1, &(struct sigaction){.sa_sigaction = look_at_frame, .sa_flags = SA_SIGINFO}, 0);
  uint64_t xmm[2] = {0x1111222233334444ul, 0x5555666677778888ul}, out[2], rbx;
  long double top;
  __asm__ volatile("movups %5, %%xmm3; fldpi; mov $1, %%rbx; mov %6, %%rdi; mov $10, %%esi; mov $62, %%eax; syscall; movups %%xmm3, %0; fstpt %1; mov %%rbx, %2"
                   : "=m"(out), "=m"(top), "=m"(rbx), "=m"(xmm) : "m"(xmm), "m"(xmm), "r"((uint64_t)getpid())
                   : "rax", "rbx", "rcx", "rdi", "rsi", "r11", "xmm3", "memory");
  printf("frame: %llx %llx %llx %.20Lg %llu\n", (unsigned long long)frame_sum, (unsigned long long)out[0], (unsigned long long)out[1], top, (unsigned long long)rbx);
}

static void segments(void) {
  uint64_t area[4] = {1, 2, 3, 4}, read;
  syscall(SYS_arch_prctl, ARCH_SET_GS, area);
  __asm__ volatile("mov %%gs:16, %0" : "=r"(read));
  printf("gs %llu", (unsigned long long)read);
  TRY(" null gs", __asm__ volatile("xor %%eax, %%eax; mov %%ax, %%gs; mov %%gs:0, %0" : "=r"(read)::"rax"));
  uint16_t cs, ss, ds;
  __asm__("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2" : "=r"(cs), "=r"(ss), "=r"(ds));
  printf("selectors %x %x %x\n", cs, ss, ds);
  uint64_t limit = 0, rights = 0;
  __asm__("lsl %1, %0" : "+r"(limit) : "r"((uint64_t)cs));
  __asm__("lar %1, %0" : "+r"(rights) : "r"((uint64_t)cs));
  printf("limit %llx rights %llx\n", (unsigned long long)limit, (unsigned long long)rights);
  int verified;
  __asm__("verw %w1; setz %b0; movzbl %b0, %0" : "=q"(verified) : "r"(ss) : "cc");
  printf("verw %d\n", verified);
}

// 32-bit code in a 64-bit process. edi: results; a sum of everything at 8(%edi); rsp to come back with at (%edi).
extern const uint8_t compat_begin[], compat_end[];
__asm__(
    ".pushsection .rodata\n"
    ".code32\n"
    "compat_begin:\n"
    "  movl $0x2b, %eax; movw %ax, %ds; movw %ax, %es\n"
    "  movl $0x2b, %eax; movw %ax, %ds; movw %ax, %es\n"
    "  movl $0, 8(%edi)\n"
    // Decimal adjustments of every AL with every CF and AF.
    "  movl $0x3ff, %ecx\n"
    "1: movl %ecx, %eax\n"
    "  shrl $8, %eax; movb %al, %ah; shlb $3, %al; andb $1, %ah; orb %ah, %al; andb $0x11, %al; movb %al, %ah; sahf\n"
    "  movb %cl, %al; movb $0x35, %ah\n"
    "  pushfl; pushl %eax\n"
    ".macro adjust insn\n"
    "  movl (%esp), %eax; pushl 4(%esp); popfl\n"
    "  \\insn\n"
    "  pushfl; popl %edx; andl $0x11, %edx\n"  // only CF and AF are defined after all of them
    "  roll $5, 8(%edi); addl %eax, 8(%edi); xorl %edx, 8(%edi)\n"
    ".endm\n"
    "  adjust daa; adjust das; adjust aaa; adjust aas; adjust \".byte 0xd6\"\n"
    "  addl $8, %esp\n"
    "  decl %ecx; jns 1b\n"
    // AAM and AAD of some bases.
    "  movl $0x7ff, %ecx\n"
    "2: movl %ecx, %eax; aam; roll $3, 8(%edi); addl %eax, 8(%edi); movl %ecx, %eax; aad; addl %eax, 8(%edi)\n"
    "  movl %ecx, %eax; aam $7; xorl %eax, 8(%edi); movl %ecx, %eax; aad $13; pushfl; popl %edx; andl $0xc4, %edx; addl %edx, 8(%edi); xorl %eax, 8(%edi)\n"
    "  decl %ecx; jns 2b\n"
    "  movl 8(%edi), %eax; movl %eax, 12(%edi)\n"
    // Stack frames, all registers, segments, 16-bit forms.
    "  movl $1, %eax; movl $2, %ebx; movl $3, %ecx; movl $4, %edx; movl $5, %esi; movl $6, %ebp\n"
    "  pusha; popa; pushaw; popaw; xchgl %ebx, %edx\n"
    "  enter $16, $0; movl %ebp, %eax; subl %esp, %eax; leave; addl %eax, 8(%edi)\n"
    "  pushl %ds; popl %es; pushl %cs; popl %eax; pushw %ss; popw %ax; roll $7, 8(%edi); addl %eax, 8(%edi)\n"
    "  movl $0x12348765, %ebx; movl $0x8a11fff0, %esi; .byte 0x67; leal 0x7f(%bx, %si), %eax; roll $7, 8(%edi); addl %eax, 8(%edi)\n"
    "  movw $0x21, %ax; movw $3, %cx; arpl %cx, %ax; lahf; andb $0x40, %ah; roll $7, 8(%edi); addl %eax, 8(%edi)\n"
    "  movl $0x10002, %ecx; xorl %eax, %eax; 3: incl %eax; .byte 0x67; loop 3b; addl %eax, 8(%edi); addl %ecx, 8(%edi)\n"
    "  movl $0x7fffffff, %eax; incl %eax; pushfl; popl %edx; andl $0x8d5, %edx; decw %ax; addl %eax, 8(%edi); xorl %edx, 8(%edi)\n"
    "  leal 32(%edi), %esi; movl $0xffffffff, (%esi); fildl (%esi); fsqrt; fabs; fstps (%esi); movl (%esi), %eax; addl %eax, 8(%edi)\n"
    "  call 4f\n"
    "4: popl %eax; addl $(compat_64 - 4b), %eax; pushl $0x33; pushl %eax; lret\n"
    ".code64\n"
    "compat_64: movq (%rdi), %rsp; ret\n"
    "compat_end:\n"
    ".popsection\n");

static void compatibility_mode(void) {
  uint8_t* low = mmap(0, 4 * kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  memcpy(low, compat_begin, (size_t)(compat_end - compat_begin));
  uint32_t* results = (uint32_t*)(low + kPage);
  uint64_t to = (uint64_t)results, stack = (uint64_t)(low + 3 * kPage), code = (uint64_t)low;
  __asm__ volatile(
      "sub $256, %%rsp; push %%rbp\n"
      "call 1f\n"
      "jmp 2f\n"
      "1: mov %%rsp, (%%rdi)\n"
      "mov %%rsi, %%rsp\n"
      "push $0x23; push %%rdx; lretq\n"
      "2: pop %%rbp; add $256, %%rsp\n"
      : "+D"(to), "+S"(stack), "+d"(code)
      :
      : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
  printf("32 bits: %x %x\n", results[3], results[2]);
}

int main(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  catch_all();
  integer_faults();
  memory_faults();
  float_faults();
  rounding();
  code_that_changes();
  single_steps();
  debug_registers();
  frames();
  segments();
  for (int i = 0; i < 5; i++) signal((int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}[i], SIG_DFL);
  compatibility_mode();
}
