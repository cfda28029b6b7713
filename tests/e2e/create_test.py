"""End-to-end tests of `snapshot create`: VMs of the command line that are saved while they run. Started by tests/e2e/run."""

import fcntl
import glob
import json
import os
import pty
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from lifecycle_test import BIN, ENGINE, LIMIT, Case

COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /tmp/.count; mv /tmp/.count /tmp/count; sleep 0.02; done"
COUNTS_ON = "a=$(cat /tmp/count); until [ $(cat /tmp/count) -gt $a ]; do sleep 0.1; done; echo $a; cat /tmp/count"


class SaveCase(Case):
    """Tags of its own: the snapshots of booted images are shared."""

    def setUp(self):
        super().setUp()
        self.tags = []

    def tearDown(self):
        super().tearDown()
        for tag in self.tags:
            self.call("snapshot", "rm", tag)

    def tag(self, name="one"):
        self.tags.append(f"e2e-{os.getpid()}-{name}")
        return self.tags[-1]

    def counter(self, *options):
        self.run_d("sh", "-c", COUNTER, options=["--name", "vm", "-m", "128m", *options])
        self.until(lambda: self.count() > 5, "counted")

    def count(self, vm="vm"):
        return int(self.call("exec", vm, "cat", "/tmp/count").stdout or 0)

    def restored(self, tag, script):
        return self.ok("restore", *ENGINE, tag, "sh", "-c", script)

    def waiting(self, tag, *options):
        vm = subprocess.Popen([BIN, "restore", *ENGINE, *options, tag], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env)
        self.addCleanup(vm.kill)
        return vm

    def leftovers(self):
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        return glob.glob(f"{cache}/supermachine/tags/e2e-{os.getpid()}-*.tmp-*")


