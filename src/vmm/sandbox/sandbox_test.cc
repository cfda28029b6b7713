// Each case runs in a child process: a sealed process stays sealed.
#include "vmm/sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include "base/file.h"

namespace sm::sandbox {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

void seal_or_exit(const SealOptions& options) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) std::_Exit(90);
  if (!seal(options)) std::_Exit(91);
}

// Sealed, does `what`; status 0 when it says true.
[[noreturn]] void sealed(const SealOptions& options, const std::function<bool()>& what) {
  seal_or_exit(options);
  std::_Exit(what() ? 0 : 1);
}

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return ::syscall(number, a, b, c, d, e);
}

class Sandbox : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "sanitizers need system calls of their own";
  }
};

struct Forbidden {
  const char* name;
  long number;
  long a, b, c, d, e;
};

void PrintTo(const Forbidden& call, std::ostream* out) { *out << call.name; }

class ForbiddenCall : public ::testing::TestWithParam<Forbidden> {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "sanitizers need system calls of their own";
  }
};

TEST_P(ForbiddenCall, ends_the_process_and_is_named) {
  const Forbidden& f = GetParam();
  const std::string message = "sandbox: forbidden system call " + std::to_string(f.number) + " ";
  EXPECT_EXIT(sealed({}, [&] { return call(f.number, f.a, f.b, f.c, f.d, f.e) < 0; }),
              ::testing::KilledBySignal(SIGSYS), message);
}

constexpr long kPages = 8192;
INSTANTIATE_TEST_SUITE_P(
    All, ForbiddenCall,
    ::testing::Values(
        Forbidden{"execve", SYS_execve}, Forbidden{"openat", SYS_openat, AT_FDCWD},
        Forbidden{"open", SYS_open}, Forbidden{"fork", SYS_fork}, Forbidden{"vfork", SYS_vfork},
        Forbidden{"process", SYS_clone, SIGCHLD},
        Forbidden{"thread_in_namespace", SYS_clone, 0x3d0f00 | CLONE_NEWUSER},
        Forbidden{"socket", SYS_socket, AF_UNIX, SOCK_STREAM}, Forbidden{"connect", SYS_connect},
        Forbidden{"sendto_address", SYS_sendto, 1, 0, 0, 0, 1}, Forbidden{"ptrace", SYS_ptrace},
        Forbidden{"process_vm_readv", SYS_process_vm_readv},
        Forbidden{"code", SYS_mmap, 0, kPages, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1},
        Forbidden{"data_to_code", SYS_mprotect, 0, kPages, PROT_EXEC},
        Forbidden{"kill", SYS_kill, 1, 0}, Forbidden{"tgkill_another", SYS_tgkill, 1, 1, 0},
        Forbidden{"handler", SYS_rt_sigaction, SIGSYS},
        Forbidden{"dumpable", SYS_prctl, PR_SET_DUMPABLE, 1},
        Forbidden{"unshare", SYS_unshare, CLONE_NEWUSER}, Forbidden{"bpf", SYS_bpf},
        Forbidden{"io_uring", SYS_io_uring_setup}, Forbidden{"memfd", SYS_memfd_create},
        Forbidden{"mount", SYS_mount}, Forbidden{"rename", SYS_rename},
        Forbidden{"terminal_input", SYS_ioctl, 0, TIOCSTI},
        Forbidden{"new_vm", SYS_ioctl, 0, KVM_CREATE_VM},
        Forbidden{"kvm_run", SYS_ioctl, 0, KVM_RUN},
        Forbidden{"dup_above", SYS_fcntl, 0, F_DUPFD, 3}, Forbidden{"setrlimit", SYS_prlimit64},
        Forbidden{"unknown", 1000}),
    [](const auto& test) { return std::string(test.param.name); });

// The 32-bit entry has numbers of its own: 11 there is execve, munmap here.
TEST_F(Sandbox, calls_of_another_architecture_end_the_process) {
  EXPECT_EXIT(sealed({},
                     [] {
                       long result = 11;
                       asm volatile("int $0x80" : "+a"(result) : "b"(0), "c"(0), "d"(0) : "memory");
                       return result < 0;
                     }),
              ::testing::KilledBySignal(SIGSYS), "");
  constexpr long kX32 = 0x4000'0000;
  EXPECT_EXIT(sealed({}, [] { return call(kX32 | SYS_getpid) < 0; }),
              ::testing::KilledBySignal(SIGSYS), "");
}

TEST_F(Sandbox, threads_that_were_there_before_are_sealed_too) {
  EXPECT_EXIT(
      {
        std::atomic<bool> go = false;
        std::thread early([&] {
          go.wait(false);
          call(SYS_socket, AF_UNIX, SOCK_STREAM);
          std::_Exit(0);
        });
        seal_or_exit({});
        go = true;
        go.notify_one();
        early.join();
      },
      ::testing::KilledBySignal(SIGSYS), "forbidden system call 41 ");
}

