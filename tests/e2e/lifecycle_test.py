"""End-to-end tests of VMs in the background: records, keepers, ports, logs. Started by tests/e2e/run."""

import contextlib
import glob
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

BIN = os.environ["SUPERMACHINE_BIN"]
IMAGES = os.environ["SUPERMACHINE_IMAGES"]
ENGINE = ["--engine", os.environ.get("SUPERMACHINE_ENGINE", "auto")]
LIMIT = 100  # seconds; a guest may run on an emulated processor
BUSYBOX = f"oci:{IMAGES}:busybox"
FOREVER = ["sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"]


class Case(unittest.TestCase):
    """Each test has folders of its own, and leaves no VM."""

    def setUp(self):
        self.folders = tempfile.TemporaryDirectory()
        self.env = dict(os.environ, XDG_STATE_HOME=self.folders.name + "/state", XDG_RUNTIME_DIR=self.folders.name + "/run")
        os.mkdir(self.folders.name + "/run", 0o700)

    def tearDown(self):
        ids = self.call("ps", "-aq", "--no-trunc").stdout.split()
        if ids:
            self.call("rm", "-f", *[i.decode() for i in ids])
        self.folders.cleanup()

    def call(self, *words, stdin=b"", **more):
        return subprocess.run([BIN, *words], input=stdin, capture_output=True, timeout=LIMIT, env=self.env, **more)

    def ok(self, *words, **more):
        r = self.call(*words, **more)
        self.assertEqual(r.returncode, 0, (words, r.stderr.decode()))
        return r.stdout.decode()

    def refused(self, text, *words):
        r = self.call(*words)
        self.assertEqual(r.returncode, 125, (words, r))
        self.assertIn(text, r.stderr.decode())

    def run_d(self, *words, options=()):
        return self.ok("run", "-d", *ENGINE, *options, BUSYBOX, *words).strip()

    def inspect(self, vm):
        return json.loads(self.ok("inspect", "--type", "vm", vm))[0]

    def until(self, done, what):
        deadline = time.monotonic() + LIMIT
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(0.05)

    def until_logged(self, vm, text):
        self.until(lambda: text in self.ok("logs", vm), text)

    def until_unmounted(self, folder):
        """A VM's processes close their files when they have answered."""
        self.until(lambda: subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0, "umount")


