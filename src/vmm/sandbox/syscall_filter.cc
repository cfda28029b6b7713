#include "vmm/sandbox/syscall_filter.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "vmm/cpu/kvm/running_ioctls.h"

namespace sm::sandbox {

namespace {

struct Rule {
  int number;
  std::uint32_t action = SCMP_ACT_ALLOW;
  std::vector<scmp_arg_cmp> when = {};  // all of them
};

constexpr std::uint64_t kLow32 = 0xFFFF'FFFF;

// The kernel reads these arguments as 32-bit numbers, so the upper half is not looked at.
scmp_arg_cmp is(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, kLow32, value & kLow32};
}
scmp_arg_cmp is_null(unsigned argument) { return {argument, SCMP_CMP_EQ, 0, 0}; }
scmp_arg_cmp lacks(unsigned argument, std::uint64_t bits) {
  return {argument, SCMP_CMP_MASKED_EQ, bits, 0};
}

// Bytes through descriptors that are open: disks, console, sockets, eventfds.
constexpr std::array kInputOutput = {
    SYS_read,    SYS_write,     SYS_readv,   SYS_writev,     SYS_pread64,   SYS_pwrite64,
    SYS_preadv,  SYS_pwritev,   SYS_preadv2, SYS_pwritev2,   SYS_lseek,     SYS_fdatasync,
    SYS_fsync,   SYS_fallocate, SYS_fstat,   SYS_close,      SYS_recvfrom,  SYS_recvmsg,
    SYS_sendmsg, SYS_shutdown,  SYS_accept4, SYS_epoll_wait, SYS_epoll_ctl, SYS_epoll_pwait};

// The program's own threads, time and memory.
constexpr std::array kProcess = {
    SYS_futex,          SYS_sched_yield,     SYS_sched_getaffinity, SYS_gettid,
    SYS_getpid,         SYS_geteuid,         SYS_set_robust_list,   SYS_rseq,
    SYS_rt_sigprocmask, SYS_rt_sigreturn,    SYS_sigaltstack,       SYS_restart_syscall,
    SYS_clock_gettime,  SYS_clock_nanosleep, SYS_nanosleep,         SYS_brk,
    SYS_munmap,         SYS_mremap,          SYS_madvise,           SYS_getrandom,
    SYS_exit,           SYS_exit_group};

void add_all(std::vector<Rule>& rules, std::span<const int> numbers) {
  for (const int number : numbers) rules.push_back({number});
}

// A new thread of this process, as pthread_create asks for it; never a process.
void add_threads(std::vector<Rule>& rules) {
  constexpr std::uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                    CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                                    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  rules.push_back({SYS_clone, SCMP_ACT_ALLOW, {{0, SCMP_CMP_EQ, kThread, 0}}});
  // Its flags lie in memory, where no filter sees them. The C library then takes clone.
  rules.push_back({SYS_clone3, SCMP_ACT_ERRNO(ENOSYS)});
  // What a thread does first may come after the seal.
  for (const int what : {PR_SET_NAME, PR_SET_TIMERSLACK}) {
    rules.push_back({SYS_prctl, SCMP_ACT_ALLOW, {is(0, static_cast<std::uint64_t>(what))}});
  }
  // The first pthread_create handles the signal that the C library keeps for setuid().
  constexpr std::uint64_t kSetIdSignal = 33;
  rules.push_back({SYS_rt_sigaction, SCMP_ACT_ALLOW, {is(0, kSetIdSignal)}});
}

// The process that writes a snapshot's memory while the guest goes on: a fork, nothing executed.
void add_fork(std::vector<Rule>& rules) {
  constexpr std::uint64_t kFork = CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD;
  rules.push_back({SYS_clone, SCMP_ACT_ALLOW, {{0, SCMP_CMP_EQ, kFork, 0}}});
  rules.push_back({SYS_prctl, SCMP_ACT_ALLOW, {is(0, PR_SET_PDEATHSIG)}});
  for (const int number : {SYS_wait4, SYS_pipe2, SYS_close_range, SYS_copy_file_range}) {
    rules.push_back({number});
  }
  // Of the guest's disk, into a file that the parent has sent: shared blocks instead of a copy.
  rules.push_back({SYS_ioctl, SCMP_ACT_ALLOW, {is(1, FICLONE)}});
}

// Memory never becomes code.
void add_memory(std::vector<Rule>& rules) {
  rules.push_back({SYS_mmap, SCMP_ACT_ALLOW, {lacks(2, PROT_EXEC)}});
  rules.push_back({SYS_mprotect, SCMP_ACT_ALLOW, {lacks(2, PROT_EXEC)}});
}

void add_descriptors(std::vector<Rule>& rules) {
  for (const int command : {F_GETFL, F_SETFL, F_GETFD, F_SETFD}) {
    rules.push_back({SYS_fcntl, SCMP_ACT_ALLOW, {is(1, static_cast<std::uint64_t>(command))}});
  }
  // Data to a connected peer; an address would name another one.
  rules.push_back({SYS_sendto, SCMP_ACT_ALLOW, {is_null(4)}});
  // Who is at the other end; and a close that the other end sees as a reset.
  rules.push_back({SYS_getsockopt, SCMP_ACT_ALLOW, {is(1, SOL_SOCKET), is(2, SO_PEERCRED)}});
  rules.push_back({SYS_setsockopt, SCMP_ACT_ALLOW, {is(1, SOL_SOCKET), is(2, SO_LINGER)}});
}

void add_engine(std::vector<Rule>& rules, EngineCalls engine) {
  // The kick of a vCPU, and abort().
  rules.push_back({SYS_tgkill, SCMP_ACT_ALLOW, {is(0, static_cast<std::uint64_t>(::getpid()))}});
  if (engine != EngineCalls::kKvm) return;
  for (const unsigned long request : kvm::running_ioctls()) {
    rules.push_back({SYS_ioctl, SCMP_ACT_ALLOW, {is(1, request)}});
  }
}

// The end of the exec socket: the path is in memory, so only Landlock can say which file it may be.
// Without it the file stays behind.
void add_files(std::vector<Rule>& rules, Landlock files) {
  rules.push_back({SYS_newfstatat});
  rules.push_back({SYS_lstat});
  rules.push_back(
      {SYS_unlink, files == Landlock::kActive ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM)});
}

