#!/usr/bin/env python3
"""boot: how long a guest takes to its first instruction of init, and on to an agent that answers.

usage: boot.py BIN_DIR [--runs N] [--json FILE]

Each round runs supermachine-worker and QEMU's microvm with the same kernel, memory and initramfs, one after the other on the same
machine; the figures are compared as ratios. Needs a native KVM: run it inside scripts/kvm-lab where there is none.
"""

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

MEMORY = "256"
LIMIT = 120


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def control_event(connection, wanted, program):
    """Time from now to the control message `wanted`."""
    data = b""
    connection.settimeout(LIMIT)
    while True:
        while len(data) >= 4 and len(data) >= 4 + struct.unpack("<I", data[:4])[0]:
            n = struct.unpack("<I", data[:4])[0]
            message = json.loads(data[4 : 4 + n])
            data = data[4 + n :]
            if message["type"] == "failure":
                sys.exit(f"{program}: {message['cause']}")
            if message["type"] == "event" and message["name"] == wanted:
                return message["at_ns"]
        chunk = connection.recv(4096)
        if not chunk:
            sys.exit(f"{program}: ended before '{wanted}'")
        data += chunk


class Worker:
    """One supermachine-worker from its start to a wanted event."""

    def __init__(self, bin_dir, initramfs, extra=()):
        self.ours, theirs = socket.socketpair()
        self.start = now()
        self.process = subprocess.Popen(
            [f"{bin_dir}/supermachine-worker", "--kernel", f"{bin_dir}/../guest/kernel", "--initramfs", initramfs, "--memory", MEMORY,
             "--engine", "kvm", f"--control={theirs.fileno()}", *extra],
            pass_fds=[theirs.fileno()])
        theirs.close()

    def until(self, event):
        return control_event(self.ours, event, "worker") - self.start

    def pss_kib(self):
        """Proportional memory of the process without the guest's RAM (the mappings of exactly that size)."""
        total = guest = 0
        size = 0
        with open(f"/proc/{self.process.pid}/smaps") as f:
            for line in f:
                key, _, value = line.partition(":")
                if key == "Size":
                    size = int(value.split()[0])
                if key == "Pss":
                    pss = int(value.split()[0])
                    if size >= int(MEMORY) * 1024:
                        guest += pss
                    else:
                        total += pss
        return total

    def end(self):
        self.ours.close()
        self.process.wait(LIMIT)


def qemu_boot(bin_dir, initramfs):
    start = now()
    done = subprocess.run(
        ["qemu-system-x86_64", "-M", "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on", "-enable-kvm", "-cpu", "host", "-m", MEMORY,
         "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "null", "-kernel", f"{bin_dir}/../guest/kernel",
         "-initrd", initramfs, "-append", "console=ttyS0 quiet loglevel=4 reboot=t panic=-1",
         "-device", "isa-debug-exit,iobase=0x5350,iosize=4"],
        timeout=LIMIT, capture_output=True)
    if done.returncode != ((1 << 24) << 1 | 1) & 0xFF:
        sys.exit(f"qemu ended with {done.returncode}: {done.stderr.decode()}")
    return now() - start


def tiny_initramfs(folder):
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_init.c")
    root = os.path.join(folder, "root")
    os.makedirs(os.path.join(root, "dev"))
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", os.path.join(root, "init"), source], check=True)
    archive = os.path.join(folder, "tiny.cpio")
    with open(archive, "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b"init\ndev\n", stdout=f, check=True)
    return archive


def summary(values):
    ordered = sorted(values)
    return {"runs": len(ordered), "min": ordered[0], "median": statistics.median(ordered),
            "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], "max": ordered[-1]}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("bin_dir")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    bin_dir = os.path.abspath(arguments.bin_dir)
    figures = {"worker_to_init_ms": [], "qemu_to_init_ms": [], "worker_to_agent_ms": [], "worker_pss_kib": []}
    with tempfile.TemporaryDirectory() as folder:
        tiny = tiny_initramfs(folder)
        for round_number in range(arguments.runs + 1):
            worker = Worker(bin_dir, tiny)
            ours = worker.until("booted")
            worker.end()
            theirs = qemu_boot(bin_dir, tiny)
            full = Worker(bin_dir, f"{bin_dir}/../guest/initramfs.cpio")
            agent = full.until("agent-ready")
            pss = full.pss_kib()
            full.end()
            if round_number == 0:
                continue  # fills the page cache
            figures["worker_to_init_ms"].append(ours / 1e6)
            figures["qemu_to_init_ms"].append(theirs / 1e6)
            figures["worker_to_agent_ms"].append(agent / 1e6)
            figures["worker_pss_kib"].append(pss)
    result = {name: summary(values) for name, values in figures.items()}
    result["init_ratio_to_qemu"] = result["worker_to_init_ms"]["median"] / result["qemu_to_init_ms"]["median"]
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        with open(arguments.json, "w") as f:
            f.write(text + "\n")


if __name__ == "__main__":
    main()
