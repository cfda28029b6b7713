// What the thread sanitizer is told about guest memory. vCPUs read and write it as their guest
// says, without any order of ours, and with plain accesses, since those are what the host's
// processor orders as the guest expects (x86-TSO on x86-TSO). So while a vCPU executes instructions
// its plain accesses are not looked at; its atomic operations and locks are, and so is everything
// that it does in the platform (APICs, clocks), which is under OrderedAccess again. Without the
// sanitizer both are nothing. Thread: a vCPU's own. Scopes of the two kinds alternate.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define SM_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SM_THREAD_SANITIZER 1
#endif
#endif

#ifdef SM_THREAD_SANITIZER
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace sm::soft {

namespace sanitizer {
inline void ignore_accesses() {
#ifdef SM_THREAD_SANITIZER
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}
inline void watch_accesses() {
#ifdef SM_THREAD_SANITIZER
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}
}  // namespace sanitizer

class UnorderedAccess {
 public:
  UnorderedAccess() { sanitizer::ignore_accesses(); }
  ~UnorderedAccess() { sanitizer::watch_accesses(); }
  UnorderedAccess(const UnorderedAccess&) = delete;
  UnorderedAccess& operator=(const UnorderedAccess&) = delete;
  UnorderedAccess(UnorderedAccess&&) = delete;
  UnorderedAccess& operator=(UnorderedAccess&&) = delete;
};

// Inside of an UnorderedAccess only.
class OrderedAccess {
 public:
  OrderedAccess() { sanitizer::watch_accesses(); }
  ~OrderedAccess() { sanitizer::ignore_accesses(); }
  OrderedAccess(const OrderedAccess&) = delete;
  OrderedAccess& operator=(const OrderedAccess&) = delete;
  OrderedAccess(OrderedAccess&&) = delete;
  OrderedAccess& operator=(OrderedAccess&&) = delete;
};

}  // namespace sm::soft
