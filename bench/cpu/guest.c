// Programs for the software CPU without a system below them: entry(which, count) runs one of them
// `count` times and returns something that depends on every step.
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

#define WORDS 4096  // 32 KiB
#define SORTED 16384
static u64 g_words[WORDS];
static u32 g_numbers[SORTED];
static u8 g_message[16384];

static u64 alu(u64 count) {
  u64 a = 1, b = 2, c = 3;
  for (u64 i = 0; i < count * 1000; ++i) {
    a ^= a << 13;
    a ^= a >> 7;
    b += a;
    c = (c ^ b) + i;
    a += c;
  }
  return a + b + c;
}

static u64 load(u64 count) {
  u64 sum = 0;
  for (u64 i = 0; i < count; ++i) {
    for (u64 j = 0; j < WORDS; ++j) {
      sum += g_words[j];
      __asm__("" : "+r"(sum));
    }
  }
  return sum;
}

static u64 store(u64 count) {
  for (u64 i = 0; i < count; ++i) {
    for (u64 j = 0; j < WORDS; ++j) {
      g_words[j] = i + j;
      __asm__("" : : : "memory");
    }
  }
  return g_words[17];
}

__attribute__((noinline)) static u64 fib(u64 n) {
  __asm__("" : "+r"(n));
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u64 collatz(u64 count) {
  u64 steps = 0;
  for (u64 i = 1; i <= count * 10; ++i) {
    for (u64 n = i * 7919; n != 1; ++steps) n = (n & 1) != 0 ? n * 3 + 1 : n / 2;
  }
  return steps;
}

__attribute__((noinline)) static int less(const u32* a, const u32* b) { return *a < *b; }
static void sort(u32* first, u32* last, int (*before)(const u32*, const u32*)) {
  while (last - first > 1) {
    u32 pivot = first[(last - first) / 2];
    u32 *low = first, *high = last - 1;
    while (low <= high) {
      while (before(low, &pivot)) ++low;
      while (before(&pivot, high)) --high;
      if (low > high) break;
      u32 other = *low;
      *low++ = *high;
      *high-- = other;
    }
    sort(first, high + 1, before);
    first = low;
  }
}
static u64 sorting(u64 count) {
  u32 seed = 1;
  for (u64 i = 0; i < count; ++i) {
    for (u32 j = 0; j < SORTED; ++j) g_numbers[j] = seed = seed * 1664525 + 1013904223;
    sort(g_numbers, g_numbers + SORTED, less);
  }
  return g_numbers[100];
}

static u32 rotate(u32 x, int n) { return x >> n | x << (32 - n); }
static u32 g_constants[64];
static void sha256_block(u32* state, const u8* bytes) {
  u32 w[64], s[8];
  for (int i = 0; i < 16; ++i) w[i] = __builtin_bswap32(((const u32*)bytes)[i]);
  for (int i = 16; i < 64; ++i) {
    u32 a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    u32 b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  for (int i = 0; i < 8; ++i) s[i] = state[i];
  for (int i = 0; i < 64; ++i) {
    u32 a = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
    u32 b = s[7] + a + ((s[4] & s[5]) ^ (~s[4] & s[6])) + g_constants[i] + w[i];
    u32 c = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
    u32 d = c + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + b;
    s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = b + d;
  }
  for (int i = 0; i < 8; ++i) state[i] += s[i];
}
static u64 sha256(u64 count) {
  u32 state[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  for (u32 i = 0; i < 64; ++i) g_constants[i] = i * 0x9E3779B9;
  for (u64 i = 0; i < count; ++i) {
    for (u64 at = 0; at < sizeof(g_message); at += 64) sha256_block(state, g_message + at);
  }
  return state[0];
}

// A little virtual machine with a table of labels.
static u64 bytecode(u64 count) {
  static const u8 program[] = {0, 1, 2, 0, 3, 1, 2, 3, 0, 2, 1, 4};
  static const void* labels[5];
  labels[0] = &&add, labels[1] = &&shift, labels[2] = &&mix, labels[3] = &&negate,
  labels[4] = &&end;
  u64 a = 1, b = 3;
  count *= 1000;
  const u8* at = program;
#define NEXT goto* labels[*at++]
  NEXT;
add:
  a += b;
  NEXT;
shift:
  b = b << 1 | a >> 63;
  NEXT;
mix:
  a ^= b * 31;
  NEXT;
negate:
  b -= a;
  NEXT;
end:
  at = program;
  if (--count != 0) NEXT;
  return a + b;
}

static u64 strings(u64 count) {
  u64 length = 0;
  for (u64 i = 0; i < count * 100; ++i) {
    u8* to = g_message;
    const u64* from = g_words;
    u64 n = 1000;
    __asm__ volatile("rep movsb" : "+D"(to), "+c"(n), "+S"(from) : : "memory");
    for (u64 j = 0; j < 64; ++j) length += g_message[j];
  }
  return length;
}

__attribute__((section(".entry"), used)) u64 entry(u64 which, u64 count) {
  switch (which) {
    case 0:
      return alu(count);
    case 1:
      return load(count);
    case 2:
      return store(count);
    case 3:
      return fib(count);
    case 4:
      return collatz(count);
    case 5:
      return sorting(count);
    case 6:
      return sha256(count);
    case 7:
      return bytecode(count);
    default:
      return strings(count);
  }
}
