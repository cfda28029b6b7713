"""QEMU's microvm as a benchmark starts it: with the kernel, memory and initramfs that the worker gets beside it."""

import json
import os
import select
import socket
import subprocess
import sys
import time

from worker import LIMIT, MEMORY_MIB, now

PATIENCE = 20  # seconds for a restored guest
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


class NoAnswer(Exception):
    """The guest's console did not show in time what was waited for; what it showed."""


def until_said(process, text, limit=LIMIT):
    """What the guest's console shows until `text` is there."""
    said, until = b"", now() + limit * 10**9
    while text not in said:
        if select.select([process.stdout], [], [], max(0, (until - now()) / 1e9))[0]:
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                sys.exit(f"qemu ended: {said.decode()} {process.stderr.read().decode()}")
            said += piece
        elif now() >= until:
            process.kill()
            raise NoAnswer(said.decode())
    return said


def save(command, ready, folder):
    """Starts `command`, waits until its console says `ready` and stores the machine in a file, whose path it returns."""
    path, control = f"{folder}/qemu.state", f"{folder}/qemu.sock"
    with subprocess.Popen([*command, "-serial", "stdio", "-qmp", f"unix:{control},server=on,wait=off"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until_said(process, ready)
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


def restored(command):
    """The same machine, but that its processor has another name: that is how its guest knows."""
    at = command.index("-cpu") + 1
    return [*command[:at], command[at] + ",model-id=restored", *command[at + 1:]]


def restore(command, path):
    """Nanoseconds from QEMU's start to the answer of the restored guest on its console."""
    start = now()
    with subprocess.Popen([*restored(command), "-serial", "stdio", "-incoming", f"exec:cat {path}"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            said = until_said(process, b"restored", PATIENCE)
            took = now() - start
        finally:
            process.kill()
    if b"panic" in said:
        sys.exit(f"the restored guest failed: {said.decode()}")
    return took
