// PID 1 for machines that are saved and restored: writes "ready" to the first serial port and looks, ten times a millisecond, whether it is
// a copy by now. The worker's machine has another generation then, and answers by the doorbell's "booted". One of QEMU's has a processor
// with another name, and answers by a line of the kernel's: ports are no way there, since KVM on QEMU's emulated SVM (scripts/kvm-lab) leaves
// a restored machine's programs without any.
#include <cpuid.h>
#include <fcntl.h>
#include <string.h>
#include <sys/io.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { kData = 0x3f8, kLineStatus = 0x3fd, kCanSend = 0x20 };
enum { kEvent = 0x5350, kGeneration = 0x5354, kMagicPort = 0x5358, kMagic = 0x31424453 };

// Whether the processor's name begins with "restored".
static int is_restored(void) {
  unsigned name[4];
  return __get_cpuid(0x80000002, &name[0], &name[1], &name[2], &name[3]) && memcmp(name, "restored", 8) == 0;
}

int main(void) {
  static const char answer[] = "<0>restored\n";
  const struct timespec pause = {0, 100 * 1000};
  if (iopl(3) != 0) return 1;
  mkdir("/dev", 0755);
  mknod("/dev/kmsg", S_IFCHR | 0600, makedev(1, 11));
  const int kernel = open("/dev/kmsg", O_WRONLY);
  if (kernel < 0) return 1;
  const int is_ours = inl(kMagicPort) == kMagic;
  if (is_ours) outl(2u << 24, kEvent);  // "agent ready": only such a machine's copies have a generation of their own
  for (const char* at = "ready\n"; *at != 0; ++at) {
    while ((inb(kLineStatus) & kCanSend) == 0) {
    }
    outb((unsigned char)*at, kData);
  }
  if (is_ours) {
    while (inl(kGeneration) == 0) nanosleep(&pause, 0);
    outl(1u << 24, kEvent);
  } else {
    while (!is_restored()) nanosleep(&pause, 0);
    write(kernel, answer, sizeof(answer) - 1);
  }
  for (;;) nanosleep(&pause, 0);
}
