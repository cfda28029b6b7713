#!/usr/bin/env python3
"""figures: what a user waits for, measured on real VMs. Prints JSON with medians and percentiles.

usage: figures.py BIN_DIR [--engine E] [--runs N] [--execs N] [--only boot|exec|streams|disk]... [--json FILE]

boot     worker start -> first instruction of init, -> agent ready, -> first exec answered, beside QEMU's microvm with the same kernel,
         memory and initramfs, one after the other in each round (with KVM, or with TCG where the engine is `soft`); memory of the worker above the guest's
exec     round trip of `true` in a warm VM
streams  bytes through vsock, guest to host and host to guest
disk     virtio-blk reads past the page cache, 1 MiB sequential and 4 KiB random

Without a native KVM, run it inside scripts/kvm-lab: absolute figures mean little there, ratios hold.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import qemu
from agent import Exec
from worker import LIMIT, Worker, build_static, now, pack_layer, static_initramfs


def summary(values):
    ordered = sorted(values)

    def percentile(p):
        return ordered[min(len(ordered) - 1, int(len(ordered) * p))]

    return {"runs": len(ordered), "min": ordered[0], "p50": statistics.median(ordered), "p95": percentile(0.95), "p99": percentile(0.99),
            "max": ordered[-1]}


class Bench:
    def __init__(self, arguments, folder):
        self.bin = os.path.abspath(arguments.bin_dir)
        self.engine, self.runs, self.execs = arguments.engine, arguments.runs, arguments.execs
        self.folder = folder
        self.socket = os.path.join(folder, "exec.sock")
        self.initramfs = f"{self.bin}/../guest/initramfs.cpio"
        self.layer = self._layer()

    def _layer(self):
        """A layer with two programs, the block reader and 64 MiB that no compression makes smaller."""
        root = os.path.join(self.folder, "layer")
        os.makedirs(os.path.join(root, "bin"))
        subprocess.run(["cp", "/bin/busybox", os.path.join(root, "bin")], check=True)
        for name in ("true", "dd"):
            os.symlink("busybox", os.path.join(root, "bin", name))
        build_static("read_blocks.c", os.path.join(root, "bin", "read_blocks"))
        with open(os.path.join(root, "noise"), "wb") as f:
            f.write(os.urandom(64 << 20))
        return pack_layer(self.bin, root)

    def vm(self):
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        return Worker(self.bin, self.initramfs, self.engine, self.socket, [self.layer])

    def qemu_boot(self, initramfs):
        start = now()
        done = subprocess.run(qemu.words(self.bin, self.engine, initramfs, "-serial", "null"), timeout=LIMIT, capture_output=True)
        qemu.check_end(done.returncode, done.stderr)
        return now() - start

    def boot(self):
        tiny = static_initramfs(self.folder, "tiny_init.c")
        rounds = []
        for n in range(self.runs + 1):
            # Who comes first pays for what the round before has left: they take turns.
            theirs = self.qemu_boot(tiny) if n % 2 == 0 else 0
            bare = Worker(self.bin, tiny, self.engine)
            init = bare.until("booted")
            bare.end()
            if n % 2 == 1:
                theirs = self.qemu_boot(tiny)
            full = self.vm()
            agent = full.until("agent-ready")
            first = Exec(self.socket, ["true"])
            first.wait()
            answered = now() - full.start
            memory = full.memory_kib()
            full.end()
            rounds.append((init / 1e6, theirs / 1e6, agent / 1e6, answered / 1e6, memory))
        rounds = rounds[1:]  # the first fills the page cache
        names = ("worker_to_init_ms", "qemu_to_init_ms", "worker_to_agent_ready_ms", "worker_to_first_exec_ms", "worker_memory_kib")
        result = {name: summary(values) for name, values in zip(names, zip(*rounds))}
        result["init_ratio_to_qemu"] = statistics.median(r[0] / r[1] for r in rounds)
        return result

    def exec(self):
        vm = self.vm()
        vm.until("agent-ready")
        times = []
        for n in range(self.execs + 5):
            start = now()
            Exec(self.socket, ["true"]).wait()
            if n >= 5:
                times.append((now() - start) / 1e6)
        vm.end()
        return {"exec_true_ms": summary(times)}

    def streams(self):
        vm = self.vm()
        vm.until("agent-ready")
        amount, out, into = 64 << 20, [], []
        for _ in range(5):
            start = now()
            program = Exec(self.socket, ["dd", "if=/dev/zero", "bs=64k", f"count={amount >> 16}"])
            program.wait()
            assert program.out_bytes >= amount  # dd's own report comes on top
            out.append(amount / (now() - start) * 1e9 / (1 << 20))
            start = now()
            program = Exec(self.socket, ["dd", "of=/dev/null", "bs=64k"], stdin_bytes=amount)
            assert program.wait() == 0
            into.append(amount / (now() - start) * 1e9 / (1 << 20))
        vm.end()
        return {"guest_to_host_mib_s": summary(out), "host_to_guest_mib_s": summary(into)}

    def disk(self):
        vm = self.vm()
        vm.until("agent-ready")
        result = {}
        for mode in ("sequential", "random"):
            rates, reads_s = [], []
            for _ in range(5):
                program = Exec(self.socket, ["read_blocks", "/dev/vda", mode, "1"], keep=True)
                if program.wait() != 0:
                    sys.exit("read_blocks failed")
                total, reads, ns = map(int, program.kept.split())
                rates.append(total / ns * 1e9 / (1 << 20))
                reads_s.append(reads / ns * 1e9)
            result[f"disk_{mode}_mib_s"] = summary(rates)
            result[f"disk_{mode}_reads_s"] = summary(reads_s)
        vm.end()
        return result


def main(usage, make, names, runs, more=()):
    """Runs the benchmarks `names` (all, or those of --only), methods of what `make` gives, and prints their figures."""
    parser = argparse.ArgumentParser(usage=usage)
    parser.add_argument("bin_dir")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--runs", type=int, default=runs)
    for flag, default in more:
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = make(arguments, folder)
        for name in arguments.only or names:
            result.update(getattr(bench, name)())
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        with open(arguments.json, "w") as f:
            f.write(text + "\n")


if __name__ == "__main__":
    main(__doc__, Bench, ("boot", "exec", "streams", "disk"), runs=10, more=[("--execs", 200)])