class Detached(Case):
    def test_from_start_to_removal(self):
        vm = self.run_d(*FOREVER, options=["--name", "web", "--label", "tier=front"])
        self.assertRegex(vm, "^[0-9a-f]{64}$")
        self.until_logged("web", "up\n")
        self.assertIn("Up ", self.ok("ps"))
        self.assertEqual(self.ok("ps", "-q").strip(), vm[:12])
        row = json.loads(self.ok("ps", "--format", "json", "-f", "label=tier=front"))
        self.assertEqual((row["ID"], row["Names"], row["State"], row["Labels"]), (vm, "web", "running", "tier=front"))
        self.refused("running", "rm", "web")
        self.assertEqual(self.ok("exec", "web", "hostname"), vm[:12] + "\n")
        waiter = subprocess.Popen([BIN, "wait", vm[:6]], stdout=subprocess.PIPE, env=self.env)
        self.assertEqual(self.ok("stop", "web"), "web\n")
        self.assertEqual(waiter.communicate(timeout=LIMIT)[0], b"9\n")
        self.assertEqual(self.ok("ps", "-q"), "")
        self.assertIn("Exited (9)", self.ok("ps", "-a"))
        self.assertEqual(self.ok("wait", "web"), "9\n")
        self.assertEqual(self.ok("logs", "web"), "up\n")
        self.assertEqual(self.ok("rm", "web"), "web\n")
        self.refused("no VM 'web'", "logs", "web")

    def test_start_failures_come_back(self):
        for status, command in ((127, ["no-such-program"]), (126, ["/etc"])):
            r = self.call("run", "-d", *ENGINE, BUSYBOX, *command)
            self.assertEqual((r.returncode, r.stdout), (status, b""), r.stderr)
            self.assertIn(command[0].encode(), r.stderr)
        r = self.call("run", "-d", *ENGINE, "-u", "nobody-here", BUSYBOX, "true")
        self.assertEqual(r.returncode, 125)
        self.assertEqual(self.ok("ps", "-aq", "-f", "status=created").count("\n"), 3)

    def test_survives_its_shell(self):
        out = subprocess.run(["sh", "-c", f"{BIN} run -d {' '.join(ENGINE)} {BUSYBOX} sleep 1000"], env=self.env, capture_output=True,
                             start_new_session=True, timeout=LIMIT)
        vm = out.stdout.decode().strip()
        keeper = self.inspect(vm)["State"]["KeeperPid"]
        self.assertEqual(os.getsid(keeper), keeper)
        for fd in (0, 1, 2):
            self.assertEqual(os.readlink(f"/proc/{keeper}/fd/{fd}"), "/dev/null")
        self.ok("exec", vm, "true")

    def test_rm_leaves_nothing(self):
        vm = self.run_d("true", options=["--rm"])
        self.until(lambda: self.ok("ps", "-aq") == "", "removed by itself")
        self.refused("no VM", "inspect", "--type", "vm", vm)

    def test_twenty_in_a_loop_leave_nothing(self):
        for n in range(20):
            vm = self.run_d("sleep", "1000", options=["--name", f"n{n}", "-p", "0:80"])
            if n % 2:
                self.ok("rm", "-f", vm)
            else:
                self.ok("kill", vm)
                self.ok("rm", f"n{n}")
        self.assertEqual(self.ok("ps", "-aq"), "")
        self.assertEqual(glob.glob(self.folders.name + "/run/supermachine/*"), [])
        state = self.folders.name + "/state/supermachine"
        self.assertEqual((os.listdir(state + "/vms"), os.listdir(state + "/names")), ([], []))
        # A keeper ends when it has answered.
        self.until(lambda: self.processes() == [], "all of them end")

    def test_a_killed_keeper_is_noticed(self):
        vm = self.run_d("sleep", "1000", options=["--name", "web"])
        state = self.inspect(vm)["State"]
        os.kill(state["KeeperPid"], signal.SIGKILL)
        self.until(lambda: not os.path.exists(f"/proc/{state['Pid']}"), "the worker ends")
        self.assertIn("Exited (137) lost", self.ok("ps", "-a"))
        self.assertEqual(self.ok("wait", "web"), "137\n")
        self.ok("stop", "web")
        self.refused("not running", "exec", "web", "true")
        self.ok("rm", "web")
        self.assertEqual(glob.glob(self.folders.name + "/run/supermachine/*"), [])

    def test_a_keeper_that_does_not_answer(self):
        vm = self.run_d("sleep", "1000", options=["--name", "web"])
        state = self.inspect(vm)["State"]
        os.kill(state["KeeperPid"], signal.SIGSTOP)
        self.addCleanup(lambda: self.call("rm", "-f", vm))
        self.refused("does not answer", "stop", "web")
        self.refused("rm -f", "kill", "web")
        os.kill(state["KeeperPid"], signal.SIGCONT)
        self.until(lambda: "Exited" in self.ok("ps", "-a"), "ends when it goes on")
        self.ok("start", "web")
        state = self.inspect(vm)["State"]
        for pid in (state["Pid"], state["KeeperPid"]):
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        self.ok("rm", "-f", "web")
        self.assertLess(time.monotonic() - began, 20)
        for pid in (state["Pid"], state["KeeperPid"]):
            self.until(lambda: not os.path.exists(f"/proc/{pid}"), "ends")
        self.assertEqual(self.ok("ps", "-aq"), "")
        self.assertEqual(glob.glob(self.folders.name + "/run/supermachine/*"), [])
        self.run_d("true", options=["--name", "web", "--rm"])

    def processes(self):
        """Of this test: by the folder in their environment."""
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                with open(path, "rb") as f:
                    if self.folders.name.encode() in f.read():
                        found.append(path)
            except OSError:
                pass
        return found


class Created(Case):
    def test_is_run_by_start(self):
        vm = self.ok("create", *ENGINE, "--name", "vm", "-i", BUSYBOX, "cat").strip()
        self.assertIn("Created", self.ok("ps", "-a"))
        self.assertEqual(self.ok("ps", "-q"), "")
        self.refused("not running", "kill", "vm")
        self.ok("stop", "vm")
        self.assertEqual(self.ok("start", "-ai", "vm", stdin=b"hello\n"), "hello\n")
        self.assertEqual(self.inspect(vm)["State"]["Status"], "exited")
        self.ok("start", "vm")
        self.assertIn("Up ", self.ok("ps"))
        self.ok("rm", "-f", "vm")
        self.refused("--detach", "create", "--detach", BUSYBOX, "true")
        self.assertEqual(self.ok("vm", "create", "--name", "other", BUSYBOX).strip(), self.inspect("other")["Id"])
        self.ok("rm", "other")


