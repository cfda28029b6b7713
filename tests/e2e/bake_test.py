"""End-to-end tests of bake, restore and pool: saved VMs with what runs in them. Started by tests/e2e/run."""

import contextlib
import glob
import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import agent_client
import process_signals

BIN = os.environ["SUPERMACHINE_BIN"]
IMAGES = os.environ["SUPERMACHINE_IMAGES"]
ENGINE = os.environ.get("SUPERMACHINE_ENGINE", "auto")
LIMIT = 150  # seconds; a guest may run on an emulated processor
BUSYBOX = f"oci:{IMAGES}:busybox"

# Answers each line of a FIFO with what this very process draws.
SERVER = """
import os
try:
    from uuid import uuid4
except ImportError:  # a minimal Python: what uuid4() is made of
    def uuid4(): return os.urandom(16).hex()
for way in ("/tmp/ask", "/tmp/answer"): os.mkfifo(way)
open(os.environ["SUPERMACHINE_READY_FILE"], "w").write("yes")
count = 0
while True:
    question = open("/tmp/ask").read()
    count += 1
    with open("/tmp/answer", "w") as out:
        print(os.getpid(), count, uuid4(), os.urandom(32).hex(), file=out)
"""


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory(prefix="sm-e2e-")
        cls.env = dict(os.environ, XDG_CACHE_HOME=f"{cls.shared.name}/cache", XDG_RUNTIME_DIR=f"{cls.shared.name}/run")
        os.mkdir(cls.env["XDG_RUNTIME_DIR"], 0o700)

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def sm(self, *words, status=0, **more):
        done = subprocess.run([BIN, *words], env=self.env, capture_output=True, text=True, timeout=LIMIT, **more)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def bake(self, *words, memory="128m", **more):
        return self.sm("bake", "--engine", ENGINE, "-m", memory, *words, **more)

    def restore(self, *words, **more):
        return self.sm("restore", "--engine", ENGINE, *words, **more)

    def tags(self):
        folder = f"{self.env['XDG_CACHE_HOME']}/supermachine/tags"
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


