"""What the machine says about itself and its clocks. Prints only what must be the same everywhere."""

import os
import re
import resource
import threading
import time


def read(path):
    with open(path) as f:
        return f.read()


def check(name, good, detail=""):
    print(name, "ok" if good else f"WRONG {detail}")


cpuinfo = read("/proc/cpuinfo")
check("cpus", len(re.findall(r"^processor\s*:", cpuinfo, re.M)) == os.cpu_count(), os.cpu_count())
mhz = [float(x) for x in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.M)]
check("MHz", all(100 < x < 10000 for x in mhz), mhz)
memory = dict(re.findall(r"^(\w+):\s+(\d+)", read("/proc/meminfo"), re.M))
check("meminfo", 0 < int(memory["MemAvailable"]) <= int(memory["MemTotal"]), memory)
check("version", read("/proc/version").startswith("Linux version "))
check("uptime", 0 < float(read("/proc/uptime").split()[0]) < 1e8)
check("loadavg", all(0 <= float(x) < 1000 for x in read("/proc/loadavg").split()[:3]), read("/proc/loadavg"))
check("wall clock", time.time() > 1.7e9, time.time())

for name in ("CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW", "CLOCK_MONOTONIC_COARSE"):
    clock = getattr(time, name, None)
    if clock is None:
        continue
    backwards, last = 0, 0
    for _ in range(20000):
        now = time.clock_gettime_ns(clock)
        backwards += now < last
        last = now
    check(name, backwards == 0, backwards)

# Across CPUs: what one thread has read, another may not see later than its own clock.
latest, wrong = [0], []


def watch(cpu):
    os.sched_setaffinity(0, {cpu})
    for _ in range(3000):
        before = latest[0]
        now = time.monotonic_ns()
        if now < before:
            wrong.append((cpu, before - now))
        latest[0] = max(latest[0], now)


allowed = sorted(os.sched_getaffinity(0))
threads = [threading.Thread(target=watch, args=(allowed[n % len(allowed)],)) for n in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
check("monotonic across CPUs", not wrong, wrong[:3])
os.sched_setaffinity(0, allowed)

for duration in (0.001, 0.01, 0.1, 0.5):
    early, late = 0, 0
    for _ in range(3):
        start = time.monotonic()
        time.sleep(duration)
        slept = time.monotonic() - start
        early += slept < duration
        late += slept > duration + 5  # another guest may have the processor
    check(f"sleep {duration}", early == 0 and late == 0, (early, late))

mono, real = time.clock_gettime(time.CLOCK_MONOTONIC), time.time()
time.sleep(1)
mono, real = time.clock_gettime(time.CLOCK_MONOTONIC) - mono, time.time() - real
check("clocks agree", abs(mono - real) < 0.2, (mono, real))

start, cpu = time.monotonic(), time.process_time()
while time.process_time() - cpu < 0.2:
    pass
check("CPU time is not more than time", time.monotonic() - start > 0.15, time.monotonic() - start)
usage = resource.getrusage(resource.RUSAGE_SELF)
check("rusage", usage.ru_utime + usage.ru_stime > 0.1 and usage.ru_maxrss > 1000, usage)

ticks = os.sysconf("SC_CLK_TCK")
first = [int(x) for x in read("/proc/stat").split("\n")[0].split()[1:]]
time.sleep(0.5)
second = [int(x) for x in read("/proc/stat").split("\n")[0].split()[1:]]
check("stat", all(b >= a for a, b in zip(first, second)) and ticks == 100, (first, second))
before = read("/proc/interrupts") if os.path.exists("/proc/interrupts") else "LOC"
check("interrupts", "LOC" in before)
check("random", len({os.urandom(16) for _ in range(1000)}) == 1000)
check("maps", "[stack]" in read("/proc/self/maps") and "[vdso]" in read("/proc/self/maps"))
check("pagesize", os.sysconf("SC_PAGE_SIZE") == 4096)
