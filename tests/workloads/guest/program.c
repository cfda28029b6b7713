// What a compiler makes of: integers of all widths, floats, long doubles, structs, recursion, tables, strings, threads.
#include <complex.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252ull;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static unsigned ackermann(unsigned m, unsigned n) {
  return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static double matrix(void) {
  enum { n = 40 };
  static double a[n][n], b[n][n], c[n][n];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) a[i][j] = (double)(int64_t)next() / 1e18, b[i][j] = (float)next() / 1e19f;
  double sum = 0;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      for (int k = 0; k < n; k++) c[i][j] += a[i][k] * b[k][j];
      sum += c[i][j];
    }
  return sum;
}

static int compare(const void* x, const void* y) {
  uint32_t a = *(const uint32_t*)x, b = *(const uint32_t*)y;
  return (a > b) - (a < b);
}

static _Atomic uint64_t shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t guarded;
static void* add(void* times) {
  for (long i = 0; i < (long)times; i++) {
    atomic_fetch_add(&shared, 3);
    pthread_mutex_lock(&mutex);
    guarded = guarded * 1 + 7;
    pthread_mutex_unlock(&mutex);
  }
  return 0;
}

int main(void) {
  uint64_t h = 0;
  for (int i = 0; i < 200000; i++) {
    uint64_t x = next();
    h = h * 31 + (uint8_t)x + (uint16_t)(x >> 9) * (int8_t)(x >> 3) + (int32_t)x / (int32_t)((x >> 40) | 1) + x % ((x >> 33) | 1);
    h ^= (uint64_t)__builtin_popcountll(x) << (x & 63);
    h += (uint64_t)(((unsigned __int128)x * h) >> 64) + (uint64_t)__builtin_clzll(x | 1) + (uint64_t)__builtin_ctzll(x | 1);
    h = __builtin_bswap64(h) ^ (h >> 7 | h << 57);
  }
  printf("%016llx %u %.17g\n", (unsigned long long)h, ackermann(2, 300), matrix());

  long double l = 1;
  double d = 0;
  float f = 1;
  for (int i = 1; i < 3000; i++) {
    l = l * 1.000001L + sqrtl(i) / (i + 0.5L);
    d += sin(i) * cos(i * 0.5) + tan(i * 0.001) + exp(-i * 0.01) + pow(i, 0.3) + log(i) + cbrt(i) + erf(i * 0.001) + fmod(i * 1.7, 0.3);
    f = f * 1.0001f + sqrtf((float)i) - floorf((float)i * 0.3f) + (float)(i >> 3);
  }
  printf("%.20Lg %.17g %.9g\n", l, d, f);
  printf("%.20Lg %.20Lg %.20Lg %.20Lg\n", sinl(1e10L), expl(3.25L), logl(7), atan2l(-1, 3));
  double complex z = cexp(0.3 + 2.1 * I) * csqrt(-2 + 0.1 * I) / (1.5 - 0.7 * I);
  printf("%.17g %.17g %.17g\n", creal(z), cimag(z), cabs(z));
  printf("%ld %lld %d %llu\n", lrint(2.5), llround(-2.5), (int)-3.99, (unsigned long long)1.8e19);

  enum { count = 20000 };
  static uint32_t numbers[count];
  for (int i = 0; i < count; i++) numbers[i] = (uint32_t)next();
  qsort(numbers, count, sizeof *numbers, compare);
  uint32_t sum = 0;
  for (int i = 0; i < count; i++) sum = sum * 33 + numbers[i];
  char text[400] = "";
  for (int i = 0; i < 20; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%x-%d;", numbers[i * 900], i);
  printf("%u %zu %s %s\n", sum, strspn(text, "0123456789abcdef-"), strstr(text, "-7;"), strrchr(text, '-'));

  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, add, (void*)20000L);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
  printf("%llu %llu\n", (unsigned long long)shared, (unsigned long long)guarded);
}
