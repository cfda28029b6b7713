// Joins the groups of MMX and SSE operations, and those of x87.
#include <cpuid.h>

#include <vector>

#include "vmm/cpu/soft/exec/groups.h"
#include "vmm/cpu/soft/exec/vector_common.h"
#include "vmm/cpu/soft/exec/x87_control.h"
#include "vmm/cpu/soft/exec/x87_fast.h"
#include "vmm/cpu/soft/exec/x87_general.h"
#include "vmm/cpu/soft/exec/x87_host.h"

namespace sm::soft {

namespace {

struct HostFeatures {
  bool aes = false, pclmul = false, sha = false;
};
HostFeatures host_features() {
  constexpr unsigned kAes = 1u << 25, kPclmul = 1u << 1, kSha = 1u << 29;
  HostFeatures found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0) {
    found.aes = (c & kAes) != 0;
    found.pclmul = (c & kPclmul) != 0;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) found.sha = (b & kSha) != 0;
  return found;
}

// Whether the host has an operation that it has to execute for the guest. What it lacks is left out
// and so undefined for the guest, too, whatever CPUID tells it. SSE4.2 is taken for granted.
bool host_has(Op op) {
  // Asked once: in a virtual machine the question costs microseconds.
  static const HostFeatures features = host_features();
  if (op >= Op::kAesenc && op <= Op::kAeskeygenassist) return features.aes;
  if (op == Op::kPclmulqdq) return features.pclmul;
  if (op >= Op::kSha1rnds4 && op <= Op::kSha256msg2) return features.sha;
  return true;
}

std::vector<SemanticEntry> vector_groups() {
  std::vector<SemanticEntry> all;
  for (const auto group :
       {vector_integer_semantics(), vector_float_semantics(), vector_convert_semantics(),
        vector_move_semantics(), vector_immediate_semantics(), vector_text_semantics(),
        vector_state_semantics()}) {
    for (const SemanticEntry& entry : group) {
      if (host_has(entry.op)) {
        all.push_back(entry);
      }
    }
  }
  return all;
}

// The general way for everything that the host can execute; over it what is quicker, and control.
std::vector<SemanticEntry> x87_groups() {
  constexpr auto kFirst = static_cast<unsigned>(Op::kFld);
  std::vector<SemanticEntry> all;
  for (unsigned op = kFirst; op <= static_cast<unsigned>(Op::kFwait); ++op) {
    all.push_back({static_cast<Op>(op), x87_general});
  }
  for (const auto group : {x87_control_semantics(), x87_fast_semantics()}) {
    for (const SemanticEntry& entry : group) {
      all[static_cast<unsigned>(entry.op) - kFirst] = entry;
    }
  }
  return all;
}

}  // namespace

std::span<const SemanticEntry> vector_semantics() {
  static const std::vector<SemanticEntry> all = vector_groups();
  return all;
}

std::span<const SemanticEntry> x87_semantics() {
  static const std::vector<SemanticEntry> all = x87_groups();
  return all;
}

}  // namespace sm::soft