class Bake(Case):
    def tearDown(self):
        for tag in self.tags():
            self.sm("snapshot", "rm", tag)

    def test_restored_vm_has_what_warmed_it_up_and_the_images_settings(self):
        self.bake("--tag", "warm", "-e", "COLOR=blue", "-w", "/root", "--warmup", "echo warm >/root/state", BUSYBOX)
        self.assertEqual(self.restore("warm", "sh", "-c", "cat state; echo $COLOR; pwd"), "warm\nblue\n/root\n")
        self.restore("warm", "sh", "-c", "exit 7", status=7)
        self.assertEqual(self.restore("-i", "warm", "cat", input="through\n"), "through\n")
        self.assertIn("warm", self.sm("snapshot", "ls"))

    def test_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            self.bake("-o", f"{folder}/saved", "--warmup", "touch /here", BUSYBOX)
            self.assertEqual(self.restore(f"{folder}/saved", "ls", "/here"), "/here\n")
            self.assertEqual(os.listdir(folder), ["saved"])

    def test_listener_that_was_not_there_before(self):
        self.bake("--tag", "web", "--ready", "listener:8080", "--warmup", "echo hi >/tmp/index.html", BUSYBOX,
                  "httpd", "-f", "-p", "8080", "-h", "/tmp")
        self.assertEqual(self.restore("web", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html"), "hi\n")

    def test_after_some_time_and_the_status_of_what_runs(self):
        # Until it finds itself in a copy, however long the bake takes.
        life = "/run/supermachine/generation"
        script = f"until [ -s /saved ] && [ $(cat {life}) != $(cat /saved) ]; do sleep 0.1; done; sleep 1; exit 5"
        self.bake("--tag", "timed", "--ready", "after-ms:300", "--warmup", f"cat {life} >/saved", BUSYBOX, "sh", "-c", script)
        self.restore("timed", status=5)

    def test_workload_that_ends_early_leaves_nothing(self):
        error = self.bake("--tag", "early", "--ready", "listener", BUSYBOX, "sh", "-c", "exit 3", status=125)
        self.assertIn("status 3", error)
        self.assertEqual(self.tags(), [])

    def test_workload_that_gets_not_ready_in_time_leaves_nothing(self):
        error = self.bake("--tag", "late", "--ready", "heartbeat", "--timeout", "3", BUSYBOX, "sleep", "1000", status=125)
        self.assertIn("not ready", error)
        self.assertEqual(self.tags(), [])

    def test_command_that_fails_leaves_nothing(self):
        error = self.bake("--tag", "bad", "--warmup", "echo why >&2; exit 4", BUSYBOX, status=125)
        self.assertIn("status 4", error)
        self.assertIn("why", error)
        self.assertEqual(self.tags(), [])

    def test_wrong_uses(self):
        self.assertIn("tag", self.bake(BUSYBOX, status=125))
        self.assertIn("readiness", self.bake("--tag", "x", "--ready", "soon", BUSYBOX, status=125))
        self.assertIn("ready", self.bake("--tag", "x", BUSYBOX, "true", status=125))
        self.assertIn("no-such", self.restore("no-such", "true", status=125))

    def test_same_inputs_under_another_tag_take_no_room(self):
        self.bake("--tag", "one", BUSYBOX)
        self.assertIn("same as one", self.bake("--tag", "two", BUSYBOX))
        folder = f"{self.env['XDG_CACHE_HOME']}/supermachine/tags"
        self.assertEqual(os.stat(f"{folder}/one/memory.img").st_ino, os.stat(f"{folder}/two/memory.img").st_ino)
        self.sm("snapshot", "rm", "one")
        self.assertEqual(self.restore("two", "echo", "there"), "there\n")

    def test_what_could_not_be_saved_or_restored_is_refused_before_the_boot(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/mine")
            self.assertIn("not a snapshot", self.bake("-o", f"{folder}/mine", "--warmup", "exit 9", BUSYBOX, status=125))
            self.assertEqual(os.listdir(folder), ["mine"])
        for words, why in ((("-e", b"A=\xff"), "UTF-8"), (("-w", "/" + "x" * 5000), "workdir"), (("--log", "/log"), "does not run"),
                           (("--log", "log", "--ready", "after-ms:1"), "absolute")):
            self.assertIn(why, self.bake("--tag", "x", "--warmup", "exit 9", *words, BUSYBOX, status=125))
        self.assertEqual(self.tags(), [])

    def test_damaged_tag_is_baked_anew(self):
        self.bake("--tag", "hurt", BUSYBOX)
        os.unlink(f"{self.env['XDG_CACHE_HOME']}/supermachine/tags/hurt/state.bin")
        self.restore("hurt", "true", status=125)
        self.assertNotIn("same as", self.bake("--tag", "other", BUSYBOX))
        self.assertIn("same as other", self.bake("--tag", "hurt", BUSYBOX))
        self.assertEqual(self.restore("hurt", "echo", "well"), "well\n")

    def test_removing_what_run_keeps_leaves_every_tag(self):
        self.assertIn("look like", self.bake("--tag", "0" * 64, BUSYBOX, status=125))
        self.bake("--tag", "kept", BUSYBOX)
        kept = self.sm("snapshot", "ls", "-q").split()
        self.assertEqual((kept[0], len(kept[1])), ("kept", 64))
        # One that an older version has let pass.
        folder = f"{self.env['XDG_CACHE_HOME']}/supermachine/tags"
        os.rename(f"{folder}/kept", f"{folder}/{kept[1]}")
        self.assertEqual(sorted(self.sm("snapshot", "rm", "--all").split()), sorted(kept[1:]))
        self.assertEqual(self.tags(), [kept[1]])
        self.sm("snapshot", "rm", f"{folder}/{kept[1]}")

    def test_pool_of_a_snapshot_and_of_an_image(self):
        self.bake("--tag", "pooled", BUSYBOX)
        for subject in ("pooled", BUSYBOX):
            figures = json.loads(self.sm("pool", "--engine", ENGINE, "-m", "128m", "--count", "2", "--cycles", "3", "--format", "json", subject))
            self.assertEqual((figures["vms"], figures["cycles"], figures["failed"]), (2, 3, 0))
            self.assertGreater(figures["exec_ms"]["min"], 0)


class Waits(Case):
    """`restore` without a command: signals reach what ran in the snapshot."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        case.bake("--tag", "traps", "--ready", "heartbeat", BUSYBOX, "sh", "-c",
                  "trap 'exit 7' TERM; trap 'exit 8' INT; trap 'exit 9' USR1; echo x >$SUPERMACHINE_READY_FILE; while :; do sleep 0.05; done")
        case.bake("--tag", "dies", "--ready", "after-ms:1", BUSYBOX, "sleep", "100000")
        case.bake("--tag", "deaf", "--ready", "heartbeat", BUSYBOX, "sh", "-c",
                  "trap '' TERM INT HUP; echo x >$SUPERMACHINE_READY_FILE; while :; do sleep 0.05; done")

    def runTest(self):
        """For setUpClass."""

    def end(self, number, tag, *options, times=1):
        """Status of a restore that got the signal so many times once its VM ran, and the seconds from there to its end."""
        words = [BIN, "restore", "--engine", ENGINE, *options, tag]
        run = f"{self.env['XDG_RUNTIME_DIR']}/supermachine"
        with subprocess.Popen(words, env=self.env, stderr=subprocess.PIPE, text=True) as vm:
            self.wait_for_guest(run, vm)
            begin = time.monotonic()
            process_signals.send_each(vm, number, times, LIMIT)
            error = vm.communicate(timeout=LIMIT)[1]
        self.assertEqual(error, "")
        self.assertEqual(os.listdir(run), [])
        return vm.returncode, time.monotonic() - begin

    def wait_for_guest(self, run, vm):
        """Until the guest runs programs, which it does when `restore` has told it who it is."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until and vm.poll() is None:
            for name in os.listdir(run) if os.path.isdir(run) else []:
                try:
                    if agent_client.execute(f"{run}/{name}/exec.sock", LIMIT, "true")[1] == 0:
                        return
                except (OSError, EOFError):
                    pass  # not yet
            time.sleep(0.05)
        self.fail("the guest does not answer")

    def test_workload_decides_how_it_ends(self):
        for number, status in ((signal.SIGTERM, 7), (signal.SIGINT, 8), (signal.SIGUSR1, 9)):
            self.assertEqual(self.end(number, "traps")[0], status)

    def test_workload_that_has_nothing_to_say_dies_of_it(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.assertEqual(self.end(number, "dies")[0], 128 + number)

    def test_workload_that_does_not_listen_is_killed_in_time(self):
        status, seconds = self.end(signal.SIGTERM, "deaf", "--stop-timeout", "2")
        self.assertEqual(status, 137)
        self.assertGreaterEqual(seconds, 2)
        self.assertEqual(self.end(signal.SIGTERM, "deaf", "--stop-timeout", "0")[0], 137)
        # Who asks three times does not want to wait.
        status, seconds = self.end(signal.SIGINT, "deaf", "--stop-timeout", "3600", times=3)
        self.assertEqual(status, 130)

    def test_stop_timeout_is_for_what_runs_already(self):
        self.assertIn("stop timeout", self.restore("--stop-timeout", "3", "dies", "true", status=125))


class Secrets(Case):
    """What a restored VM is told and nobody else gets to see."""

    def holders(self, secret):
        """Where the secret can be seen from outside."""
        found = []
        for folder, _, names in os.walk(self.shared.name):
            for name in names:
                path = f"{folder}/{name}"
                if os.path.isfile(path) and path != self.file and secret in self.content(path):
                    found.append(path)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            found += [f"/proc/{pid}/{part}" for part in ("cmdline", "environ") if secret in self.content(f"/proc/{pid}/{part}")]
        return found

    @staticmethod
    def content(path):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return b""  # gone meanwhile

    def test_secret_reaches_programs_and_nothing_else(self):
        secret = os.urandom(16).hex()
        self.file = f"{self.shared.name}/secrets"
        with open(self.file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"# for the server\nTOKEN={secret}\n")
        state = f"{self.shared.name}/state"
        self.env["XDG_STATE_HOME"] = state  # records and logs
        self.bake("--tag", "plain", BUSYBOX)
        self.bake("--tag", "served", "--ready", "heartbeat", "--log", "/log", BUSYBOX, "sh", "-c",
                  "echo x >$SUPERMACHINE_READY_FILE; while :; do sleep 0.1; done")
        # Of init and the agent nothing is to be seen in the guest either.
        script = "echo $TOKEN; tr '\\0' '\\n' </proc/1/environ | grep -c TOKEN; grep -rc TOKEN /etc /run | grep -v ':0$'; echo over; read line"
        for tag in ("plain", "served"):
            words = [BIN, "restore", "--engine", ENGINE, "-i", "--secret-file", self.file, tag, "sh", "-c", script]
            with subprocess.Popen(words, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vm:
                said = [vm.stdout.readline() for _ in range(3)]
                self.assertEqual(said, [secret + "\n", "0\n", "over\n"])
                self.assertEqual(self.holders(secret.encode()), [])
                vm.communicate("\n", timeout=LIMIT)
                self.assertEqual(vm.returncode, 0)
            self.assertEqual(self.holders(secret.encode()), [])
        # Another VM of the same snapshot knows nothing of it.
        self.assertEqual(self.restore("plain", "sh", "-c", "echo [$TOKEN]"), "[]\n")

    def test_secret_is_not_named_in_an_error(self):
        secret = os.urandom(16).hex()
        with open(f"{self.shared.name}/bad", "w") as file:
            file.write(f"={secret}\n")
        self.assertNotIn(secret, self.sm("restore", "--secret-file", f"{self.shared.name}/bad", "no-such", status=125))


class PoolEnds(Case):
    """A pool that the user ends."""

    def end(self, number, vms, *words):
        """Starts `pool` with these words, sends the signal once it has started so many VMs; its figures."""
        run = f"{self.env['XDG_RUNTIME_DIR']}/supermachine"
        seen, workers = set(), set()
        words = [BIN, "pool", "--engine", ENGINE, "-m", "128m", "--count", "2", "--format", "json", *words]
        with subprocess.Popen(words, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pool:
            until = time.monotonic() + LIMIT
            while len(seen) < vms and pool.poll() is None and time.monotonic() < until:
                # One without its socket is for a VM that nobody has asked for yet.
                seen.update(glob.glob(f"{run}/vm-*/exec.sock"))
                workers.update(self.children(pool.pid))
                time.sleep(0.002)
            workers.update(self.children(pool.pid))
            pool.send_signal(number)
            out, error = pool.communicate(timeout=LIMIT)
        self.assertEqual((pool.returncode, error), (128 + number, ""))
        self.assertEqual(os.listdir(run), [])
        self.assertGreater(len(workers), 0)
        self.assertEqual([pid for pid in workers if os.path.exists(f"/proc/{pid}")], [])
        # Nothing half-made in the cache.
        for folder, inner, names in os.walk(f"{self.env['XDG_CACHE_HOME']}/supermachine"):
            self.assertEqual([name for name in inner + names if ".tmp-" in name], [], folder)
        return json.loads(out)

    def children(self, pid):
        found = []
        for path in glob.glob(f"/proc/{pid}/task/*/children"):
            with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                found += file.read().split()
        return found

    def test_with_figures_so_far(self):
        self.sm("run", "--rm", "--engine", ENGINE, "-m", "128m", BUSYBOX, "true")
        for number in (signal.SIGINT, signal.SIGTERM):
            # Two at first, two that replace these, and one for each cycle.
            figures = self.end(number, 8, "--cycles", "100000", BUSYBOX)
            self.assertGreater(figures["fill_ms"], 0)
            self.assertGreater(figures["cycles"], 0)
            self.assertLess(figures["cycles"], 100000)
            self.assertEqual(figures["failed"], 0)

    def test_while_it_is_filled_and_while_a_command_runs(self):
        self.assertEqual(self.end(signal.SIGINT, 1, BUSYBOX, "sleep", "100000")["cycles"], 0)
        # At most three at a time: the fourth replaces one of the first, and all were ready then.
        hung = self.end(signal.SIGTERM, 4, BUSYBOX, "sleep", "100000")
        self.assertEqual(hung["cycles"], 0)
        self.assertGreater(hung["fill_ms"], 0)


class Clones(Case):
    COUNT = 8

    def test_clones_of_a_live_process_differ_and_know_the_time(self):
        self.bake("--tag", "python", "--ready", "heartbeat", f"oci:{IMAGES}:python", "python3", "-c", SERVER, memory="256m")
        # The saved date is an old one: the guest's clock says so before it is told.
        ask = "echo x >/tmp/ask & cat /tmp/answer; head -c 1024 /dev/urandom | sha256sum | cut -c1-64; hostname"
        time.sleep(2)
        seen, off = {}, []
        for _ in range(self.COUNT):
            words = [BIN, "restore", "--engine", ENGINE, "-i", "python", "sh", "-c", f"{ask}; while read line; do date +%s.%N; done"]
            began = time.time()
            with subprocess.Popen(words, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vm:
                pid, count, uuid, drawn = vm.stdout.readline().split()
                late = time.time() - began  # at most, when the guest was told
                urandom, name = vm.stdout.readline(), vm.stdout.readline()
                before = time.time()
                vm.stdin.write("now\n")
                vm.stdin.flush()
                guest = float(vm.stdout.readline())
                after = time.time()
                vm.stdin.close()
                self.assertEqual(vm.wait(LIMIT), 0)
            self.assertEqual(count, "1")  # the same process, asked for the first time in each
            for key, value in (("pid", pid), ("uuid", uuid), ("drawn", drawn), ("urandom", urandom), ("name", name)):
                seen.setdefault(key, []).append(value)
            self.assertTrue(before - late - 0.05 < guest < after + 0.05, (before, late, guest, after))
            off.append(before - guest)
        # On a busy machine the hour may take a while to get to a guest, but not to each.
        self.assertLess(min(off), 0.05)
        self.assertEqual(len(set(seen["pid"])), 1)
        for name in ("uuid", "drawn", "urandom", "name"):
            self.assertEqual(len(set(seen[name])), self.COUNT, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
