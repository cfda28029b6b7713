"""supermachine-worker as a benchmark starts it: one VM, its events, its exec socket, its memory."""

import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
import time

LIMIT = 120  # seconds; a lab's processor is emulated
MEMORY_MIB = 256


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Worker:
    def __init__(self, bin_dir, initramfs, engine="auto", exec_socket=None, disks=(), memory_mib=MEMORY_MIB, snapshot=None, more=()):
        self.control, theirs = socket.socketpair()
        self.pending = b""
        words = [f"{bin_dir}/supermachine-worker", "--engine", engine, f"--control={theirs.fileno()}", *more]
        if snapshot:
            words += ["--restore-from", snapshot]
        else:
            words += ["--kernel", f"{bin_dir}/../guest/kernel", "--initramfs", initramfs, "--memory", str(memory_mib)]
        for disk in disks:
            words += ["--virtio-blk", disk]
        if exec_socket:
            words += ["--vsock-exec", exec_socket]
        self.start = now()
        self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        theirs.close()

    def until(self, event):
        """Nanoseconds from the worker's start to one of its events."""
        self.control.settimeout(LIMIT)
        while True:
            message = self._message()
            if message["type"] == "failure":
                sys.exit(f"worker: {message['cause']}")
            if message["type"] == "event" and message["name"] == event:
                return message["at_ns"] - self.start

    def answer(self):
        """The answer to a snapshot or pause request."""
        self.control.settimeout(LIMIT)
        while True:
            message = self._message()
            if message["type"] in ("refused", "failure"):
                sys.exit(f"worker: {message['cause']}")
            if message["type"] == "done":
                return message

    def ask(self, **message):
        for m in ({"type": "hello", "version": 1, "program": "bench"}, message):
            data = json.dumps(m).encode()
            self.control.sendall(struct.pack("<I", len(data)) + data)
        return self.answer()

    def _message(self):
        while len(self.pending) < 4 or len(self.pending) < 4 + struct.unpack("<I", self.pending[:4])[0]:
            chunk = self.control.recv(4096)
            if not chunk:
                sys.exit("worker: ended too early")
            self.pending += chunk
        n = struct.unpack("<I", self.pending[:4])[0]
        message = json.loads(self.pending[4:4 + n])
        self.pending = self.pending[4 + n:]
        return message

    def memory_kib(self):
        """The process's private memory and its share of common pages, without the guest's RAM (the mapping of that size)."""
        total = size = 0
        with open(f"/proc/{self.process.pid}/smaps") as f:
            for line in f:
                key, _, value = line.partition(":")
                if key == "Size":
                    size = int(value.split()[0])
                if key == "Pss" and size < MEMORY_MIB * 1024:
                    total += int(value.split()[0])
        return total

    def end(self):
        self.control.close()
        self.process.wait(LIMIT)
        if self.process.returncode != 0:
            sys.exit(f"worker: exit status {self.process.returncode}")


def pack_layer(bin_dir, root):
    """The folder `root` as a layer of an image lies on the disk of a guest; gives the file's path."""
    archive, layer = f"{root}.tar", f"{root}.squashfs"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, arcname=".")
    subprocess.run([f"{bin_dir}/make_layer", archive, layer], check=True)
    os.unlink(archive)
    return layer


def build_static(source, target):
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", target, os.path.join(here, "guest", source)], check=True)


def static_initramfs(folder, source):
    """An archive with this one program as PID 1."""
    root = os.path.join(folder, source + ".root")
    os.makedirs(os.path.join(root, "dev"))
    build_static(source, os.path.join(root, "init"))
    archive = os.path.join(folder, source + ".cpio")
    with open(archive, "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b"init\ndev\n", stdout=f, check=True)
    return archive
