"""QEMU's microvm as a benchmark starts it: with the kernel, memory and initramfs that the worker gets beside it."""

import json
import os
import socket
import subprocess
import sys
import time

from worker import LIMIT, MEMORY_MIB, now

# How the debug exit reports the doorbell's word for "booted".
BOOTED = ((1 << 24) << 1 | 1) & 0xFF


def machine(engine):
    """The least that a guest boots on: without kvm-clock, which TCG does not have, it wants a PIT to measure its clock with."""
    if engine == "soft":
        return ["-M", "microvm,acpi=off,isa-serial=on", "-accel", "tcg", "-cpu", "Nehalem,+rdrand"]
    return ["-M", "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on", "-enable-kvm", "-cpu", "host"]


def words(bin_dir, engine, initramfs, *more):
    return ["qemu-system-x86_64", *machine(engine), "-m",
            str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel",
            f"{bin_dir}/../guest/kernel", "-initrd", initramfs, "-append", "console=ttyS0 quiet loglevel=4 reboot=t panic=-1", "-device",
            "isa-debug-exit,iobase=0x5350,iosize=4", *more]


def check_end(status, error):
    """The doorbell ended it."""
    if status != BOOTED:
        sys.exit(f"qemu ended with {status}: {error.decode()}")


def save(command, ready, folder):
    """Starts `command`, waits until its console says `ready` and stores the machine in a file, whose path it returns."""
    path, control = f"{folder}/qemu.state", f"{folder}/qemu.sock"
    with subprocess.Popen([*command, "-serial", "stdio", "-qmp", f"unix:{control},server=on,wait=off"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said = b""
        while ready not in said:
            said += os.read(process.stdout.fileno(), 4096)
            if process.poll() is not None:
                sys.exit(f"qemu ended: {process.stderr.read().decode()}")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(LIMIT)
            monitor.connect(control)
            lines = monitor.makefile("r")
            lines.readline()  # its greeting

            def ask(command, **arguments):
                monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
                while True:
                    answer = json.loads(lines.readline())
                    if "error" in answer:
                        sys.exit(f"qemu: {answer['error']['desc']}")
                    if "return" in answer:
                        return answer["return"]

            ask("qmp_capabilities")
            # With no limit on the bytes a second: as fast as the disk is.
            ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            ask("migrate", uri=f"exec:cat >{path}")
            until = now() + LIMIT * 10**9
            while (status := ask("query-migrate").get("status")) != "completed":
                if status == "failed" or now() > until:
                    sys.exit(f"qemu: the machine was not stored ({status})")
                time.sleep(0.01)
            ask("quit")
        process.communicate(timeout=LIMIT)
    return path


def type_until(done, write):
    """A line on the guest's console each millisecond until `done`: one that comes before the machine is there is lost with the rest of
    the state that is replaced."""
    until = now() + LIMIT * 10**9
    while not done():
        if now() > until:
            sys.exit("the restored guest does not answer")
        try:
            write()
        except BrokenPipeError:
            pass  # it has ended
        time.sleep(0.001)


def restore(command, path):
    """Nanoseconds from QEMU's start to its end, which a restored guest brings about when a line reaches its console."""
    start = now()
    with subprocess.Popen([*command, "-serial", "stdio", "-incoming", f"exec:cat {path}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as process:
        def write():
            os.write(process.stdin.fileno(), b"\n")

        type_until(lambda: process.poll() is not None, write)
        took = now() - start
        check_end(process.returncode, process.stderr.read())
    return took
