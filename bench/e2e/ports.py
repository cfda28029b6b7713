#!/usr/bin/env python3
"""ports: what a request over a published port costs, in time and in processor time of each thread on its way. Prints JSON.

usage: ports.py BIN_DIR [BIN_DIR...] [--engine E] [--runs N] [--json FILE]

A `run -d` VM with redis is asked for PONG: over one connection that stays, over 20 at a time that stay, and over a new connection for each request, one by
one and 20 at a time. With several BIN_DIRs their VMs run beside each other and are asked in turns, so what else this machine does hits all alike.
Processor time says the most on a machine that is not quiet: it is what the threads took, not how long they waited for a turn.

rate_s  requests per second      p50_ms  of one request      cpu_us  per request: `vcpu` (the guest), `loop` (the device), `ports` (the keeper), other
"""

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from services import REPOSITORY, free_port

LIMIT = 300
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


def thread_times(pids):
    """Nanoseconds of processor time by the threads' names."""
    out = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/comm") as f:
                name = f.read().strip().split("-")[0]
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                out[name] = out.get(name, 0) + int(f.read().split()[0])
    return out


class Requests:
    """`count` requests of `clients` at a time; each a new connection unless `kept`."""

    def __init__(self, port, clients, count, kept):
        self.port, self.left, self.kept = port, count, kept
        self.poll, self.open, self.times = select.epoll(), {}, []
        for _ in range(clients):
            self.connect()

    def connect(self):
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic_ns()
        s.connect(("127.0.0.1", self.port))
        self.poll.register(s, select.EPOLLIN)
        self.open[s.fileno()] = [s, began]
        self.send(s, began)

    def send(self, s, began):
        self.open[s.fileno()][1] = began
        self.left -= 1
        s.sendall(PING)

    def run(self):
        deadline = time.monotonic() + LIMIT
        while self.open:
            for fd, _ in self.poll.poll(LIMIT):
                s, began = self.open[fd]
                if s.recv(64) != PONG:
                    sys.exit("no PONG")
                self.times.append((time.monotonic_ns() - began) / 1e6)
                if self.kept and self.left > 0:
                    self.send(s, time.monotonic_ns())
                    continue
                del self.open[fd]
                s.close()
                if self.left > 0:
                    self.connect()
            if time.monotonic() > deadline:
                sys.exit("no answers")
        return self.times


MODES = {"kept_1": (1, 400, True), "kept_20": (20, 2000, True), "new_1": (1, 100, False), "new_20": (20, 400, False)}


class Vm:
    def __init__(self, bin_dir, engine, images, folder, name):
        self.program, self.name, self.port = os.path.abspath(f"{bin_dir}/supermachine"), name, free_port()
        self.env = dict(os.environ, XDG_STATE_HOME=f"{folder}/state")
        self.call("run", "-d", "--engine", engine, "--name", name, "-p", f"{self.port}:6379", f"oci:{images}:redis", "redis-server",
                  "--protected-mode", "no", "--save", "")
        state = json.loads(self.call("inspect", "--type", "vm", name))[0]["State"]
        self.pids = [state["Pid"], state["KeeperPid"]]

    def call(self, *words):
        return subprocess.run([self.program, *words], check=True, env=self.env, capture_output=True, text=True, timeout=LIMIT).stdout

    def wait(self):
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), LIMIT) as s:
                    s.sendall(PING)
                    if s.recv(64) == PONG:
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                sys.exit(f"{self.name} does not answer")
            time.sleep(0.05)

    def measure(self, mode):
        clients, count, kept = MODES[mode]
        before, began = thread_times(self.pids), time.monotonic()
        times = Requests(self.port, clients, count, kept).run()
        seconds, after = time.monotonic() - began, thread_times(self.pids)
        cpu = {"vcpu": 0, "loop": 0, "ports": 0, "other": 0}
        for name, ns in after.items():
            cpu[name if name in cpu else "other"] += (ns - before.get(name, 0)) / 1e3 / count
        return {"rate_s": count / seconds, "p50_ms": statistics.median(times), **{f"cpu_us_{name}": us for name, us in cpu.items()}}

    def end(self):
        subprocess.run([self.program, "rm", "-f", self.name], env=self.env, capture_output=True, timeout=LIMIT)


def measure_all(vms, runs):
    for vm in vms.values():
        vm.wait()
        for mode in MODES:
            vm.measure(mode)  # the first fills caches
    figures = {}
    for _ in range(runs):
        for mode in MODES:
            for where, vm in vms.items():
                for name, value in vm.measure(mode).items():
                    figures.setdefault(mode, {}).setdefault(where, {}).setdefault(name, []).append(value)
    return {mode: {where: {name: round(statistics.median(v), 3) for name, v in values.items()} for where, values in of.items()} for mode, of in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin_dirs", nargs="+", metavar="BIN_DIR")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    images = subprocess.run([f"{REPOSITORY}/tests/e2e/service-images"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        vms = {}
        try:
            for n, bin_dir in enumerate(arguments.bin_dirs):
                vms[bin_dir] = Vm(bin_dir, arguments.engine, images, folder, f"ports{n}")
            result = measure_all(vms, arguments.runs)
        finally:
            for vm in vms.values():
                vm.end()
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        with open(arguments.json, "w") as f:
            f.write(text + "\n")


if __name__ == "__main__":
    main()