TEST_F(Sandbox, the_c_library_can_still_start_threads_and_allocate) {
  EXPECT_EXIT(sealed({},
                     [] {
                       std::string big(8u << 20, 'x');
                       std::size_t seen = 0;
                       std::thread([&] {
                         ::pthread_setname_np(::pthread_self(), "late");
                         seen = std::string(big + big).size();
                       }).join();
                       return seen == 2 * big.size();
                     }),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(Sandbox, abort_is_still_an_abort) {
  EXPECT_EXIT(sealed({}, []() -> bool { std::abort(); }), ::testing::KilledBySignal(SIGABRT), "");
}

TEST_F(Sandbox, open_sockets_go_on_working) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  EXPECT_EXIT(sealed({},
                     [&] {
                       char byte = 'a';
                       return ::send(pair[0], &byte, 1, MSG_NOSIGNAL) == 1 &&
                              ::recv(pair[1], &byte, 1, 0) == 1 &&
                              ::shutdown(pair[0], SHUT_WR) == 0 &&
                              ::recv(pair[1], &byte, 1, 0) == 0 && ::close(pair[0]) == 0;
                     }),
              ::testing::ExitedWithCode(0), "");
  ::close(pair[0]);
  ::close(pair[1]);
}

// No KVM here: what counts is that the kernel is asked at all.
TEST_F(Sandbox, the_kvm_engine_has_its_ioctls_and_no_others) {
  const SealOptions kvm{.engine = EngineCalls::kKvm};
  EXPECT_EXIT(sealed(kvm, [] { return call(SYS_ioctl, 9999, KVM_RUN) < 0 && errno == EBADF; }),
              ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(sealed(kvm, [] { return call(SYS_ioctl, 9999, KVM_CREATE_VM) < 0; }),
              ::testing::KilledBySignal(SIGSYS), "forbidden system call 16 ");
}

TEST_F(Sandbox, no_core_files_few_descriptors_and_private_memory) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    seal_or_exit({});
    char byte = 'r';
    std::_Exit(::write(pair[1], &byte, 1) == 1 && ::read(pair[1], &byte, 1) == 1 ? 0 : 1);
  }
  char byte = 0;
  EXPECT_EQ(::read(pair[0], &byte, 1), 1);
  rlimit core{}, files{};
  EXPECT_EQ(::prlimit(child, RLIMIT_CORE, nullptr, &core), 0);
  EXPECT_EQ(::prlimit(child, RLIMIT_NOFILE, nullptr, &files), 0);
  EXPECT_EQ(core.rlim_max, 0u);
  EXPECT_LE(files.rlim_max, 2048u);
  // The files of a process that cannot be dumped belong to root; a user sees that of his own.
  struct stat memory {};
  EXPECT_EQ(::stat(("/proc/" + std::to_string(child) + "/mem").c_str(), &memory), 0);
  EXPECT_EQ(memory.st_uid, 0u);
  EXPECT_EQ(::write(pair[0], &byte, 1), 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(pair[0]);
  ::close(pair[1]);
}

class HiddenFiles : public Sandbox {
 protected:
  void SetUp() override {
    Sandbox::SetUp();
    char name[] = "/tmp/sandbox-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (folder_.empty()) return;
    ::unlink((folder_ + "/file").c_str());
    ::rmdir(folder_.c_str());
  }
  std::string file() const { return folder_ + "/file"; }

  std::string folder_;
};

TEST_F(HiddenFiles, nothing_opens_but_what_is_open_stays) {
  if (landlock_version() < 1) GTEST_SKIP() << "no Landlock";
  const UniqueFd open = open_file(file(), O_RDWR | O_CREAT, 0600).value();
  EXPECT_EXIT(
      {
        const auto hidden = hide_files("");
        const bool good = hidden && *hidden == Landlock::kActive &&
                          !open_file("/etc/passwd", O_RDONLY) && !open_file(file(), O_RDONLY) &&
                          ::unlink(file().c_str()) < 0 && ::write(open.get(), "x", 1) == 1;
        std::_Exit(good ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

TEST_F(HiddenFiles, the_socket_may_come_and_go_and_no_other_file) {
  if (landlock_version() < 1) GTEST_SKIP() << "no Landlock";
  char other[] = "/tmp/sandbox-other-XXXXXX";
  const UniqueFd elsewhere(::mkostemp(other, O_CLOEXEC));
  ASSERT_TRUE(open_file(file(), O_RDWR | O_CREAT, 0600));
  EXPECT_EXIT(
      {
        const auto hidden = hide_files(file());
        seal_or_exit({.files = *hidden});
        const bool good = ::unlink(other) < 0 && ::unlink(file().c_str()) == 0;
        std::_Exit(good ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
  ::unlink(other);
}

TEST_F(HiddenFiles, without_landlock_no_file_is_removed) {
  ASSERT_TRUE(open_file(file(), O_RDWR | O_CREAT, 0600));
  EXPECT_EXIT(sealed({.files = Landlock::kAbsent},
                     [&] { return ::unlink(file().c_str()) < 0 && errno == EPERM; }),
              ::testing::ExitedWithCode(0), "");
}

TEST_F(HiddenFiles, capabilities_and_inherited_descriptors_are_gone) {
  EXPECT_EXIT(
      {
        const int inherited = ::open("/dev/null", O_RDONLY);
        const int ours = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        const UniqueFd status = open_file("/proc/self/status", O_RDONLY).value();
        const bool hidden = hide_files("").has_value();
        char text[8192] = {};
        const bool read = ::read(status.get(), text, sizeof(text) - 1) > 0;
        const bool good =
            hidden && read && ::fcntl(inherited, F_GETFD) < 0 && ::fcntl(ours, F_GETFD) >= 0 &&
            std::string(text).find("CapEff:\t0000000000000000") != std::string::npos &&
            std::string(text).find("NoNewPrivs:\t1") != std::string::npos;
        std::_Exit(good ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace sm::sandbox
