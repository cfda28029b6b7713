#!/usr/bin/env python3
"""primitives: what single operations cost on this host, in a guest of the software CPU, and in one of QEMU's.

usage: primitives.py BIN_DIR [--turns N] [--no-qemu] [--boot] [--json FILE] [NAME...]

One static program (primitives.cc) is run natively, as PID 1 of a guest with the engine `soft`, and as PID 1 of QEMU's `microvm` with TCG,
in turns, with the same kernel, initramfs and disk. It gives the best of some slices of each operation; here are the medians over the turns
and their ratios to native. The guests also start the host's Python three times, first thing after
boot: of these the figures are processor time of all threads. `--boot` adds figures.py's boot.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from worker import LIMIT, MEMORY_MIB, Worker, pack_layer  # noqa: E402

QEMU = ["qemu-system-x86_64", "-M", "microvm,acpi=off,isa-serial=on", "-accel", "tcg", "-cpu", "Nehalem,+rdrand",
        "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-device",
        "isa-debug-exit,iobase=0x5350,iosize=4"]
COMMAND_LINE = "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 random.trust_cpu=on mitigations=off cgroup_disable=memory"


def tsc_words():
    """QEMU's guest has no device to measure its TSC by: the rate is the host's."""
    with open("/proc/cpuinfo") as f:
        mhz = next(line.split(":")[1].strip() for line in f if line.startswith("cpu MHz"))
    return f"tsc_early_khz={round(float(mhz) * 1000)} tsc=reliable"


def make_initramfs(program, folder):
    root = os.path.join(folder, "root")
    for name in ("dev", "root"):
        os.makedirs(os.path.join(root, name))
    shutil.copy(program, os.path.join(root, "init"))
    archive = os.path.join(folder, "primitives.cpio")
    with open(archive, "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b"init\ndev\nroot\n", stdout=f, check=True)
    return archive


def make_disk(bin_dir, folder):
    """The host's Python with its standard library, as a layer of an image."""
    root = os.path.join(folder, "python")
    program = os.path.realpath("/usr/bin/python3")
    version = os.path.basename(program)
    libraries = [word for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()
                 for word in line.split() if word.startswith("/")]
    for path in [program] + libraries:
        os.makedirs(root + os.path.dirname(path), exist_ok=True)
        shutil.copy(path, root + path)
    os.symlink(version, f"{root}/usr/bin/python3")
    shutil.copytree(f"/usr/lib/{version}", f"{root}/usr/lib/{version}", ignore=shutil.ignore_patterns("config-*", "test", "dist-packages"))
    return pack_layer(bin_dir, root)


def parse(text):
    result = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2:
            try:
                result[words[0]] = float(words[1])
            except ValueError:
                pass
    return result


def processor_ns(pid):
    """Of all threads so far."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


class Marks:
    """Reads a guest's console while it runs, and the processor time of its process at each mark in it. The guest sleeps behind a mark."""

    def __init__(self, path, pid):
        self.path, self.pid, self.at = path, pid, []

    def look(self):
        try:
            with open(self.path, errors="replace") as f:
                text = f.read()
        except FileNotFoundError:
            return False
        lines = text[:text.rfind("\n") + 1].splitlines()  # the last may be half there
        names = [line.split()[1] for line in lines if line.startswith("mark ") and len(line.split()) == 2]
        if len(names) > len(self.at):
            time.sleep(0.02)
            self.at.append((names[len(self.at)], processor_ns(self.pid)))
        return "\nend " in text

    def wait(self):
        """Until the guest is done. Processor time from each mark to the next, by name."""
        limit = time.monotonic() + LIMIT
        while not self.look():
            if time.monotonic() > limit:
                sys.exit("the guest did not come to its end")
            time.sleep(0.005)
        return {name: until - ns for (name, ns), (_, until) in zip(self.at, self.at[1:])}


class Guests:
    def __init__(self, bin_dir, folder, names):
        self.bin, self.folder, self.names = bin_dir, folder, names
        self.initramfs = make_initramfs(f"{bin_dir}/primitives", folder)
        self.disk = make_disk(bin_dir, folder)
        self.log = os.path.join(folder, "console")
        self.command_line = COMMAND_LINE + (" primitives=" + ",".join(names) if names else "")

    def _result(self, pid):
        result = Marks(self.log, pid).wait()
        with open(self.log, errors="replace") as f:
            result.update(parse(f.read()))
        os.unlink(self.log)
        del result["end"]
        return result

    def native(self):
        result = {}
        for name in ("python_first", "python_second", "python_third"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(["/usr/bin/python3", "-c", "pass"], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if not self.names or name in self.names:
                result[name] = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e9
        return result | parse(subprocess.run([f"{self.bin}/primitives"], env={"primitives": ",".join(self.names)}, capture_output=True, text=True, check=True).stdout)

    def soft(self):
        worker = Worker(self.bin, self.initramfs, "soft", None, [self.disk],
                        more=["--log-sink", self.log, "--cmdline=" + self.command_line])
        result = self._result(worker.process.pid)
        worker.until("workload-exit")
        worker.end()
        return result

    def qemu(self):
        words = QEMU + ["-serial", f"file:{self.log}", "-kernel", f"{self.bin}/../guest/kernel", "-initrd", self.initramfs, "-append",
                        f"{self.command_line} {tsc_words()}", "-drive", f"if=none,id=d,format=raw,readonly=on,file={self.disk}", "-device",
                        "virtio-blk-device,drive=d"]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
            return self._result(process.pid)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("bin_dir")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--no-qemu", action="store_true")
    parser.add_argument("--boot", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_intermixed_args()
    bin_dir = os.path.abspath(arguments.bin_dir)
    with tempfile.TemporaryDirectory() as folder:
        guests = Guests(bin_dir, folder, arguments.names)
        ways = {"native": guests.native, "soft": guests.soft}
        if not arguments.no_qemu:
            ways["qemu"] = guests.qemu
        turns = [{name: run() for name, run in ways.items()} for _ in range(arguments.turns)]
        result = {way: {name: statistics.median(turn[way][name] for turn in turns) for name in turns[0][way]} for way in ways}
        if arguments.boot:
            import figures
            options = argparse.Namespace(bin_dir=bin_dir, engine="soft", runs=arguments.turns, execs=0)
            result["boot"] = figures.Bench(options, folder).boot()
    result["ratio"] = {way: {name: ns / result["native"][name] for name, ns in result[way].items() if name in result["native"]}
                       for way in ways if way != "native"}
    print_table(result)
    text = json.dumps(result, indent=2)
    if arguments.json:
        with open(arguments.json, "w") as f:
            f.write(text + "\n")
    else:
        print(text)


def print_table(result):
    ways = [way for way in ("native", "soft", "qemu") if way in result]
    print(f"{'nanoseconds':22}" + "".join(f"{way:>14}" for way in ways) + "".join(f"{way + '/native':>14}" for way in ways[1:]))
    for name in result["soft"]:
        row = "".join(f"{result[way][name]:14.2f}" if name in result[way] else f"{'-':>14}" for way in ways)
        row += "".join(f"{result['ratio'][way][name]:14.2f}" if name in result["ratio"][way] else f"{'-':>14}" for way in ways[1:])
        print(f"{name:22}{row}")
    for name, values in result.get("boot", {}).items():
        print(f"{name:34} {values['p50'] if isinstance(values, dict) else values:.1f}")


if __name__ == "__main__":
    main()