std::vector<Rule> rules_for(const SealOptions& options) {
  std::vector<Rule> rules;
  add_engine(rules, options.engine);
  add_all(rules, kInputOutput);
  add_all(rules, kProcess);
  add_threads(rules);
  add_fork(rules);
  add_memory(rules);
  add_descriptors(rules);
  add_files(rules, options.files);
  return rules;
}

struct Release {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, Release>;

Status checked(int result, const char* what) {
  if (result == 0) return {};
  return fail_errno(std::string("sandbox: ") + what, -result);
}

}  // namespace

Status install_filter(const SealOptions& options) {
  const Filter filter(::seccomp_init(SCMP_ACT_TRAP));
  if (!filter) return fail(Code::kInternal, "sandbox: no memory for a filter");
  constexpr std::uint32_t kBinarySearch = 2;
  SM_TRY_STATUS(
      checked(::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
              "foreign calls"));
  SM_TRY_STATUS(checked(::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1), "threads"));
  SM_TRY_STATUS(checked(::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, kBinarySearch),
                        "order of rules"));
  for (const Rule& rule : rules_for(options)) {
    SM_TRY_STATUS(
        checked(::seccomp_rule_add_array(filter.get(), rule.action, rule.number,
                                         static_cast<unsigned>(rule.when.size()), rule.when.data()),
                "add a rule"));
  }
  return checked(::seccomp_load(filter.get()), "install the system call filter");
}

}  // namespace sm::sandbox