class Races(Case):
    """Several commands on one VM at a time."""

    def at_once(self, *commands):
        started = [subprocess.Popen([BIN, *c], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env) for c in commands]
        out = []
        for p in started:
            stderr = p.communicate(timeout=LIMIT)[1].decode()
            out.append((p.returncode, stderr))
        return out

    def test_of_several_starts_one_starts_it_and_all_are_told(self):
        vm = self.run_d("sh", "-c", "echo up; sleep 1000", options=["--name", "vm"])
        self.until_logged("vm", "up\n")
        self.ok("kill", "vm")
        self.assertEqual(self.at_once(*[["start", "vm"]] * 4), [(0, "")] * 4)
        self.assertEqual(self.inspect("vm")["State"]["Status"], "running")
        self.until(lambda: self.ok("logs", vm).count("up\n") == 2, "started once")

    def test_what_comes_while_it_starts_is_done(self):
        self.run_d("sleep", "1000", options=["--name", "vm"])
        self.ok("kill", "vm")
        for verb in (["stop", "-t", "0"], ["kill"], ["rm", "-f"]) * 5:
            if verb[0] == "rm":
                self.ok("rm", "-f", "vm")
                starter = ["run", "-d", *ENGINE, "--name", "vm", BUSYBOX, "sleep", "1000"]
            else:
                starter = ["start", "vm"]
            with subprocess.Popen([BIN, *starter], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.env) as p:
                socket_of = glob.escape(self.folders.name) + "/run/supermachine/keeper-*.sock"
                self.until(lambda: glob.glob(socket_of) or p.poll() is not None, "begins")
                done = self.call(*verb, "vm")
                stderr = p.communicate(timeout=LIMIT)[1].decode()
            if done.returncode != 0:  # before there was anything to do it to
                self.assertRegex(done.stderr.decode(), "not running|no VM")
                self.assertEqual(p.returncode, 0, stderr)
            elif verb[0] != "rm" or self.ok("ps", "-aq") == "":
                self.assertNotIn("Up ", self.ok("ps"), (verb, stderr))
            if not self.ok("ps", "-aq"):
                self.run_d("sleep", "1000", options=["--name", "vm"])
            self.ok("stop", "-t", "0", "vm")
            self.assertIn("Exited", self.ok("ps", "-a")) if verb[0] != "rm" else None

    def test_a_start_that_fails_changes_nothing(self):
        self.call("run", *ENGINE, "--name", "vm", BUSYBOX, "sh", "-c", "exit 3")
        path = glob.glob(self.folders.name + "/state/supermachine/vms/*/record.json")[0]
        with open(path) as f:
            record = json.load(f)
        with open(path, "w") as f:
            json.dump(record | {"image": "oci:/nowhere", "words": [w.encode().hex() for w in ("oci:/nowhere", "true")]}, f)
        self.refused("/nowhere", "start", "vm")
        state = self.inspect("vm")["State"]
        self.assertEqual((state["Status"], state["ExitCode"], state["KeeperPid"]), ("exited", 3, 0))
        self.assertEqual(glob.glob(self.folders.name + "/run/supermachine/*"), [])

    def test_an_unreadable_record_of_a_vm_that_runs_can_be_removed(self):
        vm = self.run_d("sleep", "1000", options=["--name", "vm"])
        state = self.inspect("vm")["State"]
        with open(f"{self.folders.name}/state/supermachine/vms/{vm}/record.json", "w") as f:
            f.write("{")
        self.refused("record", "stop", "vm")
        self.ok("rm", "-f", "vm")
        for pid in (state["Pid"], state["KeeperPid"]):
            self.until(lambda: not os.path.exists(f"/proc/{pid}"), "ends")
        self.assertEqual(self.ok("ps", "-aq"), "")
        self.assertEqual(glob.glob(self.folders.name + "/run/supermachine/*"), [])


