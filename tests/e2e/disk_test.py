"""End-to-end tests of the disk below a VM's root: what is written survives, until `rm`. Started by tests/e2e/run."""

import glob
import json
import os
import signal
import subprocess
import unittest

from lifecycle_test import BUSYBOX, ENGINE, IMAGES, Case

COUNT = "echo x >> /count; wc -l < /count; "


class DiskCase(Case):
    def disk(self, vm):
        return f"{self.folders.name}/state/supermachine/vms/{self.inspect(vm)['Id']}/root.img"

    def bytes_on_disk(self, vm):
        return os.stat(self.disk(vm)).st_blocks * 512


class RootDisk(DiskCase):
    def test_files_survive_every_kind_of_start(self):
        vm = self.run_d("sh", "-c", COUNT + "exec sleep 1000", options=["--name", "vm"])
        self.until_logged("vm", "1\n")
        self.ok("exec", "vm", "sh", "-c", "mkdir -p /data/deep; echo kept > /data/deep/file; rm /bin/vi; ln -s file /data/deep/link; "
                "chown 7:8 /data/deep/file; chmod 4711 /data/deep/file; echo 10.1.2.3 somewhere >> /etc/hosts")
        self.ok("stop", "-t", "0", "vm")
        self.ok("start", "vm")
        self.until_logged("vm", "2\n")
        self.ok("restart", "-t", "0", "vm")
        self.until_logged("vm", "3\n")
        self.ok("kill", "vm")
        self.ok("start", "vm")
        self.until_logged("vm", "4\n")
        self.assertEqual(self.ok("exec", "vm", "sh", "-c", "cat /data/deep/link; stat -c '%a %u:%g' /data/deep/file; test -e /bin/vi || echo none; "
                                 "grep -c 127.0.0.1 /etc/hosts; grep -c somewhere /etc/hosts; hostname; stat -c %a /"),
                         f"kept\n4711 7:8\nnone\n1\n1\n{vm[:12]}\n755\n")
        self.assertGreater(self.inspect("vm")["SizeRw"], 0)
        path = self.disk("vm")
        self.ok("rm", "-f", "vm")
        self.assertFalse(os.path.exists(path))
        self.assertEqual(os.listdir(self.folders.name + "/state/supermachine/vms"), [])

    def test_a_created_and_an_attached_vm_keep_theirs(self):
        self.ok("create", *ENGINE, "--name", "made", BUSYBOX, "sh", "-c", COUNT)
        self.assertEqual([self.ok("start", "-a", "made") for _ in range(3)], ["1\n", "2\n", "3\n"])
        self.assertEqual(self.ok("run", *ENGINE, "--name", "ran", BUSYBOX, "sh", "-c", COUNT), "1\n")
        self.assertEqual(self.ok("start", "-a", "ran"), "2\n")
        self.ok("start", "-a", "made")
        self.assertEqual(self.ok("vm", "prune", "-f").count("\n") >= 2, True)
        self.assertEqual(os.listdir(self.folders.name + "/state/supermachine/vms"), [])

    def test_without_a_snapshot_and_with_a_name_of_its_own(self):
        self.run_d("sh", "-c", COUNT + "hostname; exec sleep 1000", options=["--name", "vm", "--no-snapshot", "-h", "box", "--cpus", "2"])
        self.until_logged("vm", "1\nbox\n")
        self.ok("restart", "-t", "0", "vm")
        self.until_logged("vm", "1\nbox\n2\nbox\n")

    def test_the_policy_starts_it_with_its_files(self):
        self.run_d("sh", "-c", COUNT + "test $(wc -l < /count) = 3", options=["--name", "vm", "--restart", "on-failure"])
        self.assertEqual(self.ok("wait", "vm"), "0\n")
        self.assertEqual(self.ok("logs", "vm"), "1\n2\n3\n")

    def test_a_killed_worker_loses_nothing_that_was_synced(self):
        self.run_d("sh", "-c", COUNT + "exec sleep 1000", options=["--name", "vm"])
        for n in (1, 2, 3):
            self.until_logged("vm", f"{n}\n")
            self.ok("exec", "vm", "sh", "-c", f"seq 1 20000 > /data{n}; sync; seq 1 20000 > /later{n}")
            os.kill(self.inspect("vm")["State"]["Pid"], signal.SIGKILL)
            self.until(lambda: self.inspect("vm")["State"]["Status"] == "exited", "ended")
            self.ok("start", "vm")
            self.assertEqual(self.ok("exec", "vm", "sh", "-c", f"seq 1 20000 | cmp - /data{n} && echo same"), "same\n")

    def test_more_than_memory_and_given_back(self):
        self.run_d("sleep", "1000", options=["--name", "vm", "-m", "128m"])
        small = self.bytes_on_disk("vm")
        self.assertLess(small, 4 << 20)
        self.ok("exec", "vm", "sh", "-c", "i=0; while test $i -lt 300; do echo $i; i=$((i+1)); done | sed 's/$/ line/' > /lines; "
                "dd if=/dev/zero of=/big bs=1M count=300 2>/dev/null; sync; stat -c %s /big")
        self.assertGreater(self.bytes_on_disk("vm"), 300 << 20)
        self.ok("exec", "vm", "sh", "-c", "rm /big; sync")
        # Holes are made when the journal has been committed.
        self.until(lambda: self.ok("exec", "vm", "sync") == "" and self.bytes_on_disk("vm") < 40 << 20, "given back")
        self.assertEqual(self.ok("exec", "vm", "tail", "-n1", "/lines"), "299 line\n")

    def test_flags_that_act_on_the_root(self):
        self.run_d("sh", "-c", "touch /x 2>/dev/null || echo closed; touch /t/y && echo open; exec sleep 1000",
                   options=["--name", "closed", "--read-only", "--tmpfs", "/t", "--add-host", "db:10.0.0.7"])
        self.until_logged("closed", "closed\nopen\n")
        self.ok("restart", "-t", "0", "closed")
        self.until_logged("closed", "closed\nopen\nclosed\nopen\n")
        self.assertEqual(self.ok("exec", "closed", "sh", "-c", "ls /t; grep -c 10.0.0.7 /etc/hosts"), "y\n1\n")

    def test_cp_and_an_image_of_many_layers(self):
        self.ok("run", "-d", *ENGINE, "--name", "vm", f"oci:{IMAGES}:layered", "sleep", "1000")
        with open(self.folders.name + "/file", "w") as f:
            f.write("from the host\n")
        before = self.ok("exec", "vm", "sh", "-c", "ls -lR /data")
        self.ok("cp", self.folders.name + "/file", "vm:/data/file")
        self.ok("stop", "-t", "0", "vm")
        self.ok("start", "vm")
        self.assertEqual(self.ok("exec", "vm", "cat", "/data/file"), "from the host\n")
        self.ok("exec", "vm", "rm", "/data/file")
        self.assertEqual(len(self.ok("exec", "vm", "sh", "-c", "ls -lR /data").splitlines()), len(before.splitlines()))

    def test_its_size_is_chosen_and_shown(self):
        blocks = "df -m / | tail -n 1 | awk '{print $2}'"
        self.ok("run", *ENGINE, "--name", "small", "--storage-opt", "size=100m", BUSYBOX, "sh", "-c", blocks)
        for said in (self.ok("logs", "small"), self.ok("start", "-a", "small")):
            self.assertTrue(40 < int(said) <= 100, said)
        row = json.loads(self.ok("ps", "-as", "--format", "json"))
        self.assertRegex(row["Size"], r"^[0-9.]+[kM]?B \(virtual [0-9.]+MB\)$")
        self.assertIn("SIZE", self.ok("ps", "-s").splitlines()[0])
        self.assertNotIn("Size", json.loads(self.ok("ps", "-a", "--format", "json")))
        for text, options in (("from 64m to 4096g", ["size=63m"]), ("from 64m to 4096g", ["size=5000g"]), ("no size", ["size=much"]),
                              ("only the size", ["dm.fs=xfs"]), ("contradict", ["size=1g", "--rm"])):
            self.refused(text, "create", *ENGINE, "--storage-opt", *options, BUSYBOX, "true")
        self.assertEqual(self.ok("ps", "-aq").count("\n"), 1)

    def test_one_that_is_removed_at_its_end_has_none(self):
        vm = self.run_d("sleep", "1000", options=["--rm", "--name", "vm"])
        self.assertFalse(os.path.exists(self.disk("vm")))
        self.assertIsNone(self.inspect("vm")["SizeRw"])
        self.assertIn("overlay", self.ok("exec", vm, "df", "/"))


