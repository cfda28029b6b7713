"""End-to-end tests of saved machines: workers that save, restore, and are disturbed in it. Started by tests/e2e/run."""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import agent_client
from worker_client import Worker

BIN = os.environ["SUPERMACHINE_BIN"]
IMAGES = os.environ["SUPERMACHINE_IMAGES"]
ENGINE = os.environ.get("SUPERMACHINE_ENGINE", "auto")
LIMIT = 100  # seconds; a guest may run on an emulated processor
WORKER = BIN + "-worker"
GUEST = os.path.join(os.path.dirname(BIN), "..", "guest")


def content(path):
    with open(path) as f:
        return f.read()


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory(prefix="sm-e2e-")
        env = dict(os.environ, XDG_CACHE_HOME=f"{cls.shared.name}/cache")
        subprocess.run([BIN, "run", "--no-snapshot", "--engine", ENGINE, f"oci:{IMAGES}:busybox", "true"], check=True, env=env)
        cls.layer, = glob.glob(f"{cls.shared.name}/cache/supermachine/layers/*.squashfs")

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="sm-e2e-")
        self.env = dict(os.environ, XDG_CACHE_HOME=self.path("cache"))
        self.count = 0

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return f"{self.folder.name}/{name}"

    def worker(self, *arguments, disks=1, errors=None):
        self.count += 1
        self.socket = self.path(f"exec{self.count}")
        return Worker(WORKER, ["--engine", ENGINE, "--vsock-exec", self.socket, *arguments,
                               *["--virtio-blk", self.layer] * disks], LIMIT, errors)

    def boot(self, *arguments, cpus=1, memory=128, **more):
        return self.worker("--kernel", f"{GUEST}/kernel", "--initramfs", f"{GUEST}/initramfs.cpio", "--memory", str(memory),
                           "--vcpus", str(cpus), *arguments, **more)

    def bake(self, name="baked", cpus=1, *arguments):
        with self.boot("--no-sandbox", "--snapshot-on-pre-exec", "--snapshot-out", self.path(name), *arguments, cpus=cpus) as vm:
            answer = vm.wait_for("done", "refused")
            self.assertEqual(answer["type"], "done", answer)
        return self.path(name)

    def restore(self, snapshot, *arguments, resume=True, **more):
        vm = self.worker("--restore-from", snapshot, *arguments)
        started = vm.wait_for("started")
        self.assertEqual(started["type"], "event", started)
        if resume:
            steps, error = agent_client.resume(self.socket, LIMIT, **{"generation": 1, **more})
            self.assertIsNone(error)
        return vm

    def kept(self, kernels):
        """What `run` keeps: machines of booted kernels, or those of images."""
        found = glob.glob(self.path("cache/supermachine/snapshots/*"))
        return [p for p in found
                if (json.loads(content(f"{p}/manifest.json"))["annotations"]["image"] == "<booted kernel>") == kernels]

    def snapshots(self):
        return self.kept(kernels=False)

    def kernels(self):
        return self.kept(kernels=True)

    def shell(self, script, socket=None):
        output, status = agent_client.execute(socket or self.socket, LIMIT, "sh", "-c", script)
        self.assertEqual(status, 0, output)
        return output


