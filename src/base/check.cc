#include "base/check.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace sm {

void check_failed(const char* condition, const char* file, int line) {
  // Only async-signal-safe calls: the heap may be what is broken.
  char digits[16];
  std::size_t n = sizeof(digits);
  digits[--n] = '\n';
  for (unsigned v = line > 0 ? static_cast<unsigned>(line) : 0; n > 1; v /= 10) {
    digits[--n] = static_cast<char>('0' + v % 10);
    if (v < 10) break;
  }
  const auto put = [](const char* text, std::size_t size) {
    if (::write(2, text, size) < 0) return;
  };
  put("check failed: ", 14);
  put(condition, std::strlen(condition));
  put(" at ", 4);
  put(file, std::strlen(file));
  put(":", 1);
  put(digits + n, sizeof(digits) - n);
  std::abort();
}

}  // namespace sm
