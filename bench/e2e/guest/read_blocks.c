// read_blocks PATH MODE SECONDS: reads a block device past the page cache for that long and prints bytes, reads and nanoseconds.
// MODE: "sequential" in 1 MiB pieces, "random" in 4 KiB pieces at positions of a fixed pseudo-random sequence.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <time.h>
#include <unistd.h>

static unsigned long long now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int random = strcmp(argv[2], "random") == 0;
  const size_t piece = random ? 4096 : 1 << 20;
  const int fd = open(argv[1], O_RDONLY | O_DIRECT);
  void* buffer;
  unsigned long long size = 0;
  if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0 || posix_memalign(&buffer, 4096, piece) != 0) {
    perror(argv[1]);
    return 1;
  }
  const unsigned long long pieces = size / piece;
  const unsigned long long start = now_ns(), end = start + (unsigned long long)(atof(argv[3]) * 1e9);
  unsigned long long reads = 0, at = 0, seed = 1, now;
  while ((now = now_ns()) < end) {
    if (random) seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    at = random ? (seed >> 33) % pieces : reads % pieces;
    if (pread(fd, buffer, piece, (off_t)(at * piece)) != (ssize_t)piece) {
      perror("pread");
      return 1;
    }
    ++reads;
  }
  printf("%llu %llu %llu\n", reads * piece, reads, now - start);
  return 0;
}