class Restore(Case):
    def check_restores(self, cpus, times):
        snapshot = self.bake(cpus=cpus)
        for _ in range(int(os.environ.get("SUPERMACHINE_RESTORES", times))):
            with self.restore(snapshot) as vm:
                self.assertEqual(self.shell("nproc; seq 1 1000 | sha256sum"),
                                 f"{cpus}\n67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f  -\n")
                self.assertEqual(vm.stop(), 0)

    def test_one_cpu(self):
        self.check_restores(1, 10)

    def test_two_cpus(self):
        self.check_restores(2, 10)

    def test_four_cpus(self):
        self.check_restores(4, 5)

    @unittest.skipIf("SUPERMACHINE_SHORTER" in os.environ, "more vCPUs than the lab is made for")
    def test_eight_cpus(self):
        self.check_restores(8, 2)

    def test_clones_have_nothing_random_in_common(self):
        snapshot = self.bake(cpus=2)
        seen = []
        with contextlib.ExitStack() as vms:
            for n in range(8):
                vms.enter_context(self.restore(snapshot, hostname=f"clone{n}", machine_id=f"{n + 1:032x}"))
                seen.append(self.shell("head -c 1024 /dev/urandom | sha256sum; cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname")
                            .split("\n")[:-1])
        for values in zip(*seen):
            self.assertEqual(len(set(values)), 8, values)

    def test_the_clock_is_the_hosts(self):
        snapshot = self.bake()
        with self.restore(snapshot, resume=False):
            asked = time.time()
            self.assertIsNone(agent_client.resume(self.socket, LIMIT, generation=1)[1])
            # What the guest was told is older by at most this.
            late = time.time() - asked
            before = time.time()
            inside = int(self.shell("date +%s"))
            self.assertLessEqual(int(before - late) - 1, inside)
            self.assertLessEqual(inside, time.time() + 1)

    def test_nothing_runs_before_the_guest_knows_that_it_is_a_copy(self):
        snapshot = self.bake()
        with self.restore(snapshot, resume=False):
            output, status = agent_client.execute(self.socket, LIMIT, "true")
            self.assertIsNone(status)

    def test_what_differs_is_named(self):
        snapshot = self.bake()
        for arguments, word in ((["--memory", "64"], "memory"), (["--vcpus", "2"], "vCPUs"), (["--cpu-model", "x86-64-v2"], "CPU")):
            with self.worker("--restore-from", snapshot, *arguments, errors=subprocess.DEVNULL) as vm:
                failure = vm.wait_for("started")
                self.assertEqual(failure["type"], "failure")
                self.assertIn(word, failure["cause"])
                self.assertEqual(vm.process.wait(LIMIT), 2)
        with self.worker("--restore-from", snapshot, disks=0, errors=subprocess.DEVNULL) as vm:
            self.assertIn("disk", vm.wait_for("started")["cause"])

    def test_another_snapshot_than_the_one_that_was_meant_is_refused(self):
        snapshot = self.bake()
        with open(f"{snapshot}/manifest.json") as file:
            digest = json.load(file)["memory_digest"]
        with self.worker("--restore-from", snapshot, "--restore-digest", digest) as vm:
            self.assertEqual(vm.wait_for("started")["type"], "event")
        with self.worker("--restore-from", snapshot, "--restore-digest", "0" * 32, errors=subprocess.DEVNULL) as vm:
            failure = vm.wait_for("started")
            self.assertEqual((failure["type"], failure["code"]), ("failure", "corrupt"))
            self.assertIn("replaced", failure["cause"])
            self.assertEqual(vm.process.wait(LIMIT), 2)


