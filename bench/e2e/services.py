#!/usr/bin/env python3
"""services: servers in a `run -d` VM beside the same images under podman, asked by the same clients in turns. Prints JSON with medians and ratios.

usage: services.py BIN_DIR [--engine E] [--runs N] [--only nginx|redis|postgres]... [--json FILE]

nginx     ab: 20 at a time, a new connection for each request, and connections that stay
redis     redis-benchmark: 20 clients, PING, SET and GET
postgres  pgbench: 4 clients, its usual transactions, SELECTs alone, and a new connection for each SELECT

The VM's ports are published ones; podman's containers (runc) have the host's network, so what is compared is the way into the VM together with
its processor. A ratio is the VM's figure by podman's: above 1 the VM is better in requests per second, below 1 in milliseconds. Where
podman does not work its figures are left out, and a service whose clients are not installed is passed over.
"""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

from figures import main, summary

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 300
CONTAINERS = '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="runc"\n[containers]\ndefault_ulimits=["nofile=20000:20000","nproc=32768:32768"]\n'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def found(pattern, text):
    match = re.search(pattern, text)
    if match is None:
        sys.exit(f"no {pattern} in:\n{text}")
    return float(match[1])


class Bench:
    def __init__(self, arguments, folder):
        self.program = os.path.abspath(f"{arguments.bin_dir}/supermachine")
        self.engine, self.runs, self.folder = arguments.engine, arguments.runs, folder
        self.env = dict(os.environ, XDG_STATE_HOME=f"{folder}/state")
        self.images = subprocess.run([f"{REPOSITORY}/tests/e2e/service-images"], check=True, capture_output=True, text=True).stdout.strip()
        with open(f"{folder}/containers.conf", "w") as f:
            f.write(CONTAINERS)
        # podman names an image after its path and is particular about names.
        os.symlink(os.path.abspath(self.images), f"{folder}/images")
        self.podman_env = dict(os.environ, CONTAINERS_CONF=f"{folder}/containers.conf")

    def podman(self, *words, check=True):
        base = ["podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "overlay"]
        return subprocess.run([*base, *words], env=self.podman_env, cwd=self.folder, check=check, capture_output=True, text=True, timeout=LIMIT)

    def ok(self, *words):
        return subprocess.run([self.program, *words], check=True, env=self.env, capture_output=True, text=True, timeout=LIMIT).stdout

    def client(self, *words):
        r = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
        if r.returncode != 0:
            sys.exit(f"{words}: {r.stdout}{r.stderr}")
        return r.stdout

    def until(self, words):
        deadline = time.monotonic() + LIMIT
        while subprocess.run(words, capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit(f"{words}: no answer")
            time.sleep(0.1)

    def serve_vm(self, image, options, command):
        port = free_port()
        self.ok("run", "-d", "--engine", self.engine, "--name", image, "-m", "512m", "-p", f"{port}:{port}", *options, f"oci:{self.images}:{image}", *command(port))
        return port

    def serve_podman(self, image, options, command):
        port = free_port()
        try:
            name = self.podman("pull", "-q", f"oci:images:{image}").stdout.split()[-1]
            self.podman("run", "-d", "--name", image, "--network", "host", *options, name, *command(port))
        except (OSError, subprocess.CalledProcessError) as e:
            print(f"podman does not work here: {getattr(e, 'stderr', e)}", file=sys.stderr)
            return None
        return port

    def compare(self, image, command, ready, measure, prepare=None, options=()):
        """Figures of measure(port), a table of names and numbers, in turns."""
        ports = {}
        try:
            ports["vm"] = self.serve_vm(image, options, command)
            podman = self.serve_podman(image, options, command)
            if podman is not None:
                ports["podman"] = podman
            figures = {}
            for port in ports.values():
                self.until(ready(port))
                if prepare is not None:
                    prepare(port)
                measure(port)  # the first fills caches
            for _ in range(self.runs):
                for where, port in ports.items():
                    for name, value in measure(port).items():
                        figures.setdefault(name, {}).setdefault(where, []).append(value)
        finally:
            self.podman("rm", "-f", "-t", "0", image, check=False)
            subprocess.run([self.program, "rm", "-f", image], env=self.env, capture_output=True, timeout=LIMIT)
            self.podman("rmi", "-a", "-f", check=False)
            subprocess.run(["umount", f"{self.folder}/root/overlay"], capture_output=True)  # what podman's storage driver leaves behind
        result = {}
        for name, values in figures.items():
            result[name] = {where: summary(of) for where, of in values.items()}
            if "podman" in values:
                result[name]["ratio"] = statistics.median(values["vm"]) / statistics.median(values["podman"])
        return {image: result}

    def missing(self, *programs):
        """Says which of the clients are not there."""
        absent = [p for p in programs if shutil.which(p) is None]
        if absent:
            print(f"passed over, not installed: {', '.join(absent)}", file=sys.stderr)
        return bool(absent)

    def nginx(self):
        if self.missing("ab", "curl"):
            return {}

        def measure(port):
            result = {}
            for name, words in (("connections", ["-n", "400"]), ("kept", ["-k", "-n", "4000"])):
                report = self.client("ab", "-q", "-c", "20", *words, f"http://127.0.0.1:{port}/")
                result[f"{name}_requests_s"] = found(r"Requests per second: +([0-9.]+)", report)
                result[f"{name}_mean_ms"] = found(r"Time per request: +([0-9.]+) \[ms\] \(mean\)", report)
            return result
        return self.compare("nginx", lambda port: ["sh", "-c", f"sed -i 's/listen .*;/listen {port};/' /etc/nginx/conf.d/default.conf; exec nginx -g 'daemon off;'"],
                            lambda port: ["curl", "-sf", f"http://127.0.0.1:{port}/"], measure)

    def redis(self):
        if self.missing("redis-benchmark", "redis-cli"):
            return {}

        def measure(port):
            report = self.client("redis-benchmark", "-p", str(port), "--csv", "-n", "5000", "-c", "20", "-t", "ping_mbulk,set,get")
            result = {}
            for test in ("PING_MBULK", "SET", "GET"):
                result[f"{test.lower()}_requests_s"] = found(rf'"{test}","([0-9.]+)"', report)
                result[f"{test.lower()}_p50_ms"] = found(rf'"{test}","[0-9.]+","[0-9.]+","[0-9.]+","([0-9.]+)"', report)
            return result
        return self.compare("redis", lambda port: ["redis-server", "--protected-mode", "no", "--port", str(port)],
                            lambda port: ["redis-cli", "-p", str(port), "ping"], measure)

    def postgres(self):
        if self.missing("pgbench", "pg_isready"):
            return {}
        os.environ.update(PGPASSWORD="secret", PGCONNECT_TIMEOUT="60")

        def where(port):
            return ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]

        def measure(port):
            result = {}
            for name, words in (("transactions", ["-t", "50"]), ("selects", ["-S", "-t", "250"]), ("connections", ["-S", "-C", "-t", "10"])):
                report = self.client("pgbench", *where(port), "-n", "-c", "4", *words, "postgres")
                result[f"{name}_s"] = found(r"tps = ([0-9.]+)", report)
                result[f"{name}_mean_ms"] = found(r"latency average = ([0-9.]+) ms", report)
            return result
        return self.compare("postgres", lambda port: ["postgres", "-c", "listen_addresses=*", "-p", str(port)],
                            lambda port: ["pg_isready", "-q", *where(port)], measure,
                            prepare=lambda port: self.client("pgbench", *where(port), "-q", "-i", "-s", "1", "postgres"),
                            options=("-e", "POSTGRES_PASSWORD=secret"))


if __name__ == "__main__":
    main(__doc__, Bench, ("nginx", "redis", "postgres"), runs=5)
