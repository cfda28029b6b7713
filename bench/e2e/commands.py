#!/usr/bin/env python3
"""commands: how long the command line takes where no VM has to start, and an exec in one that runs. Prints JSON with medians and percentiles.

usage: commands.py BIN_DIR [--engine E] [--runs N] [--only none|vm]... [--json FILE]

none  commands that need no VM: wall time and processor time, in turns
vm    `supermachine exec VM true`, and `supermachine run --rm IMAGE true` once a snapshot is there
"""

import os
import resource
import subprocess
import time

from figures import main, summary

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 120


class Bench:
    def __init__(self, arguments, folder):
        self.program = os.path.abspath(f"{arguments.bin_dir}/supermachine")
        self.engine, self.runs = arguments.engine, arguments.runs
        self.env = dict(os.environ, HOME=folder)
        for name in ("DATA", "CACHE", "CONFIG", "STATE"):
            self.env.pop(f"XDG_{name}_HOME", None)
        layout, archive = f"{folder}/layout", f"{folder}/image.tar"
        for words in ([f"{REPOSITORY}/tests/e2e/make-busybox-image", layout, "busybox"],
                      ["skopeo", "copy", "--quiet", f"oci:{layout}:busybox", f"docker-archive:{archive}:busybox:latest"],
                      [self.program, "load", "-i", archive]):
            subprocess.run(words, check=True, env=self.env, capture_output=True, timeout=LIMIT)

    def ok(self, *words):
        subprocess.run([self.program, *words], check=True, env=self.env, capture_output=True, timeout=LIMIT)

    def start(self, name, *command):
        self.ok("run", "-d", "--engine", self.engine, "--name", name, "busybox", *command)

    def times(self, table):
        """Of each command in turns, in milliseconds."""
        wall, cpu = {name: [] for name in table}, {name: [] for name in table}
        for _ in range(self.runs):
            for name, words in table.items():
                before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                self.ok(*words)
                end, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
                wall[name].append((end - begin) * 1000)
                cpu[name].append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
        return {name: {"ms": summary(wall[name]), "processor_ms": summary(cpu[name])} for name in table}

    def none(self):
        self.start("ended", "true")
        self.ok("wait", "ended")
        try:
            return self.times({"help": ["--help"], "version": ["version"], "images": ["images"], "ps": ["ps", "-a"], "logs": ["logs", "ended"],
                               "inspect": ["inspect", "ended"], "snapshot ls": ["snapshot", "ls"]})
        finally:
            self.ok("rm", "ended")

    def vm(self):
        self.start("up", "sleep", "100000")
        try:
            return self.times({"exec true": ["exec", "up", "true"], "run --rm true": ["run", "--rm", "--engine", self.engine, "busybox", "true"]})
        finally:
            self.ok("rm", "-f", "up")


if __name__ == "__main__":
    main(__doc__, Bench, ("none", "vm"), runs=20)