class Live(Case):
    def test_a_running_machine_is_saved_and_goes_on(self):
        with self.boot("--no-sandbox") as vm:
            vm.wait_for("agent-ready")
            self.shell("(i=0; while :; do i=$((i+1)); echo $i >/tmp/counter; done) >/dev/null 2>&1 & echo $! >/tmp/pid")
            answer = vm.ask(type="snapshot", id=5, path=self.path("live"), changed_only=False, replace=False)
            self.assertEqual((answer["type"], answer["id"]), ("done", 5), answer)
            self.counts_on(self.socket)
        with self.restore(self.path("live")):
            self.counts_on(self.socket)

    def counts_on(self, socket):
        first = self.shell("cat /tmp/counter", socket)
        self.assertEqual(self.shell(f"while [ \"x$(cat /tmp/counter)\" = x{first.strip()} ]; do :; done; echo on", socket), "on\n")

    def test_a_diff_holds_what_changed(self):
        base = self.bake()
        with self.restore(base, "--no-sandbox") as vm:
            self.shell("head -c 3000000 /dev/urandom >/tmp/data; sha256sum </tmp/data >/tmp/sum")
            total = self.shell("cat /tmp/sum")
            answer = vm.ask(type="snapshot", id=1, path=self.path("diff"), changed_only=True, replace=False)
            self.assertEqual(answer["type"], "done", answer)
        self.assertLess(answer["bytes"], os.stat(f"{base}/memory.img").st_blocks * 512)
        for _ in range(2):
            with self.restore(self.path("diff"), generation=2) as vm:
                self.assertEqual(self.shell("sha256sum </tmp/data"), total)
        # A whole one of a VM that was made from two layers.
        with self.restore(self.path("diff"), "--no-sandbox", generation=2) as vm:
            answer = vm.ask(type="snapshot", id=1, path=self.path("whole"), changed_only=False, replace=False)
            self.assertEqual(answer["type"], "done", answer)
        shutil.rmtree(base)
        with self.restore(self.path("whole"), generation=3):
            self.assertEqual(self.shell("sha256sum </tmp/data"), total)
        with self.worker("--restore-from", self.path("diff"), errors=subprocess.DEVNULL) as vm:
            self.assertEqual(vm.wait_for("started")["type"], "failure")

    def test_a_machine_without_a_base_has_no_diff(self):
        with self.boot("--no-sandbox", errors=subprocess.DEVNULL) as vm:
            vm.wait_for("agent-ready")
            answer = vm.ask(type="snapshot", id=1, path=self.path("diff"), changed_only=True, replace=False)
            self.assertEqual(answer["type"], "refused")
            self.assertEqual(self.shell("echo well"), "well\n")

    def test_the_sandbox_lets_no_worker_write_files(self):
        with self.boot(errors=subprocess.DEVNULL) as vm:
            vm.wait_for("agent-ready")
            answer = vm.ask(type="snapshot", id=1, path=self.path("live"), changed_only=False, replace=False)
            self.assertEqual((answer["type"], answer["code"]), ("refused", "unsupported"))
            self.assertEqual(self.shell("echo well"), "well\n")

    def test_pause_and_resume(self):
        with self.boot("--no-sandbox") as vm:
            vm.wait_for("agent-ready")
            self.shell("(while :; do cat /proc/uptime >/tmp/up; done) >/dev/null 2>&1 &")
            for n in range(5):
                self.assertEqual(vm.ask(type="pause", id=2 * n)["type"], "done")
                self.assertEqual(vm.ask(type="snapshot", id=100, path=self.path(f"paused{n}"), changed_only=False, replace=False)["type"], "done")
                self.assertEqual(vm.ask(type="resume", id=2 * n + 1)["type"], "done")
                self.assertEqual(self.shell("echo on"), "on\n")


