// SM_CHECK: our own invariants, on in release builds too. Never on bytes from guest, image, peer or
// snapshot.
#pragma once

namespace sm {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace sm

#define SM_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::sm::check_failed(#condition, __FILE__, __LINE__))