class DiskTrouble(DiskCase):
    def ended(self):
        self.run_d("sh", "-c", COUNT, options=["--name", "vm"])
        self.ok("wait", "vm")
        return self.disk("vm")

    def test_a_damaged_disk_is_said_and_the_snapshot_stays(self):
        path = self.ended()
        with open(path, "r+b") as f:
            f.seek(1024)
            good = f.read(1024)
            f.seek(1024)
            f.write(os.urandom(1024))
        for words in (["start", "vm"], ["start", "-a", "vm"]):
            r = self.call(*words)
            self.assertEqual(r.returncode, 125, r)
            self.assertIn(b"root disk: mount the file system", r.stderr)
            self.assertIn(b"damaged", r.stderr)
        self.assertIn("root disk", self.inspect("vm")["State"]["Error"])
        with open(path, "r+b") as f:
            f.seek(1024)
            f.write(good)
        self.assertEqual(self.ok("start", "-a", "vm"), "2\n")

    def test_a_disk_that_is_gone_or_none(self):
        path = self.ended()
        os.rename(path, path + ".kept")
        self.refused("disk is gone", "start", "vm")
        with open(path, "w") as f:
            f.write("nothing of the kind")
        self.refused("is not the disk of a VM", "start", "vm")
        os.rename(path + ".kept", path)
        self.assertEqual(self.ok("start", "-a", "vm"), "2\n")

    def test_without_mke2fs_there_is_one_clear_error(self):
        if not os.path.exists("/usr/sbin/mke2fs"):
            self.skipTest("there is none")
        script = "mount --bind /dev/null /usr/sbin/mke2fs; exec \"$@\""
        cache = self.folders.name + "/cache"
        words = ["unshare", "-m", "sh", "-c", script, "sh", os.environ["SUPERMACHINE_BIN"], "run", "-d", *ENGINE, BUSYBOX, "true"]
        r = subprocess.run(words, capture_output=True, env=dict(self.env, XDG_CACHE_HOME=cache), timeout=100)
        self.assertEqual(r.returncode, 125, r)
        self.assertIn(b"there is no mke2fs", r.stderr)
        self.assertIn(b"e2fsprogs", r.stderr)

    def test_drafts_of_a_killed_start_go_with_the_vm(self):
        path = self.ended()
        with open(path + ".new-123", "w"):
            pass
        self.ok("rm", "vm")
        self.assertEqual(glob.glob(os.path.dirname(path) + "*"), [])


class FullHost(DiskCase):
    def setUp(self):
        super().setUp()
        self.state = self.folders.name + "/state"
        os.mkdir(self.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", self.state], check=True)

    def tearDown(self):
        self.call("rm", "-f", "vm")
        self.until_unmounted(self.state)
        super().tearDown()

    def test_the_guest_sees_errors_and_the_vm_lives_on(self):
        self.run_d("sh", "-c", "echo up; trap 'exit 7' TERM; while :; do sleep 0.1; done", options=["--name", "vm"])
        self.until_logged("vm", "up\n")
        # What sync says of it depends on the moment.
        self.call("exec", "vm", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=100; sync")
        r = self.call("exec", "vm", "sh", "-c", "dd if=/dev/zero of=/more bs=1M count=100 conv=fsync")
        self.assertNotEqual(r.returncode, 0, r)
        self.assertEqual(self.ok("exec", "vm", "echo", "alive"), "alive\n")
        self.ok("stop", "vm")
        state = self.inspect("vm")["State"]
        self.assertEqual((state["Status"], state["ExitCode"], state["Lost"]), ("exited", 7, False))


if __name__ == "__main__":
    unittest.main(verbosity=2)
