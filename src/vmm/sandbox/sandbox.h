// The worker's sandbox: what a process that runs a guest may still ask of the host's kernel. Closed
// in two steps, because the first must come before the threads and the second after everything that
// only a start needs. Main thread. See docs/design/0007-worker-sandbox.md.
//
//   open every input
//   Landlock files = SM_TRY(hide_files(...));    // one thread
//   choose an engine, build the machine          // threads appear; none has run the guest
//   SM_TRY_STATUS(seal({.engine = ..., .files = files}));
//   start the vCPUs
//
// A forbidden system call ends the whole process with SIGSYS, after a line on standard error that
// names it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sm::sandbox {

// Whether the kernel keeps this process from files that it has not opened.
enum class Landlock : std::uint8_t { kAbsent, kActive };

// Step 1: no capabilities, no new privileges, no descriptors that a parent left open, and no files
// but the KVM device and the unix socket that will be created at `socket_path` ("" = none), which
// may be removed again. What this process has opened (close-on-exec) stays open. kAbsent on a
// kernel without Landlock; that is no error, as seal() forbids opening files anyway. Limit: only
// the calling thread and those that it starts later; so call it while there is one.
Result<Landlock> hide_files(const std::string& socket_path);

enum class EngineCalls : std::uint8_t { kKvm, kSoft };

struct SealOptions {
  EngineCalls engine = EngineCalls::kSoft;
  Landlock files = Landlock::kAbsent;
};

// Step 2, all threads: limits are set, other processes of this user cannot read the memory, and
// only the system calls of a running VM are left. Irrevocable. An error means the process is not
// sealed and must not run a guest.
Status seal(const SealOptions& options);

// Whether seal() can work on this host: one line for people, or the error that it would give.
Result<std::string> supported();

// The version of Landlock in this kernel; below 1: none.
long landlock_version();

// The engine's name as select_engine gives it.
inline EngineCalls calls_of(std::string_view engine_name) {
  return engine_name == "kvm" ? EngineCalls::kKvm : EngineCalls::kSoft;
}

}  // namespace sm::sandbox
