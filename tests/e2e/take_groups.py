"""Runs groups of end-to-end tests inside a lab: take_groups.py QUEUE GROUP...

Several labs share the folder QUEUE and the list of groups; whoever makes QUEUE/GROUP.taken first runs GROUP, and says `passed` or
`failed` in QUEUE/GROUP.done. A group whose only trouble is that something did not answer in time, or that a VM was reset without a word on
its console, is left without a verdict, since the lab's emulated processor can be the reason (see scripts/kvm-lab); nothing more is run in
that lab then, and the exit status is 124.
"""

import glob
import importlib
import os
import socket
import subprocess
import sys
import time
import unittest

STANDS_STILL = 124
KVM = "/sys/kernel/debug/kvm"
FILES = ["run_test", "container_test", "lifecycle_test", "copy_test", "disk_test", "store_test", "services_test", "snapshot_test", "bake_test", "create_test",
         "docker_parity_test"]


class Result(unittest.TextTestResult):
    """As usual, with the seconds that each test took, and counted apart: what the emulated processor may be the reason of."""

    doubtful = 0

    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.stream.writeln(f"    {time.monotonic() - self.began:.1f} s")
        self.stream.flush()

    def addError(self, test, err):
        self.look_at(err)
        super().addError(test, err)

    def addFailure(self, test, err):
        # A kernel that finds a fault says so first; a processor that cannot go on does not.
        if "switched off from inside" in str(err[1]) and "console said" not in str(err[1]):
            self.doubtful += 1
        super().addFailure(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.look_at(err)
        super().addSubTest(test, subtest, err)

    def look_at(self, err):
        if issubclass(err[0], (subprocess.TimeoutExpired, TimeoutError)):
            self.doubtful += 1
            say_what_goes_on()


class Expired(subprocess.TimeoutExpired):
    """Says what the machines do at the moment when a wait is given up: many a test ends them before it fails."""

    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        say_what_goes_on()


class WatchedSocket(socket.socket):
    """Likewise."""

    def recv(self, *words):
        try:
            return super().recv(*words)
        except TimeoutError:
            say_what_goes_on()
            raise


def say_what_goes_on():
    print("", *machines(), *threads(), sep="\n", flush=True)


def machines():
    """What each virtual machine has done in a second: one that an emulated processor does not let go leaves and enters its guest all the
    time and gets nowhere."""
    before = counters()
    time.sleep(1)
    for machine, after in counters().items():
        if not os.path.exists("/proc/" + os.path.basename(machine.rstrip("/")).split("-")[0]):
            continue  # the probe's machine stays in this list
        grown = {name: value - before.get(machine, {}).get(name, 0) for name, value in after.items()}
        yield f"{machine}: " + " ".join(f"{name}+{value}" for name, value in sorted(grown.items()) if value)


def threads():
    """Where in the kernel each thread of a worker is: a vCPU that its guest has halted is in kvm_vcpu_block."""
    for task in sorted(glob.glob("/proc/[0-9]*/task/[0-9]*")):
        try:
            with open(task + "/cmdline") as file:
                if "supermachine-worker\0" not in file.read():
                    continue
            with open(task + "/comm") as comm, open(task + "/stack") as stack:
                yield f"{task} {comm.read().strip()}: " + " ".join(line.split()[1].split("+")[0] for line in stack)
        except (OSError, IndexError):
            continue


def counters():
    if not os.path.exists(KVM):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False)
    found = {}
    for machine in glob.glob(KVM + "/*/"):
        found[machine] = {}
        for name in os.listdir(machine):
            try:
                with open(machine + name) as file:
                    found[machine][name] = int(file.read())
            except (OSError, ValueError):
                continue
    return found


def tests_of(group):
    """Of a group, or of one test of it (GROUP.TEST)."""
    for name in FILES:
        module = importlib.import_module(name)
        if getattr(getattr(module, group.split(".")[0], None), "__module__", "") == name:
            return unittest.defaultTestLoader.loadTestsFromName(group, module)
    sys.exit(f"there is no group {group}")


def take(path):
    try:
        os.mkdir(path)
        return True
    except FileExistsError:
        return False


def main(queue, groups):
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [here, here + "/docker_parity"]
    subprocess.TimeoutExpired, socket.socket = Expired, WatchedSocket
    for group in groups:
        if not take(f"{queue}/{group}.taken"):
            continue
        print(f"== {group}", flush=True)
        result = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Result).run(tests_of(group))
        troubles = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
        if troubles and troubles == result.doubtful:
            print(f"{group}: the emulated processor may be the reason", flush=True)
            return STANDS_STILL
        with open(f"{queue}/{group}.done", "w") as verdict:
            verdict.write("failed" if troubles else "passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