@unittest.skipIf(os.geteuid() != 0, "mounts a file system")
class FullDisk(Case):
    def setUp(self):
        super().setUp()
        self.state = self.folders.name + "/state"
        os.mkdir(self.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", self.state], check=True)

    def tearDown(self):
        try:
            ids = self.call("ps", "-aq", "--no-trunc").stdout.split()
            if ids:
                self.call("rm", "-f", *[i.decode() for i in ids])
        finally:
            self.until_unmounted(self.state)
        super().tearDown()

    def test_the_log_gives_way_to_the_exit_status(self):
        vm = self.run_d("sh", "-c", "yes 0123456789 | head -c 5999994; exit 7", options=["--name", "vm"])
        self.assertEqual(self.ok("wait", vm), "7\n")
        state = self.inspect("vm")["State"]
        self.assertEqual((state["Status"], state["ExitCode"], state["Lost"]), ("exited", 7, False))
        self.assertLessEqual(set(self.ok("logs", vm).splitlines()), {"0123456789"})

    def test_the_exit_status_has_room_of_its_own(self):
        vm = self.run_d("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", options=["--name", "vm"])
        self.until_logged(vm, "up\n")
        with open(self.state + "/filler", "wb", buffering=0) as f:
            with self.assertRaises(OSError):
                while True:
                    f.write(b"x" * 4096)
        self.ok("exec", vm, "true")
        self.ok("stop", vm)
        state = self.inspect("vm")["State"]
        self.assertEqual((state["Status"], state["ExitCode"], state["Lost"]), ("exited", 7, False))
        os.unlink(self.state + "/filler")


class Events(Case):
    def test_tell_of_a_life(self):
        vm = self.run_d("sh", "-c", "exit 3", options=["--name", "vm"])
        self.ok("wait", vm)
        self.ok("rename", "vm", "other")
        self.ok("rm", "other")
        lines = self.ok("events", "--since", "1h", "--until", "0s", "-f", f"vm={vm[:12]}", "--format", "json").splitlines()
        events = [json.loads(line) for line in lines]
        self.assertEqual([e["action"] for e in events], ["create", "start", "die", "rename", "destroy"])
        self.assertEqual([e["exit_code"] for e in events], [0, 0, 3, 0, 0])
        text = self.ok("events", "--since", "1h", "--until", "0s", "-f", "event=die")
        self.assertRegex(text, rf"Z vm die {vm} \(exitCode=3, image=.*, name=vm\)\n")


class Stats(Case):
    def test_what_a_vm_uses_and_runs(self):
        vm = self.run_d("sh", "-c", "while :; do :; done", options=["--name", "busy", "-m", "128m"])
        row = json.loads(self.ok("stats", "--no-stream", "--format", "json", "busy"))
        self.assertEqual((row["ID"], row["Name"]), (vm, "busy"))
        self.assertGreater(row["CPUNs"], 0)
        self.assertGreater(row["MemBytes"], 1 << 20)
        self.assertIn("128MiB", row["MemUsage"])
        self.assertIn("busy", self.ok("stats", "--no-stream"))
        self.assertIn("while :", self.ok("top", "busy"))
        self.assertIn("PID", self.ok("top", "busy", "-o", "pid"))


class Names(Case):
    def test_are_unique_and_made_up(self):
        a, b = self.run_d("true"), self.run_d("true", options=["--name", "given"])
        self.assertRegex(self.inspect(a)["Name"], "^[a-z]+_[a-z]+$")
        self.refused("'given' is used", "run", *ENGINE, "--name", "given", BUSYBOX, "true")
        self.ok("wait", b)
        self.ok("rename", "given", "other")
        self.refused("no VM", "inspect", "--type", "vm", "given")
        self.assertEqual(self.inspect("other")["Id"], b)
        self.assertEqual(self.inspect(b[:20])["Name"], "other")
        self.refused("cannot be a name", "rename", "other", "a/b")

    def test_of_a_running_one_can_be_changed(self):
        vm = self.run_d("sleep", "1000", options=["--name", "old"])
        self.ok("rename", "old", "new")
        self.assertEqual(self.inspect("new")["Id"], vm)
        self.assertEqual(self.ok("stop", "-t", "1", "new"), "new\n")

    def test_cidfile(self):
        path = self.folders.name + "/cid"
        vm = self.run_d("true", options=["--cidfile", path])
        with open(path) as f:
            self.assertEqual(f.read(), vm)
        self.refused("exists already", "run", *ENGINE, "--cidfile", path, BUSYBOX, "true")


class AttachedRun(Case):
    def test_is_kept_until_rm(self):
        r = self.call("run", *ENGINE, "--name", "one", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (3, b"out\n", b"err\n"))
        self.assertIn("Exited (3)", self.ok("ps", "-a"))
        r = self.call("logs", "one")
        self.assertEqual((r.stdout, r.stderr), (b"out\n", b"err\n"))
        self.ok("run", "--rm", *ENGINE, BUSYBOX, "true")
        self.assertEqual(self.ok("ps", "-aq").count("\n"), 1)
        self.assertEqual(self.ok("vm", "prune").count("\n"), 2)
        self.assertEqual(self.ok("ps", "-aq"), "")

    def test_can_be_stopped_from_elsewhere(self):
        p = subprocess.Popen([BIN, "run", "--rm", *ENGINE, "--name", "here", BUSYBOX, *FOREVER], stdout=subprocess.PIPE, env=self.env)
        self.assertEqual(p.stdout.readline(), b"up\n")
        self.ok("stop", "here")
        self.assertEqual(p.wait(LIMIT), 9)
        p.stdout.close()
        self.assertEqual(self.ok("ps", "-aq"), "")


class Ends(Case):
    def test_a_signal_that_is_handled_may_come_often(self):
        self.run_d("sh", "-c", "trap 'echo again' HUP; echo up; while :; do sleep 0.02; done", options=["--name", "vm", "--restart", "always"])
        self.until_logged("vm", "up\n")
        for n in range(1, 6):
            self.ok("kill", "-s", "HUP", "vm")
            self.until(lambda: self.ok("logs", "vm").count("again") == n, f"the {n}th signal")
        self.assertEqual(self.inspect("vm")["State"]["Status"], "running")

    def test_a_stop_signal_that_comes_before_the_command_ends_it(self):
        self.run_d("sleep", "1000", options=["--name", "vm", "--stop-signal", "QUIT", "--restart", "always"])
        self.ok("restart", "-t", "0", "vm")
        self.ok("stop", "-t", "-1", "vm")  # for ever, if it were lost
        self.assertEqual(self.inspect("vm")["State"]["Status"], "exited")

    def test_one_that_does_not_listen_is_killed(self):
        self.run_d("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done", options=["--name", "deaf", "--stop-timeout", "1"])
        self.until_logged("deaf", "up\n")
        self.ok("stop", "deaf")
        self.assertEqual(self.ok("wait", "deaf"), "137\n")

    def test_signals(self):
        script = "trap 'echo usr1' USR1; trap 'exit 5' INT; echo up; while :; do sleep 0.1; done"
        self.run_d("sh", "-c", script, options=["--name", "vm", "--stop-signal", "INT"])
        self.until_logged("vm", "up\n")
        self.ok("kill", "-s", "USR1", "vm")
        self.until_logged("vm", "usr1\n")
        self.refused("no signal", "kill", "-s", "NOPE", "vm")
        self.ok("stop", "vm")
        self.assertEqual(self.ok("wait", "vm"), "5\n")
        self.refused("not running", "kill", "vm")
        self.ok("stop", "vm")

    def test_pause(self):
        self.run_d("sh", "-c", "i=0; while :; do echo $((i += 1)); sleep 0.05; done", options=["--name", "vm"])
        self.until_logged("vm", "3\n")
        self.ok("pause", "vm")
        self.assertIn("(Paused)", self.ok("ps"))
        # What it has printed may still be on its way to the log.
        self.until(lambda: self.stands_still("vm"), "stands still")
        before = self.ok("logs", "vm")
        self.refused("paused", "exec", "vm", "true")
        self.refused("not running", "pause", "vm")
        self.ok("unpause", "vm")
        self.until(lambda: self.ok("logs", "vm") != before, "goes on")
        self.ok("pause", "vm")
        self.ok("stop", "vm")
        self.assertEqual(self.ok("wait", "vm"), "143\n")

    def stands_still(self, vm):
        before = self.ok("logs", vm)
        time.sleep(0.5)
        return self.ok("logs", vm) == before

    def test_start_and_restart(self):
        vm = self.run_d("sh", "-c", "echo $A; touch /once || exit 1; sleep 1000", options=["--name", "vm", "-e", "A=x y", "-h", "host"])
        self.until_logged("vm", "x y\n")
        self.refused("running", "start", "-a", "vm")
        self.ok("restart", "-t", "1", "vm")
        self.until_logged("vm", "x y\nx y\n")
        self.ok("kill", "vm")
        self.ok("start", "vm")
        self.until_logged("vm", "x y\nx y\nx y\n")
        self.assertEqual(self.ok("exec", "vm", "hostname"), "host\n")
        self.assertEqual(self.inspect("vm")["Id"], vm)

    def test_restart_policy(self):
        self.run_d("sh", "-c", "echo again; exit 4", options=["--name", "vm", "--restart", "on-failure:2"])
        self.assertEqual(self.ok("wait", "vm"), "4\n")
        self.assertEqual(self.ok("logs", "vm"), "again\n" * 3)
        self.assertEqual(self.inspect("vm")["RestartCount"], 2)
        self.run_d("true", options=["--name", "always", "--restart", "always"])
        self.until(lambda: self.inspect("always")["RestartCount"] >= 2, "restarted")
        self.ok("stop", "always")
        self.assertEqual(self.inspect("always")["State"]["Status"], "exited")
        self.refused("contradict", "run", "--rm", "--restart", "always", BUSYBOX)


class Inherited(Case):
    """What the caller has open, or has not."""

    def shell(self, script):
        return subprocess.run(["bash", "-c", script, "bash", BIN, *ENGINE, BUSYBOX], capture_output=True, timeout=LIMIT, env=self.env)

    def test_a_vm_in_the_background_keeps_nothing_open(self):
        r = self.shell('"$1" run -d --name vm "${@:2}" sleep 1000 3>&1 >/dev/null | cat')
        self.assertEqual((r.returncode, r.stdout), (0, b""), r.stderr)
        self.assertIn("Up ", self.ok("ps"))

    def test_closed_standard_streams(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(closed):
                r = self.shell(f'"$1" run -d --name vm "${{@:2}}" sleep 1000 {closed}')
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertIn("Up ", self.ok("ps"))
                self.ok("rm", "-f", "vm")


class HealthChecks(Case):
    def health(self, vm):
        return self.inspect(vm)["State"]["Health"]

    def test_a_check_follows_what_happens(self):
        self.run_d("sh", "-c", "touch /ok; while :; do sleep 1000; done",
                   options=["--name", "vm", "--health-cmd", "test -e /ok", "--health-interval", "100ms", "--health-retries", "2"])
        self.until(lambda: self.health("vm")["Status"] == "healthy", "healthy")
        self.assertIn("(healthy)", self.ok("ps"))
        self.ok("exec", "vm", "rm", "/ok")
        self.until(lambda: self.health("vm")["Status"] == "unhealthy", "unhealthy")
        self.assertGreaterEqual(self.health("vm")["FailingStreak"], 2)
        self.ok("exec", "vm", "touch", "/ok")
        self.until(lambda: self.health("vm") == {"Status": "healthy", "FailingStreak": 0}, "healthy again")
        self.ok("stop", "-t", "0", "vm")
        self.assertIsNone(self.health("vm"))

    def test_a_check_that_hangs_has_failed(self):
        self.run_d("sleep", "1000", options=["--name", "vm", "--health-cmd", "sleep 1000", "--health-interval", "50ms",
                                             "--health-timeout", "100ms", "--health-retries", "1"])
        self.until(lambda: self.health("vm")["Status"] == "unhealthy", "unhealthy")

    def test_wrong_options_are_refused_before_anything_starts(self):
        self.refused("--health-interval 1x", "run", "-d", "--health-cmd", "true", "--health-interval", "1x", BUSYBOX, "true")
        self.refused("--no-healthcheck", "run", "-d", "--health-cmd", "true", "--no-healthcheck", BUSYBOX, "true")
        self.assertEqual(self.ok("ps", "-aq"), "")


class Logs(Case):
    def test_times_tail_and_since(self):
        self.call("run", *ENGINE, "--name", "vm", BUSYBOX, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; printf end")
        self.assertEqual(self.ok("logs", "vm"), "line 1\nline 2\nline 3\nline 4\nline 5\nend")
        self.assertEqual(self.ok("logs", "--tail", "2", "vm"), "line 5\nend")
        self.assertEqual(self.ok("logs", "-n", "0", "vm"), "")
        self.assertEqual(self.ok("logs", "--since", "1h", "-n", "1", "vm"), "end")
        self.assertEqual(self.ok("logs", "--since", str(time.time() + 60), "vm"), "")
        first = self.ok("logs", "-t", "vm").splitlines()[0]
        self.assertRegex(first, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line 1$")
        self.refused("not a time", "logs", "--since", "yesterday", "vm")

    def test_follow_ends_with_the_vm(self):
        self.run_d("sh", "-c", "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; sleep 0.1; done", options=["--name", "vm"])
        r = self.call("logs", "-f", "vm")
        self.assertEqual((r.stdout, r.stderr), (b"1\n2\n3\n4\n5\n", b"e1\ne2\ne3\ne4\ne5\n"))

    def test_are_bounded(self):
        vm = self.run_d("sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 30000000")
        self.ok("wait", vm)
        folder = f"{self.folders.name}/state/supermachine/vms/{vm}"
        self.assertLessEqual(sum(os.path.getsize(p) for p in glob.glob(folder + "/log*")), 16 << 20)
        self.assertEqual(self.ok("logs", "-n", "1", vm), "0123456789012345678901234567890123456789\n"[:30000000 % 41 or 41])


class Exec(Case):
    def setUp(self):
        super().setUp()
        self.run_d("sleep", "1000", options=["--name", "vm", "-e", "BASE=base"])

    def test_options_and_statuses(self):
        self.assertEqual(self.ok("exec", "-e", "A=1", "-w", "/tmp", "-u", "user", "vm", "sh", "-c", "echo $BASE $A; pwd; id -un"), "base 1\n/tmp\nuser\n")
        for status in (0, 1, 77):
            self.assertEqual(self.call("exec", "vm", "sh", "-c", f"exit {status}").returncode, status)
        self.assertEqual(self.call("exec", "vm", "sh", "-c", "kill -9 $$").returncode, 137)
        self.assertEqual(self.call("exec", "vm", "no-such-program").returncode, 127)
        self.assertEqual(self.call("exec", "vm", "/etc").returncode, 126)
        self.refused("no command", "exec", "vm")
        self.refused("no VM", "exec", "nobody", "true")
        data = os.urandom(1 << 20)
        self.assertEqual(self.call("exec", "-i", "vm", "cat", stdin=data).stdout, data)

    def test_in_the_background(self):
        self.ok("exec", "-d", "vm", "sh", "-c", "echo there > /tmp/file; sleep 1000")
        self.until(lambda: self.call("exec", "vm", "cat", "/tmp/file").stdout == b"there\n", "written")
        self.assertEqual(self.call("exec", "-d", "vm", "no-such-program").returncode, 127)

    def test_signals_are_handed_on(self):
        p = subprocess.Popen([BIN, "exec", "vm", *FOREVER], stdout=subprocess.PIPE, env=self.env)
        self.assertEqual(p.stdout.readline(), b"up\n")
        p.terminate()
        self.assertEqual(p.wait(LIMIT), 9)
        p.stdout.close()

    def test_ends_with_the_vm(self):
        p = subprocess.Popen([BIN, "exec", "vm", *FOREVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        self.assertEqual(p.stdout.readline(), b"up\n")
        self.ok("kill", "vm")
        self.assertEqual(p.wait(LIMIT), 137)
        p.communicate()


class Attach(Case):
    def test_output_input_and_status(self):
        self.run_d("sh", "-c", "while read line; do echo got $line; done; exit 6", options=["--name", "vm", "-i"])
        p = subprocess.Popen([BIN, "attach", "vm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env)
        p.stdin.write(b"a\n")
        p.stdin.flush()
        self.assertEqual(p.stdout.readline(), b"got a\n")
        self.ok("kill", "-s", "TERM", "vm")
        self.assertEqual(p.wait(LIMIT), 143)
        p.communicate()
        self.assertEqual(self.ok("logs", "vm"), "got a\n")


class Ports(Case):
    SERVER = ["sh", "-c", "mkdir /w; echo hello > /w/index.html; httpd -p 8080 -h /w; echo up; sleep 1000"]

    @staticmethod
    def free_port():
        """None of those that the kernel gives to whoever wants any: they may be somebody else's before the VM takes it."""
        for port in random.sample(range(20000, 32000), 100):
            with socket.socket() as s, contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                return port
        raise OSError("no free port")

    def get(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT) as r:
            return r.read()

    def test_a_published_server_answers(self):
        port = self.free_port()
        self.run_d(*self.SERVER, options=["--name", "web", "-p", f"{port}:8080", "-p", "8080"])
        self.until_logged("web", "up\n")
        self.assertEqual(self.get(port), b"hello\n")
        lines = self.ok("port", "web").splitlines()
        self.assertEqual(lines[0], f"8080/tcp -> 127.0.0.1:{port}")
        self.assertEqual(self.get(lines[1].rsplit(":", 1)[1]), b"hello\n")
        self.assertEqual(self.ok("port", "web", "8080").splitlines()[0], f"127.0.0.1:{port}")
        self.refused("not published", "port", "web", "81")
        self.assertIn(f"127.0.0.1:{port}->8080/tcp", self.ok("ps"))
        self.refused("Address already in use", "run", "-d", *ENGINE, "-p", f"{port}:80", BUSYBOX, "true")
        self.refused("Address already in use", "run", "--rm", *ENGINE, "-p", f"{port}:80", BUSYBOX, "true")
        self.ok("restart", "-t", "1", "web")
        self.until(lambda: self.ok("logs", "web").count("up\n") == 2, "up again")
        self.assertEqual(self.get(port), b"hello\n")
        self.ok("rm", "-f", "web")
        with socket.socket() as s:
            self.assertNotEqual(s.connect_ex(("127.0.0.1", port)), 0)

    def test_a_free_port_is_another_at_each_start(self):
        self.run_d("sleep", "1000", options=["--name", "vm", "-p", "80"])
        port = int(self.ok("port", "vm", "80").rsplit(":", 1)[1])
        self.ok("stop", "-t", "0", "vm")
        self.assertEqual(self.inspect("vm")["NetworkSettings"]["Ports"], {})
        self.assertEqual(self.inspect("vm")["HostConfig"]["PortBindings"], {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
        with socket.socket() as s:  # somebody else's now
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            s.listen()
            self.ok("start", "vm")
            self.assertNotEqual(int(self.ok("port", "vm", "80").rsplit(":", 1)[1]), port)

    def test_ranges(self):
        first = self.free_port()
        words = ["-p", f"127.0.0.1:{first}-{first + 30}:8080", "-p", f"127.0.0.2:{first}-{first + 1}:8080-8081"]
        with socket.socket() as s:  # the first is somebody else's
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", first))
            s.listen()
            self.run_d(*self.SERVER, options=["--name", "web", *words])
        self.until_logged("web", "up\n")
        got = int(self.ok("port", "web", "8080").splitlines()[0].rsplit(":", 1)[1])
        self.assertTrue(first < got <= first + 30, got)
        self.assertEqual(self.get(got), b"hello\n")
        self.assertEqual(self.ok("port", "web", "8081/tcp"), f"127.0.0.2:{first + 1}\n")
        self.assertIn(f"127.0.0.1:{got}->8080/tcp, 127.0.0.2:{first}-{first + 1}->8080-8081/tcp", self.ok("ps"))
        vm = self.inspect("web")
        self.assertEqual(vm["HostConfig"]["PortBindings"]["8080/tcp"],
                         [{"HostIp": "127.0.0.1", "HostPort": f"{first}-{first + 30}"}, {"HostIp": "127.0.0.2", "HostPort": str(first)}])
        self.assertEqual(vm["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"], str(got))

    @unittest.skipUnless(os.path.exists("/proc/net/if_inet6"), "no IPv6 here")
    def test_ipv6(self):
        port = self.free_port()
        self.run_d(*self.SERVER, options=["--name", "web", "-p", f"[::1]:{port}:8080", "-p", f"127.0.0.1:{port}:8080"])
        self.until_logged("web", "up\n")
        for host in ("[::1]", "127.0.0.1"):
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=LIMIT) as r:
                self.assertEqual(r.read(), b"hello\n")
        self.assertEqual(self.ok("port", "web"), f"8080/tcp -> [::1]:{port}\n8080/tcp -> 127.0.0.1:{port}\n")
        self.assertIn(f"[::1]:{port}->8080/tcp", self.ok("ps"))
        self.assertEqual(self.inspect("web")["NetworkSettings"]["Ports"]["8080/tcp"][0], {"HostIp": "::1", "HostPort": str(port)})

    def test_what_cannot_be_published(self):
        for text, why in (("80-90:80-91", "12"), ("80/udp", "/udp"), ("53:53/sctp", "/sctp"), ("::1:80:80", "brackets"), ("x:80", "no port")):
            self.refused(why, "run", "-d", "-p", text, BUSYBOX, "true")


if __name__ == "__main__":
    unittest.main(verbosity=2)