class LiveSnapshots(SaveCase):
    def test_it_goes_on_and_so_do_its_copies(self):
        self.counter("--rm")
        tag = self.tag()
        said = self.ok("snapshot", "create", "vm", tag)
        self.assertRegex(said, f"^{tag}: [0-9.]+[KM]B of memory, the VM stood still for [0-9.]+ ms\n$")
        before = self.count()
        self.until(lambda: self.count() > before, "counts on")
        for _ in range(2):
            first, second = self.restored(tag, COUNTS_ON).split()
            self.assertGreater(int(first), 5)
            self.assertGreater(int(second), int(first))
        self.assertIn(tag, self.ok("snapshot", "ls", "-q"))
        self.assertIn("whole", self.ok("snapshot", "verify", tag))
        self.assertIn("snapshot", self.ok("events", "--since", "1h", "--until", "0s"))

    def test_a_copy_waits_for_its_workload(self):
        self.run_d("sh", "-c", "trap 'exit 7' TERM; while :; do echo up; sleep 0.05; done", options=["--rm", "--name", "vm", "-m", "128m"])
        self.until_logged("vm", "up\n")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        copy = self.waiting(tag)
        for _ in range(20):
            self.assertEqual(copy.stdout.readline(), b"up\n")
        copy.send_signal(signal.SIGTERM)
        # A shell says so of its child, which the signal reached as well.
        self.assertIn(copy.communicate(timeout=LIMIT)[1], (b"", b"Terminated\n"))
        self.assertEqual(copy.returncode, 7)
        self.assertEqual(self.ok("exec", "vm", "echo", "on"), "on\n")

    def test_a_waiting_copy_shows_what_its_workload_prints(self):
        self.run_d("sh", "-c", "trap 'echo bye; exit 7' TERM; i=0; while :; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.05; done",
                   options=["--rm", "--name", "vm", "-m", "128m"])
        self.until_logged("vm", "out 3\n")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        copies = [self.waiting(tag), self.waiting(tag)]
        for copy in copies:
            first = copy.stdout.readline().split()
            self.assertGreaterEqual(int(first[1]), 3)
            self.assertEqual(copy.stdout.readline(), b"out %d\n" % (int(first[1]) + 1))
            copy.send_signal(signal.SIGTERM)
            out, err = copy.communicate(timeout=LIMIT)
            self.assertTrue(out.endswith(b"bye\n"), out)
            self.assertEqual(set(line.split()[0] for line in err.splitlines()) - {b"Terminated"}, {b"err"})
            self.assertEqual(copy.returncode, 7)

    def test_what_it_prints_does_not_hold_a_copy_up(self):
        self.run_d("sh", "-c", "trap 'head -c 1000000 /dev/zero; exit 5' TERM; while :; do echo up; sleep 0.05; done",
                   options=["--rm", "--name", "vm", "-m", "128m"])
        self.until_logged("vm", "up\n")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        copy = self.waiting(tag)
        self.assertEqual(copy.stdout.readline(), b"up\n")
        copy.send_signal(signal.SIGTERM)
        self.assertGreaterEqual(len(copy.communicate(timeout=LIMIT)[0]), 1000000)
        self.assertEqual(copy.returncode, 5)

    def test_a_paused_one_stays_so(self):
        self.counter("--rm")
        self.ok("pause", "vm")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        self.assertIn("(Paused)", self.ok("ps"))
        first, second = self.restored(tag, COUNTS_ON).split()
        self.assertGreater(int(second), int(first))
        self.ok("unpause", "vm")
        # The copy may have counted further than the original, which has only just been let go.
        self.until(lambda: self.count() > int(second), "counts on")

    def test_a_terminal(self):
        tag = self.saved_while_it_waits("-it")
        self.assertEqual(self.restored(tag, "ls /tmp; sleep 0.3; set -- $(pidof sh); echo $#"), "mark\n2\n")

    def saved_while_it_waits(self, *options):
        """The tag of a shell on a terminal that was saved while it read lines, and went on to its end."""
        here, there = pty.openpty()
        vm = subprocess.Popen([BIN, "run", "--rm", *ENGINE, *options, "--name", "vm", "-m", "128m", f"oci:{os.environ['SUPERMACHINE_IMAGES']}:busybox", "sh"],
                              stdin=there, stdout=there, stderr=there, env=self.env)
        self.addCleanup(vm.kill)
        os.write(here, b"mark=early; touch /tmp/mark\n")
        self.until(lambda: self.call("exec", "vm", "test", "-e", "/tmp/mark").returncode == 0, "typed")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        os.write(here, b"exit 4\n")
        self.assertEqual(vm.wait(timeout=LIMIT), 4)
        return tag

    def test_a_copy_gets_input(self):
        tag = self.saved_while_it_waits("-i")
        for word in ("one", "two"):
            r = subprocess.run([BIN, "restore", *ENGINE, "-i", tag], input=f"echo $mark {word}\nexit 6\n".encode(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=self.env, timeout=LIMIT)
            self.assertEqual((r.stdout, r.stderr, r.returncode), (f"early {word}\n".encode(), b"", 6))
        # The end of the input is one for the copy as well.
        r = subprocess.run([BIN, "restore", *ENGINE, "-i", tag], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.env, timeout=LIMIT)
        self.assertEqual((r.stdout, r.returncode), (b"", 0))
        self.refused("options of a command", "restore", "-w", "/", tag)
        self.refused("has no terminal", "restore", "-it", tag)
        self.counter("--rm")
        self.ok("snapshot", "create", "vm", self.tag("other"))
        self.refused("has no open input", "restore", "-i", self.tags[-1])

    def test_a_copy_gets_a_terminal(self):
        tag = self.saved_while_it_waits("-it")
        here, there = pty.openpty()
        fcntl.ioctl(here, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        vm = subprocess.Popen([BIN, "restore", *ENGINE, "-it", tag], stdin=there, stdout=there, stderr=there, env=self.env)
        self.addCleanup(vm.kill)
        os.write(here, b"echo $mark; stty size; tty; exit 3\n")
        self.assertEqual(vm.wait(timeout=LIMIT), 3)
        os.close(there)
        seen = b""
        while chunk := self.read_pty(here):
            seen += chunk
        self.assertRegex(seen, rb"early\r\n33 99\r\n/dev/pts/0\r\n")

    @staticmethod
    def read_pty(fd):
        try:
            return os.read(fd, 65536)
        except OSError:  # nobody has the other end
            return b""

    def test_tags_and_folders(self):
        self.counter("--rm")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        digest = json.loads(self.ok("snapshot", "inspect", tag))[0]["memory_digest"]
        self.refused("--force", "snapshot", "create", "vm", tag)
        self.assertEqual(json.loads(self.ok("snapshot", "inspect", tag))[0]["memory_digest"], digest)
        self.ok("snapshot", "create", "-f", "vm", tag)
        self.assertNotEqual(json.loads(self.ok("snapshot", "inspect", tag))[0]["memory_digest"], digest)
        folder = self.folders.name + "/saved"
        self.ok("snapshot", "create", "vm", folder)
        self.assertEqual(self.ok("restore", *ENGINE, folder, "echo", "hello"), "hello\n")
        self.refused("exists", "snapshot", "create", "vm", folder)
        self.refused("cannot be a tag", "snapshot", "create", "vm", "-f", "..")
        os.mkdir(self.folders.name + "/other")
        self.refused("not a snapshot", "snapshot", "create", "-f", "vm", self.folders.name + "/other")

    def test_a_copy_with_a_closed_root_has_its_own_name(self):
        for options in (["--rm"], []):  # in memory, and on a disk
            self.run_d("sleep", "1000", options=["--name", "vm", "-m", "128m", "--read-only", *options])
            tag = self.tag(f"closed{len(options)}")
            self.ok("snapshot", "create", "vm", tag)
            self.ok("rm", "-f", "vm")
            said = self.ok("restore", *ENGINE, "-h", "copy", tag, "sh", "-c", "hostname; cat /etc/hostname; grep -c copy /etc/hosts;"
                           " [ $(cat /run/supermachine/generation) -gt 0 ] && echo new; touch /x /etc/hostname 2>&1 | grep -c Read-only; grep -c ' / ' /proc/mounts")
            self.assertEqual(said, "copy\ncopy\n1\nnew\n2\n1\n")

    def test_one_that_does_not_run(self):
        self.run_d("true", options=["--name", "vm"])
        self.ok("wait", "vm")
        tag = self.tag()
        self.refused("is not running", "snapshot", "create", "vm", tag)
        self.refused("no VM", "snapshot", "create", "nobody", tag)
        self.assertNotIn(tag, self.ok("snapshot", "ls", "-q"))

    def test_a_killed_command_and_a_killed_keeper_leave_nothing_half(self):
        self.counter("--rm")
        for n in range(10):
            tag = self.tag(f"k{n}")
            command = subprocess.Popen([BIN, "snapshot", "create", "vm", tag], env=self.env, stdout=subprocess.DEVNULL)
            time.sleep(0.02 * n)
            command.kill()
            command.wait()
        # Those that had been asked for are completed.
        last = self.tag("last")
        self.ok("snapshot", "create", "vm", last)
        self.assertEqual(self.leftovers(), [])
        there = [t for t in self.ok("snapshot", "ls", "-q").split() if t in self.tags]
        self.assertIn(last, there)
        self.ok("snapshot", "verify", *there)
        command = subprocess.Popen([BIN, "snapshot", "create", "-f", "vm", last], env=self.env, stderr=subprocess.PIPE)
        time.sleep(0.05)
        os.kill(self.inspect("vm")["State"]["KeeperPid"], signal.SIGKILL)
        command.communicate(timeout=LIMIT)
        self.ok("snapshot", "verify", last)
        self.ok("rm", "-f", "vm")
        self.counter("--rm")
        self.ok("snapshot", "create", "-f", "vm", last)
        self.assertEqual(self.leftovers(), [])


class DiskSnapshots(SaveCase):
    def setUp(self):
        super().setUp()
        self.counter()
        self.ok("exec", "vm", "sh", "-c", "echo mine > /file; seq 1 200000 > /numbers; rm /bin/vi")

    def test_each_copy_has_the_files_and_its_own_disk(self):
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        manifest = json.loads(self.ok("snapshot", "inspect", tag))[0]
        self.assertEqual(manifest["disk"], {"serial": "root", "bytes": 10 << 30})
        listed = {row["Name"]: row["Size"] for row in map(json.loads, self.ok("snapshot", "ls", "--format", "json").splitlines())}
        self.assertGreater(listed[tag], os.stat(f"{self.cache()}/tags/{tag}/disk.img").st_blocks * 512)
        self.ok("exec", "vm", "sh", "-c", "echo later > /file; rm /numbers; sync")
        look = "cat /file; seq 1 200000 | cmp - /numbers && echo same; test -e /bin/vi || echo none; "
        # At once: what one writes, the other does not see.
        copies = [subprocess.Popen([BIN, "restore", *ENGINE, "-i", tag, "sh", "-c", look + f"echo copy{n} > /file; dd if=/dev/zero of=/big bs=1M count=20 "
                                    "2>/dev/null; sync; a=$(cat /tmp/count); echo up; read x; cat /file; "
                                    "until [ $(cat /tmp/count) -gt $a ]; do sleep 0.1; done; echo counts"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env, text=True) for n in range(3)]
        for copy in copies:
            self.addCleanup(copy.kill)
            self.assertEqual([copy.stdout.readline() for _ in range(4)], ["mine\n", "same\n", "none\n", "up\n"])
        for n, copy in enumerate(copies):
            self.assertEqual(copy.communicate("go\n", timeout=LIMIT)[0], f"copy{n}\ncounts\n")
            self.assertEqual(copy.returncode, 0)
        self.assertEqual(self.restored(tag, look), "mine\nsame\nnone\n")
        self.assertEqual(self.ok("exec", "vm", "cat", "/file"), "later\n")
        self.assertIn("whole", self.ok("snapshot", "verify", tag))
        self.ok("snapshot", "rm", tag)
        self.assertFalse(os.path.exists(f"{self.cache()}/tags/{tag}"))

    def cache(self):
        return os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")) + "/supermachine"

    def test_writers_that_never_stop(self):
        self.ok("exec", "-d", "vm", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /n; mv /n /a; sync; echo $i > /n; mv /n /b; sync; done")
        self.until(lambda: self.call("exec", "vm", "test", "-s", "/b").returncode == 0, "written")
        tags = [self.tag(f"w{n}") for n in range(4)]
        for tag in tags:
            self.ok("snapshot", "create", "vm", tag)
        for tag in tags:
            # The writer ends in the copy; its file system is whole and takes more.
            a, b = self.restored(tag, "sync; echo $(cat /a) $(cat /b); seq 1 100000 > /more; sync; "
                                 "echo 3 > /proc/sys/vm/drop_caches; seq 1 100000 | cmp - /more; ! dmesg | grep -qi 'ext4.*error'").split()
            self.assertLessEqual(int(a) - int(b), 1)
        self.assertEqual(self.ok("exec", "vm", "sh", "-c", "dmesg | grep -ci 'ext4.*error' || true"), "0\n")

    def test_paused_started_again_and_a_copy_of_nothing_new(self):
        self.ok("stop", "-t", "0", "vm")
        self.ok("start", "vm")
        self.ok("pause", "vm")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        self.ok("unpause", "vm")
        self.assertEqual(self.restored(tag, "cat /file; hostname > /name; cat /name | wc -l"), "mine\n1\n")

    def test_a_damaged_disk_is_found(self):
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        path = f"{self.cache()}/tags/{tag}/disk.img"
        with open(path, "r+b") as f:
            f.seek(1024)
            f.write(b"\xff")
        self.refused("disk.img", "snapshot", "verify", tag)
        self.refused("disk.img", "restore", *ENGINE, tag, "true")
        os.unlink(path)
        self.refused("disk.img", "restore", *ENGINE, tag, "true")
        self.ok("snapshot", "rm", tag)

    @unittest.skipIf(os.geteuid() != 0, "mounts a file system")
    def test_a_full_disk_leaves_nothing_and_the_vm_goes_on(self):
        folder = self.folders.name + "/small"
        os.mkdir(folder)
        for size in ("8m", "33m"):  # too small for the memory, and for the disk beside it
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
            try:
                self.ok("exec", "vm", "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=16 2>/dev/null; sync")
                self.refused("No space left", "snapshot", "create", "vm", folder + "/saved")
                self.assertEqual(os.listdir(folder), [])
            finally:
                self.until_unmounted(folder)
            before = self.count()
            self.until(lambda: self.count() > before, "counts on")
            self.assertEqual(self.ok("exec", "vm", "sh", "-c", "echo on > /on; cat /on"), "on\n")
        tag = self.tag()
        self.ok("snapshot", "create", "vm", tag)
        self.assertEqual(self.restored(tag, "cat /file /on"), "mine\non\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