class Trouble(Case):
    def test_an_altered_file_is_refused(self):
        snapshot = self.bake()
        for name in ("manifest.json", "state.bin", "memory.img", "memory.sum"):
            copy = self.path("copy")
            shutil.copytree(snapshot, copy)
            with open(f"{copy}/{name}", "r+b") as f:
                size = os.fstat(f.fileno()).st_size
                at = next(n for n in range(size // 2, size) if name != "memory.img" or f.seek(n) >= 0 and f.read(1) != b"\0")
                f.seek(at)
                byte = f.read(1)
                f.seek(at)
                f.write(bytes([byte[0] ^ 1]))
            with self.worker("--restore-from", copy, errors=subprocess.DEVNULL) as vm:
                message = vm.wait_for("started")
                self.assertEqual(message["type"], "failure", name)
                self.assertIn(message["code"], ("corrupt", "unsupported", "limit"), name)
            shutil.rmtree(copy)

    def test_an_existing_snapshot_is_not_overwritten_unless_asked(self):
        snapshot = self.bake()
        before = content(f"{snapshot}/manifest.json")
        with self.boot("--no-sandbox", errors=subprocess.DEVNULL) as vm:
            vm.wait_for("agent-ready")
            self.assertEqual(vm.ask(type="snapshot", id=1, path=snapshot, changed_only=False, replace=False)["type"], "refused")
            self.assertEqual(content(f"{snapshot}/manifest.json"), before)
            self.assertEqual(vm.ask(type="snapshot", id=2, path=snapshot, changed_only=False, replace=True)["type"], "done")
            self.assertNotEqual(content(f"{snapshot}/manifest.json"), before)

    def test_a_killed_worker_leaves_no_half_snapshot(self):
        for delay in (0.0, 0.01, 0.03, 0.06, 0.1):
            with self.boot("--no-sandbox") as vm:
                vm.wait_for("agent-ready")
                vm.send({"type": "snapshot", "id": 1, "path": self.path("s"), "changed_only": False, "replace": True})
                time.sleep(delay)
                vm.process.kill()
                vm.process.wait(LIMIT)
            if os.path.exists(self.path("s")):
                with self.restore(self.path("s")):
                    self.assertEqual(self.shell("echo whole"), "whole\n")
        self.bake("next")  # also clears away what the killed ones left
        self.assertEqual(glob.glob(self.path("*.tmp-*")), [])

    def test_the_worker_ends_with_its_parent(self):
        snapshot = self.bake()
        vm = self.restore(snapshot)
        vm.control.close()
        self.assertEqual(vm.process.wait(LIMIT), 0)


class Waiting(Case):
    """Workers that are told later what to become (--pool-worker)."""

    def waiting(self):
        vm = Worker(WORKER, ["--pool-worker"], LIMIT)
        self.assertEqual(vm.wait_for("hello")["type"], "hello")
        return vm

    def ask(self, vm, *arguments):
        vm.send({"type": "restore", "arguments": arguments})
        return vm.wait_for("started")

    def arguments(self, snapshot):
        self.socket = self.path("waiting")
        return ["--engine", ENGINE, "--vsock-exec", self.socket, "--restore-from", snapshot, "--virtio-blk", self.layer]

    def test_it_becomes_the_vm_that_it_is_told_to(self):
        snapshot = self.bake(cpus=2)
        with self.waiting() as vm:
            self.assertEqual(vm.ask(type="pause", id=1)["type"], "refused")  # there is no VM yet
            self.assertEqual(self.ask(vm, *self.arguments(snapshot)).get("name"), "started")
            _, error = agent_client.resume(self.socket, LIMIT, generation=1)
            self.assertIsNone(error)
            self.assertEqual(self.shell("nproc"), "2\n")
            # It is that VM now and none other.
            vm.send({"type": "restore", "arguments": self.arguments(snapshot)})
            self.assertEqual(vm.process.wait(LIMIT), 0)

    def test_what_it_cannot_become_is_named(self):
        for words, cause in ((["--kernel=/k"], "--restore-from: missing"), (["--wrong"], "unknown arg: --wrong"),
                             (["--restore-from=/nowhere"], "/nowhere")):
            with self.subTest(words), self.waiting() as vm:
                answer = self.ask(vm, *words)
                self.assertEqual(answer["type"], "failure", answer)
                self.assertIn(cause, answer["cause"])
                self.assertEqual(vm.process.wait(LIMIT), 2)

    def test_it_ends_with_its_parent(self):
        vm = self.waiting()
        vm.control.close()
        self.assertEqual(vm.process.wait(LIMIT), 0)

    def test_other_workers_take_no_such_request(self):
        snapshot = self.bake()
        with self.restore(snapshot) as vm:
            vm.send({"type": "restore", "arguments": self.arguments(snapshot)})
            self.assertEqual(vm.process.wait(LIMIT), 0)


class Run(Case):
    def run_image(self, *words, options=()):
        return subprocess.run([BIN, "run", "--engine", ENGINE, "-m", "128m", *options, f"oci:{IMAGES}:busybox", *words],
                              capture_output=True, timeout=LIMIT, env=self.env)

    def generation(self, **more):
        r = self.run_image("cat", "/run/supermachine/generation", **more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return int(r.stdout)

    def test_the_first_run_bakes_and_later_ones_restore(self):
        self.assertEqual([self.generation() for _ in range(3)], [0, 1, 1])
        self.assertEqual(len(self.snapshots()), 1)
        self.assertEqual(self.generation(options=["--cpus", "2"]), 0)
        self.assertEqual(len(self.snapshots()), 2)

    def snapshot(self, *words):
        return subprocess.run([BIN, "snapshot", *words], capture_output=True, text=True, timeout=LIMIT, env=self.env)

    def test_saved_vms_can_be_listed_checked_and_removed(self):
        self.assertEqual(self.snapshot("ls", "-q").stdout, "")
        self.generation()
        names = self.snapshot("ls", "-q").stdout.split()
        self.assertEqual(sorted(os.path.basename(p) for p in self.snapshots() + self.kernels()), sorted(names))
        name = os.path.basename(self.snapshots()[0])
        self.assertIn("128 MiB", self.snapshot("ls").stdout)
        self.assertIn("<booted kernel>", self.snapshot("ls").stdout)
        listed = [json.loads(line)["Name"] for line in self.snapshot("ls", "--format", "json").stdout.splitlines()]
        self.assertEqual(sorted(listed), sorted(names))
        self.assertEqual(json.loads(self.snapshot("inspect", name[:8]).stdout)[0]["memory_bytes"], 128 << 20)
        self.assertIn("whole", self.snapshot("verify", self.snapshots()[0]).stdout)
        with open(f"{self.snapshots()[0]}/memory.img", "r+b") as f:
            f.write(b"altered")
        altered = self.snapshot("verify", name)
        self.assertEqual(altered.returncode, 125)
        self.assertIn("memory", altered.stderr)
        self.assertEqual(self.snapshot("rm", "none").returncode, 125)
        self.assertEqual(self.snapshot("rm", name[:8]).returncode, 0)
        self.assertEqual(self.snapshots(), [])
        self.assertEqual(self.snapshot("rm", "--all").returncode, 0)
        self.assertEqual(self.kernels(), [])

    def test_no_snapshot_makes_none(self):
        r = self.run_image("true", options=["--no-snapshot"])
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.snapshots() + self.kernels(), [])

    def test_each_run_has_its_own_name_and_environment(self):
        self.generation()
        for name in ("one", "two"):
            r = self.run_image("sh", "-c", "hostname; cat /etc/hostname; echo $A", options=["-h", name, "-e", f"A={name}"])
            self.assertEqual(r.stdout.decode(), f"{name}\n{name}\n{name}\n")

    def test_a_damaged_snapshot_is_made_again(self):
        self.generation()
        snapshot, = self.snapshots()
        with open(f"{snapshot}/state.bin", "r+b") as f:
            f.seek(100)
            f.write(b"damage")
        self.assertEqual([self.generation() for _ in range(2)], [0, 1])
        manifest = json.loads(content(f"{snapshot}/manifest.json"))
        os.unlink(f"{snapshot}/memory.img")
        self.assertEqual([self.generation() for _ in range(2)], [0, 1])
        self.assertNotEqual(json.loads(content(f"{snapshot}/manifest.json"))["memory_digest"], manifest["memory_digest"])

    def test_a_secret_is_not_in_the_snapshot(self):
        secret = "s3cr3t-" + os.urandom(8).hex()
        for _ in range(2):
            r = self.run_image("sh", "-c", "echo $TOKEN", options=["-e", f"TOKEN={secret}"])
            self.assertEqual(r.stdout.decode().strip(), secret)
        for file in glob.glob(self.path("cache/supermachine/snapshots/*/*")):
            with open(file, "rb") as f:
                self.assertNotIn(secret.encode(), f.read(), file)

    def test_two_first_runs_at_once(self):
        runs = [subprocess.Popen([BIN, "run", "--engine", ENGINE, "-m", "128m", f"oci:{IMAGES}:busybox", "echo", "hi"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env) for _ in range(3)]
        for r in runs:
            self.assertEqual(r.communicate(timeout=LIMIT)[0], b"hi\n")
            self.assertEqual(r.returncode, 0)
        self.assertEqual(len(self.snapshots()), 1)
        self.assertEqual(self.generation(), 1)

    def test_ctrl_c_in_the_first_run_leaves_a_usable_cache(self):
        for delay in (0.1, 0.3, 0.5):
            r = subprocess.Popen([BIN, "run", "--engine", ENGINE, "-m", "128m", f"oci:{IMAGES}:busybox", "sleep", "100"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env)
            time.sleep(delay)
            r.send_signal(signal.SIGINT)
            self.assertIn(r.wait(LIMIT), (130, -signal.SIGINT))
        self.generation()
        self.assertEqual(self.generation(), 1)


class KernelCache(Case):
    """Machines of a booted kernel, from which the first run of an image goes on."""

    def run_in(self, image, *words, options=()):
        return subprocess.run([BIN, "run", "--engine", ENGINE, "-m", "128m", *options, image, *words], capture_output=True, text=True,
                              timeout=LIMIT, env=self.env)

    def output(self, *words, **more):
        r = self.run_in(*words, **more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def start_of(self, image, options=()):
        """The worker's words of a run: how its VM has come to life."""
        run = subprocess.Popen([BIN, "run", "--engine", ENGINE, "-m", "128m", *options, image, "sh", "-c", "echo up; cat"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env)
        try:
            self.assertEqual(run.stdout.readline(), b"up\n")
            with open(f"/proc/{run.pid}/task/{run.pid}/children") as f:
                children = f.read().split()
            words = [content(f"/proc/{child}/cmdline").split("\0") for child in children]
            found = next(w for w in words if w[0].endswith("-worker"))
            # It ends by itself: what it saves may not be whole yet.
            run.communicate(timeout=LIMIT)
            return found
        finally:
            run.kill()
            run.wait(LIMIT)

    @staticmethod
    def saved_from_empty_disks(snapshot):
        manifest = json.loads(content(f"{snapshot}/manifest.json"))
        return manifest["awaits_image"] and not any(d["bytes"] for d in manifest["devices"])

    def image(self, layers):
        """busybox with further layers: /layers/N in each."""
        layout = self.path("layout")
        subprocess.run(["skopeo", "copy", "--quiet", f"oci:{IMAGES}:busybox", f"oci:{layout}:busybox"], check=True)
        subprocess.run(["umoci", "tag", "--image", f"{layout}:busybox", "more"], check=True)
        for n in range(1, layers):
            os.makedirs(self.path(f"layer{n}/layers"))
            with open(self.path(f"layer{n}/layers/{n}"), "w") as f:
                f.write(f"{n}\n")
            subprocess.run(["tar", "--owner=0", "--group=0", "-C", self.path(f"layer{n}"), "-cf", self.path("layer.tar"), "."], check=True)
            subprocess.run(["umoci", "raw", "add-layer", "--image", f"{layout}:more", self.path("layer.tar")], check=True)
        return f"oci:{layout}:more"

    BUSYBOX, DEBIAN = f"oci:{IMAGES}:busybox", f"oci:{IMAGES}:debian"

    def test_the_first_run_of_another_image_goes_on_from_a_booted_kernel(self):
        first = self.start_of(self.BUSYBOX)
        self.assertIn("--snapshot-on-kernel", first)
        kernel, = self.kernels()
        second = self.start_of(self.DEBIAN)
        self.assertIn(f"--restore-from={kernel}", second)
        self.assertIn("--snapshot-on-pre-exec", second)
        self.assertEqual(len(self.snapshots()), 2)
        third = self.start_of(self.DEBIAN)
        self.assertIn(third[[w.startswith("--restore-from=") for w in third].index(True)][len("--restore-from="):], self.snapshots())
        self.assertEqual(self.kernels(), [kernel])

    def test_machines_of_one_kernel_are_told_apart_and_know_their_image(self):
        self.output(self.BUSYBOX, "true")
        script = "id -u; pwd; hostname; cat /etc/hostname; echo $A; cat /run/supermachine/generation"
        options = ["-h", "box", "-u", "12:34", "-w", "/tmp", "-e", "A=b c"]
        for generation in (0, 1):
            self.assertEqual(self.output(self.DEBIAN, "sh", "-c", script, options=options), f"12\n/tmp\nbox\nbox\nb c\n{generation}\n")
        self.assertIn("Debian", self.output(self.DEBIAN, "cat", "/etc/os-release"))

    def test_what_is_random_differs_and_the_clock_is_right(self):
        self.output(self.BUSYBOX, "true")
        script = "date +%s; head -c 64 /dev/urandom | sha256sum; cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id"
        seen = []
        for image in (self.DEBIAN, self.image(2)):
            began = time.time()
            lines = self.output(image, "sh", "-c", script).split("\n")
            self.assertTrue(began - 10 < int(lines[0]) < time.time() + 10, (began, lines[0]))
            seen.append(lines[1:4])
        for one, other in zip(*seen):
            self.assertNotEqual(one, other)

    def test_a_damaged_one_is_made_again(self):
        self.output(self.BUSYBOX, "true")
        kernel, = self.kernels()
        digests = {json.loads(content(f"{kernel}/manifest.json"))["memory_digest"]}

        def damage_state():
            with open(f"{kernel}/state.bin", "r+b") as f:
                f.seek(100)
                f.write(b"damage")

        for damage in (damage_state, lambda: os.unlink(f"{kernel}/memory.img")):
            damage()
            for snapshot in self.snapshots():
                shutil.rmtree(snapshot)
            self.assertEqual(self.output(self.DEBIAN, "echo", "hi"), "hi\n")
            self.assertEqual(self.kernels(), [kernel])
            digests.add(json.loads(content(f"{kernel}/manifest.json"))["memory_digest"])
            self.assertEqual(self.output(self.BUSYBOX, "echo", "hi"), "hi\n")
        self.assertEqual(len(digests), 3)

    def test_files_that_contradict_what_was_saved_are_refused(self):
        other = self.path("other.squashfs")
        shutil.copy(self.layer, other)
        os.truncate(other, os.path.getsize(other) + 4096)
        layer = ["--virtio-blk", self.layer]
        snapshot = self.bake()
        for disks in (["--virtio-blk", other], [], layer * 2, [*layer, "--root-disk", other]):
            with self.worker("--restore-from", snapshot, *disks, disks=0, errors=subprocess.DEVNULL) as vm:
                message = vm.wait_for("started")
                self.assertEqual((message["type"], message.get("code")), ("failure", "unsupported"), message)
                self.assertIn("disk", message["cause"])

    def test_no_snapshot_does_not_use_it(self):
        self.output(self.BUSYBOX, "true")
        words = self.start_of(self.DEBIAN, options=["--no-snapshot"])
        self.assertFalse([w for w in words if w.startswith(("--restore", "--snapshot", "--layer-slots"))], words)

    def test_machines_have_a_few_more_disks_than_layers(self):
        image = self.image(3)
        self.assertEqual(self.output(image, "sh", "-c", "cat /layers/*"), "1\n2\n")
        kernel, = self.kernels()
        self.assertTrue(self.saved_from_empty_disks(kernel))
        devices = json.loads(content(f"{kernel}/manifest.json"))["devices"]
        self.assertEqual([d["bytes"] for d in devices if d["type"] == "blk"], [0] * 5)  # and the root's
        for _ in range(2):
            self.assertEqual(self.output(image, "sh", "-c", "cat /layers/*; cat /sys/block/vdd/size"), "1\n2\n0\n")
        # Of 31 layers, most of which are on one disk.
        self.assertIn("--layer-slots=16", self.start_of(f"oci:{IMAGES}:layered"))
        self.assertEqual(len(self.kernels()), 2)

    def test_what_a_guest_asks_of_an_empty_disk_fails(self):
        script = "dd if=/dev/vdd of=/tmp/out bs=4096 count=1 2>/dev/null; wc -c < /tmp/out; echo x | dd of=/dev/vdd 2>/dev/null || echo refused"
        for _ in range(2):
            self.assertEqual(self.output(self.image_once(), "sh", "-c", script), "0\nrefused\n")

    def image_once(self):
        if not os.path.exists(self.path("layout")):
            self.image(3)
        return f"oci:{self.path('layout')}:more"

    def test_roots_on_disks_work_with_it(self):
        for name, image in (("one", self.BUSYBOX), ("two", self.DEBIAN)):
            vm = [BIN, "run", "--engine", ENGINE, "-m", "128m", "--name", name, image, "sh", "-c", "cat /kept 2>&1 | tail -n 1; echo again > /kept"]
            first = subprocess.run(vm, capture_output=True, text=True, timeout=LIMIT, env=self.env)
            self.assertIn("No such file", first.stdout, first.stderr)
            again = subprocess.run([BIN, "start", "-a", name], capture_output=True, text=True, timeout=LIMIT, env=self.env)
            self.assertEqual(again.stdout, "again\n", again.stderr)
            subprocess.run([BIN, "rm", name], check=True, capture_output=True, timeout=LIMIT, env=self.env)
        self.assertEqual(len(self.kernels()), 1)

    def test_two_first_runs_of_two_images_at_once(self):
        runs = [subprocess.Popen([BIN, "run", "--engine", ENGINE, "-m", "128m", image, "echo", "hi"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env=self.env) for image in (self.BUSYBOX, self.DEBIAN)]
        for r in runs:
            output, errors = r.communicate(timeout=LIMIT)
            self.assertEqual((output, r.returncode), (b"hi\n", 0), errors)
        self.assertEqual(len(self.kernels()), 1)
        self.assertEqual(len(self.snapshots()), 2)

    def test_bakes_go_on_from_it(self):
        self.output(self.BUSYBOX, "true", options=["--rm"])
        bake = [BIN, "bake", "--engine", ENGINE, "-m", "128m", "--tag", "warm", self.DEBIAN]
        r = subprocess.run(bake, capture_output=True, text=True, timeout=LIMIT, env=self.env)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual((len(self.kernels()), len(self.snapshots())), (1, 2))
        self.assertTrue(self.saved_from_empty_disks(*self.kernels()))
        r = subprocess.run([BIN, "restore", "warm", "sh", "-c", "echo $((40 + 2))"], capture_output=True, text=True, timeout=LIMIT, env=self.env)
        self.assertEqual(r.stdout, "42\n", r.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)